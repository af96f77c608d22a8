from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.daemon.assembly import Assembly
from edged.health.good import GOOD
from edged.health.status import states
from edged.records import NONE, Block, Receipt
from edged.sources.mqtt import MqttSource
from tests.support import models
from tests.support.ptys import until

CONFIG = """
[source.in]
type = "mqtt"
topic = "in/x"
rate = 1
decode = { format = "csv", fields = ["v"] }
[source.door]
type = "mqtt"
topic = "in/y"
decode = { format = "csv", fields = ["v"] }
[pipeline.p]
source = "in"
window = { size = 2, hop = 1, gap = "1h" }
[pipeline.q]
source = "door"
"""
PICTURES = """
[source.in]
type = "mqtt"
topic = "in/x"
max_bytes = "100KiB"
decode = {{ format = "image", max_pixels = 10000 }}
[model.m]
path = "{path}"
[pipeline.p]
source = "in"
preprocess = {{ step = "resize", size = [64, 64] }}
model = "m"
output = {{ type = "detect", above = 0.5 }}
"""
MODEL = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[model.m]
path = "{path}"
[pipeline.p]
source = "in"
model = "m"
"""

ROOT = """
[source.in]
type = "mqtt"
topic = "in/{{k}}"
{rate}
decode = {{{{ format = "csv", fields = ["v"] }}}}
[model.m]
path = "{{path}}"
run = "inline"
[pipeline.p]
source = "in"
model = "m"
{more}
"""
STEPS = """
def before(row):
    if row.max() > 99:
        raise ValueError("too much")
    return row

def after(outputs):
    if outputs["y"].max() > 9:
        raise ValueError("too much")
    return outputs
"""
JOIN = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = { format = "csv", fields = ["v"] }
[source.other]
type = "mqtt"
topic = "other"
decode = { format = "csv", fields = ["w"] }
[pipeline.p]
source = ["in", "other"]
align = { tolerance = "5s" }
"""
Hear = Callable[..., Any]


@pytest.fixture
def hear(make: Callable[[str], Assembly], clock: Any) -> Callable[[str], tuple[Assembly, Hear, Hear]]:
    """Of a configuration: its parts, what sends a message to them, and what says the state of a pipeline."""

    def build(text: str) -> tuple[Assembly, Hear, Hear]:
        a = make(text)
        a.links["main"].show("connected", "")

        async def say(payload: str, topic: str = "in/a", after_s: float = 0.0) -> tuple[str, str]:
            clock.pass_s(after_s)
            a.routers["main"].on_publishes([(topic.encode(), payload.encode(), 1, False, (), NONE, b"")])
            await until(lambda: not any(p.has_waiting or p.counts.running for p in a.pipelines.values()))
            return seen()

        def seen(name: str = "p", kind: str = "pipeline") -> tuple[str, str]:
            return next((s.state, s.reason) for s in states(a, clock.now()) if (s.kind, s.name) == (kind, name))

        return a, say, seen

    return build


