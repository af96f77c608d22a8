"""What a gate is planned to be: whose samples it judges, and since which stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.pipeline.gate import GatePlan
from edged.results.when import Condition
from tests.support.planning import ACCEL, MAIN, PUMPS, planned

OTHERS = """
[source.temp]
type = "mqtt"
topic = "temp/x"
rate = 0.1
decode = { format = "json", fields = ["t"] }
[source.valves]
type = "mqtt"
topic = "plant/{line}/{pump}/valve"
max_keys = 20
decode = { format = "json", fields = ["open"] }
[pipeline.first]
source = "accel"
publish = []
[pipeline.second]
source = "first"
publish = []
[pipeline.aside]
source = "first"
publish = []
[pipeline.with_temp]
source = ["accel", "temp"]
align = { tolerance = "30s" }
publish = []
[pipeline.on_a_grid]
source = "accel"
align = { rate = 5 }
publish = []
[pipeline.of_pumps]
source = "pumps"
window = { size = 10 }
publish = []
"""


def gate(folder: Path, source: str, of: str) -> GatePlan:
    text = f"{MAIN}{ACCEL}{PUMPS}{OTHERS}[pipeline.p]\nsource = {source}\ngate = {{ {of} }}\npublish = []\n"
    if "," in source:
        text = text.replace("[pipeline.p]\n", '[pipeline.p]\nalign = { tolerance = "30s" }\n')
    found = planned(folder, text).whole.pipelines["p"].gate
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("source", "by", "fork", "leads", "way"),
    [
        ('"accel"', "accel", "accel", (), ()),
        ('"accel"', "first", "accel", ("first",), ()),
        ('"accel"', "second", "accel", ("first", "second"), ()),
        ('"second"', "first", "first", (), ("second",)),
        ('"second"', "aside", "first", ("aside",), ("second",)),
        ('"second"', "accel", "accel", (), ("first", "second")),
        ('"first"', "with_temp", "accel", ("with_temp",), ("first",)),
        ('["accel", "temp"]', "first", "accel", ("first",), ()),
        ('["temp", "accel"]', "first", None, (), ()),
        ('"accel"', "on_a_grid", None, (), ()),
        ('"on_a_grid"', "first", None, (), ()),
        ('"temp"', "first", None, (), ()),
    ],
)
def test_the_last_stream_in_common(
    tmp_path: Path, source: str, by: str, fork: str | None, leads: tuple[str, ...], way: tuple[str, ...]
) -> None:
    of = "ax" if by == "accel" else "seq"
    found = gate(tmp_path, source, f'source = "{by}", of = "{of}", above = 1')
    assert (found.fork, found.leads, found.way) == (fork, leads, way)


def test_a_number_of_a_sensor(tmp_path: Path) -> None:
    found = gate(tmp_path, '"pumps"', 'source = "pumps", of = "p_out", above = 1, below = 3, hold = "5s"')
    assert found.condition == Condition(of=("p_out",), above=1, below=3)
    assert (found.column, found.hold_ns, found.is_keyed, found.stale_ns) == (2, 5 * 10**9, True, 3 * 10**9)
    found = gate(tmp_path, '"accel"', 'source = "temp", of = "t"')
    assert (found.condition, found.column, found.is_keyed) == (Condition(is_true=("t",)), 0, False)
    assert found.stale_ns == 30 * 10**9


def test_a_stream_without_keys_is_for_all_keys(tmp_path: Path) -> None:
    assert gate(tmp_path, '"of_pumps"', 'source = "temp", of = "t"').is_keyed is False


def test_equal_keys_of_two_sources_are_equal_numbers(tmp_path: Path) -> None:
    text = MAIN + PUMPS + ACCEL + OTHERS
    apart = planned(tmp_path, text).whole.sources
    assert apart["pumps"].key_group != apart["valves"].key_group
    more = '[pipeline.p]\nsource = "pumps"\ngate = { source = "valves", of = "open" }\npublish = []\n'
    plan = planned(tmp_path, text + more).whole
    assert plan.sources["pumps"].key_group == plan.sources["valves"].key_group
    assert plan.sources["valves"].max_keys == 250
    more = more.replace("valves", "temp").replace('"open"', '"t"')
    assert planned(tmp_path, text + more).whole.sources == apart


def test_what_waits_without_a_model_is_in_the_plan(tmp_path: Path) -> None:
    text = MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\nwindow = { size = 100 }\nslots = 7\noverflow = "drop_newest"\n'
    plan = planned(tmp_path, text + 'gate = { source = "accel", of = "ax", above = 1 }\n').whole
    p = plan.pipelines["p"]
    assert (p.has_slots, p.slots, p.overflow, [i.shape for i in p.inputs]) == (True, 7, "drop_newest", [(100, 3)])
    [line] = [line for line in plan.memory if line.what == "pipeline.p: slots"]
    assert line.bytes > 7 * 100 * 3 * 8
    assert any(line.what == "pipeline.p: gate" for line in plan.memory)
    assert "has no effect without a model" in planned(tmp_path, text).lines[0]
