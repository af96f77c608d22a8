"""Where answers may go, and who gives them. What is refused stands in `cases/errors/plan-reply`."""

from __future__ import annotations

from pathlib import Path

from edged.sources.replies import MAX_REQUESTS
from tests.support.planning import MAIN, planned

ASKED = (
    MAIN
    + """
[source.asked]
type = "mqtt"
topic = "ask/{who}"
reply = ["clients/+/answers", "{device}/answers", "{base_topic}/answers/#"]
decode = { format = "json", fields = ["x"] }
"""
)
READ = '[pipeline.p]\nsource = "asked"\npublish = []\n'


def test_the_device_is_filled_in(tmp_path: Path) -> None:
    source = planned(tmp_path, ASKED + READ).whole.sources["asked"]
    assert [f.text for f in source.replies] == ["clients/+/answers", "pi4/answers", "edged/pi4/answers/#"]


def test_the_results_of_who_answers_may_be_read_on(tmp_path: Path) -> None:
    chain = READ + '[pipeline.q]\nsource = "p"\n[pipeline.r]\nsource = "p"\nwindow = { size = 4 }\n'
    assert planned(tmp_path, ASKED + chain).plan is not None


def test_a_pipeline_of_its_own_for_each(tmp_path: Path) -> None:
    both = planned(tmp_path, ASKED + READ + READ.replace("pipeline.p", "pipeline.q"))
    assert both.plan is None
    assert "found 2: p, q; give requests a source of their own" in both.lines[0]


def test_requests_have_their_line_in_the_memory_table(tmp_path: Path) -> None:
    lines = {line.what: line for line in planned(tmp_path, ASKED + READ).whole.memory}
    assert lines["source.asked: requests"].bytes > MAX_REQUESTS * 1024
    assert "source.asked: requests" not in {x.what for x in planned(tmp_path, ASKED.replace("reply =", "#") + READ).whole.memory}