@pytest.mark.parametrize("rate", ["", "rate = 1"])
@pytest.mark.parametrize(
    ("bad", "more", "reason"),
    [
        ("-1", 'output = "regress"', "not_finite: an output of the model is NaN or infinite"),
        ("-1", "", "not_finite: all outputs are NaN or infinite; raw results show them as null"),
        ("-1", 'output = "regress"\nwindow = { size = 1, gap = "1h" }', "not_finite: an output of the model is NaN or infinite"),
        ("100", 'preprocess = "steps.py:before"', "preprocess: steps.py:before: ValueError: too much (line 4 of steps.py)"),
        ("100", 'postprocess = "steps.py:after"', "postprocess: steps.py:after: ValueError: too much (line 9 of steps.py)"),
    ],
)
async def test_where_every_row_is_dropped_the_pipeline_fails(
    hear: Any, clock: Any, tmp_path: Path, rate: str, bad: str, more: str, reason: str
) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    text = ROOT.format(rate=rate, more=more.replace("{", "{{").replace("}", "}}")).format(
        k="{k}", path=models.root(tmp_path / "m.onnx")
    )
    a, say, seen = hear(text)
    assert (await say(bad))[0] == ("running" if "null" in reason else "filling")
    clock.pass_s(2)
    assert seen() == ("failing", f"the last one was lost, as {reason}")
    assert (await say("4", after_s=1))[0] == "running"
    since = a.pipelines["p"].counts.last_result
    assert (await say(bad, after_s=1))[0] == "running"  # one may be chance
    await say(bad, after_s=1)
    assert (await say(bad, after_s=1)) == ("failing", f"the last 3 were lost, the newest as {reason}")
    if "null" not in reason:
        assert a.pipelines["p"].counts.last_result == since
    assert (await say("4", after_s=1)) == ("running", "")
    a.close()


async def test_a_join_that_fits_nothing_fails(hear: Any) -> None:
    _, say, _ = hear(JOIN)
    await say("1", "other")
    assert (await say("1", "in/x", after_s=1)) == ("running", "")
    for _ in range(3):
        found = await say("1", "in/x", after_s=6)
    reason = "a joined value was older than its tolerance (align.tolerance, or stale_after of its source)"
    assert found == ("failing", f"the last 3 were lost, the newest as stale_join: {reason}")
    await say("1", "other")
    assert (await say("1", "in/x", after_s=1)) == ("running", "")


async def test_what_reads_a_pipeline_that_fails_waits_for_it(hear: Any, clock: Any, tmp_path: Path) -> None:
    chained = (
        '[pipeline.next]\nsource = "p"\n[pipeline.gated]\nsource = "in"\ngate = { source = "p", of = "values.y0", above = 1 }\n'
    )
    text = ROOT.format(rate="", more='output = "regress"').format(k="{k}", path=models.root(tmp_path / "m.onnx")) + chained
    a, say, seen = hear(text)
    await say("4")
    assert {seen(name) for name in ("p", "next", "gated")} == {("running", "")}
    for _ in range(3):
        await say("-1", after_s=5)
    assert seen()[0] == "failing"
    assert seen("next") == ("waiting", f"pipeline p is failing: {seen()[1]}")
    a.close()


async def test_where_every_request_fails_the_pipeline_does(hear: Any, clock: Any, tmp_path: Path) -> None:
    text = ROOT.format(rate='reply = "answers"', more='output = "regress"\npublish = []')
    a, _, seen = hear(text.format(k="{k}", path=models.root(tmp_path / "m.onnx")))
    properties = b"\x08" + len(b"answers").to_bytes(2, "big") + b"answers"

    async def ask(payload: bytes) -> tuple[str, str]:
        clock.pass_s(1)
        a.routers["main"].on_publishes([(b"in/a", payload, 0, False, (), Receipt(0), properties)])
        await until(lambda: not any(p.has_waiting or p.counts.running for p in a.pipelines.values()))
        state, reason = seen()
        return state, reason

    assert await ask(b"4") == ("running", "")
    for payload in (b"-1", b"-4", b"-9"):
        found = await ask(payload)
    why = "the last 3 were lost, the newest as not_finite: an output of the model is NaN or infinite"
    assert found == ("failing", why)
    assert a.replies[0].counts.failed == {"not_finite": 3}
    assert await ask(b"9") == ("running", "")
    a.close()


async def test_a_closed_gate_is_no_failure(hear: Any, clock: Any) -> None:
    _, say, seen = hear(CONFIG + 'gate = { source = "in", of = "v", above = 5 }\n')
    await say("9", "in/x")
    await say("1", "in/y")
    await say("1", "in/x")
    for _ in range(20):
        await say("1", "in/x")
        await say("1", "in/y", after_s=1)
    assert seen("q") == ("closed", "gate in: its conditions do not hold")


async def test_bad_values_only_are_said_without_a_limit_too(hear: Any, clock: Any) -> None:
    _, say, seen = hear(CONFIG)
    await say("1", "in/y")
    for _ in range(3):
        assert seen("door", "source") == ("running", "")
        await say("nan", "in/y", after_s=1)
    state, reason = seen("door", "source")
    assert state == "bad values"
    assert reason.startswith("the last 3 were lost, the newest as not_finite")
    await say("1", "in/y", after_s=1)
    assert seen("door", "source") == ("running", "")


async def test_bad_values_are_no_data_and_a_source_that_is_held_back_is_not_silent(
    make: Callable[[str], Assembly], clock: Any
) -> None:
    a = make(CONFIG)
    a.links["main"].show("connected", "")

    def hear(topic: bytes, text: bytes) -> None:
        a.routers["main"].on_publishes([(topic, text, 1, False, (), NONE, b"")])

    def seen(name: str) -> tuple[str, str]:
        return next((s.state, s.reason) for s in states(a, clock.now()) if (s.kind, s.name) == ("source", name))

    hear(b"in/y", b"nan")
    assert seen("door")[0] == "bad values"
    hear(b"in/x", b"1")
    clock.pass_s(4)
    hear(b"in/x", b"nan")
    assert seen("in") == ("bad values", "no good sample for 4 s: see its drop counts")
    clock.pass_s(4)
    assert seen("in") == ("silent", "nothing has come in for 4 s")
    a.pipelines["p"].shed(True)
    hear(b"in/x", b"2")
    clock.pass_s(4)
    assert (a.pipelines["p"].parked, seen("in")) == (1, ("running", ""))


async def test_a_silent_source_of_pictures_says_what_a_broker_keeps_to_itself(
    make: Callable[[str], Assembly], clock: Any, tmp_path: Path
) -> None:
    models.cells(tmp_path / "cells.onnx", metadata={"author": "Ultralytics"})
    a = make(PICTURES.format(path=tmp_path / "cells.onnx"))
    a.links["main"].show("connected", "")
    reason = next(s.reason for s in states(a, clock.now()) if (s.kind, s.name) == ("source", "in"))
    assert reason.endswith("A broker silently drops messages larger than max_bytes (100 KiB)")


async def test_pictures_wait_for_as_long_as_the_most_patient_of_their_pipelines(
    make: Callable[[str], Assembly], clock: Any, tmp_path: Path
) -> None:
    models.cells(tmp_path / "cells.onnx", metadata={"author": "Ultralytics"})
    one = PICTURES.format(path=tmp_path / "cells.onnx")
    two = one + one[one.index("[pipeline.p]") :].replace("pipeline.p", "pipeline.q")
    for text, deadline_s in ((one, 0), (one + 'deadline = "2s"', 2), (two + 'deadline = "2s"', 0)):
        source = make(text).sources["in"]
        assert isinstance(source, MqttSource)
        assert source.queue is not None
        assert source.queue.deadline == deadline_s * 10**9


async def test_every_part_has_a_state_and_a_reason(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make(CONFIG)
    link, source = a.links["main"], a.sources["in"]

    def seen() -> dict[str, tuple[str, str]]:
        return {f"{s.kind} {s.name}": (s.state, s.reason) for s in states(a, clock.now())}

    def sample(stream: str, pipeline: str) -> None:
        a.sources[stream].counts.last_arrival = clock.now()
        a.pipelines[pipeline].push(0, Block(np.ones((1, 1), np.float32), np.array([clock.now()]), 0, clock.now()))

    found = seen()
    assert found["broker main"] == ("connecting", "")
    assert found["source in"] == ("waiting", "broker main is connecting")
    assert found["pipeline p"][0] == "waiting"

    link.show("connected", "")
    unheard = "no message yet on in/x: check that somebody publishes there, and that the broker lets edged read it."
    assert seen()["source in"] == ("silent", unheard)
    assert seen()["pipeline p"] == ("waiting", f"source in is silent: {unheard}")

    sample("in", "p")
    assert seen()["source in"] == ("running", "")
    assert seen()["pipeline p"] == ("filling", "no result yet: 1 of 2 samples")

    sample("in", "p")
    sample("door", "q")
    assert {state for state, _ in seen().values()} == {"running", "connected"}

    clock.pass_s(4)
    assert seen()["source in"] == ("silent", "nothing has come in for 4 s")
    assert seen()["pipeline p"][0] == "waiting"
    assert seen()["source door"] == ("running", "")  # speaks when something happens: silence says nothing
    assert seen()["pipeline q"] == ("running", "")

    source.counts.last_arrival = clock.now()
    assert seen()["pipeline p"] == ("stalled", "no result for 4 s, one is due every 1 s")
    sample("in", "p")
    assert seen()["pipeline p"] == ("running", "")

    counts = a.publishes["p"][0]
    counts.refusal = "out/x (not authorised)"
    assert seen()["pipeline p"][0] == "refused"
    assert "broker main refuses results on out/x (not authorised)" in seen()["pipeline p"][1]
    counts.refusal = ""
    assert seen()["pipeline p"] == ("running", "")

    link.show("lost", "the broker closed the connection")
    assert seen()["broker main"] == ("lost", "the broker closed the connection")
    assert seen()["pipeline p"][0] in ("waiting", "blocked")


async def test_a_pipeline_whose_gate_is_closed_is_well(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make(CONFIG + 'gate = { source = "in", of = "v", above = 5 }\n')
    a.links["main"].show("connected", "")

    def hear(topic: bytes, text: bytes) -> tuple[str, str]:
        a.routers["main"].on_publishes([(topic, text, 1, False, (), NONE, b"")])
        return next((s.state, s.reason) for s in states(a, clock.now()) if (s.kind, s.name) == ("pipeline", "q"))

    assert hear(b"in/y", b"1") == ("closed", "gate in: it has no result for this yet")
    hear(b"in/x", b"9")
    assert hear(b"in/y", b"1") == ("running", "")
    clock.pass_s(1)
    hear(b"in/x", b"1")
    assert hear(b"in/y", b"1") == ("running", "")  # one that opens and closes all the time is no news each time
    clock.pass_s(10)
    assert hear(b"in/y", b"1") == ("closed", "gate in: it is silent")
    hear(b"in/x", b"1")
    assert hear(b"in/y", b"1") == ("closed", "gate in: its conditions do not hold")
    assert "closed" in GOOD


async def test_a_run_that_takes_much_longer_than_any_before_hangs(
    make: Callable[[str], Assembly], clock: Any, tmp_path: Any
) -> None:
    a = make(MODEL.format(path=models.linear(tmp_path / "m.onnx")))
    a.links["main"].show("connected", "")
    a.sources["in"].counts.last_arrival = clock.now()
    model = a.models["m"]

    def seen() -> tuple[str, str]:
        found = {s.kind: s.state for s in states(a, clock.now())}
        return found["model"], found["pipeline"]

    assert seen() == ("idle", "filling")
    model.running, model.running_since = [], clock.now()
    clock.pass_s(1.9)
    assert seen() == ("idle", "filling")
    clock.pass_s(0.2)
    assert seen() == ("hanging", "stalled")
    model.counts.time.add(10**9)  # a model that is known to be slow
    assert seen() == ("idle", "filling")
    clock.pass_s(1)
    reason = "a run began 3 s ago; the longest run before it took 1 s"
    found = [(s.kind, s.state, s.reason) for s in states(a, clock.now()) if s.kind in ("model", "pipeline")]
    assert found == [("model", "hanging", reason), ("pipeline", "stalled", f"model m hangs: {reason}")]
    a.close()
