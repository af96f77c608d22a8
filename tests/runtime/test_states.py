from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edged.assemble import Assembly
from edged.records import NONE, Block
from edged.runtime.states import GOOD, states
from edged.sources.mqtt import MqttSource
from tests import models

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


async def test_bad_values_are_no_data_and_a_source_that_is_held_back_is_not_silent(
    make: Callable[[str], Assembly], clock: Any
) -> None:
    a = make(CONFIG)
    a.links["main"].state = "connected"

    def hear(topic: bytes, text: bytes) -> None:
        a.routers["main"].on_publishes([(topic, text, 1, False, (), NONE, b"")])

    def seen(name: str) -> tuple[str, str]:
        return next((s.state, s.reason) for s in states(a, clock.now()) if (s.kind, s.name) == ("source", name))

    hear(b"in/y", b"nan")
    assert seen("door")[0] == "bad values"
    hear(b"in/x", b"1")
    clock.pass_s(4)
    hear(b"in/x", b"nan")
    assert seen("in") == ("bad values", "no good sample for 4 s: see what it counts as dropped")
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
    a.links["main"].state = "connected"
    reason = next(s.reason for s in states(a, clock.now()) if (s.kind, s.name) == ("source", "in"))
    assert reason.endswith("A broker drops what is larger than max_bytes (100 KiB) and tells nobody")


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

    link.state = "connected"
    unheard = "no message yet on in/x: does somebody publish there, and may this user read it (access rules)?"
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
    assert "broker main takes no result on out/x (not authorised)" in seen()["pipeline p"][1]
    counts.refusal = ""
    assert seen()["pipeline p"] == ("running", "")

    link.state, link.reason = "lost", "the broker closed the connection"
    assert seen()["broker main"] == ("lost", "the broker closed the connection")
    assert seen()["pipeline p"][0] in ("waiting", "blocked")


async def test_a_pipeline_whose_gate_is_closed_is_well(make: Callable[[str], Assembly], clock: Any) -> None:
    a = make(CONFIG + 'gate = { source = "in", of = "v", above = 5 }\n')
    a.links["main"].state = "connected"

    def hear(topic: bytes, text: bytes) -> tuple[str, str]:
        a.routers["main"].on_publishes([(topic, text, 1, False, (), NONE, b"")])
        return next((s.state, s.reason) for s in states(a, clock.now()) if (s.kind, s.name) == ("pipeline", "q"))

    assert hear(b"in/y", b"1") == ("closed", "gate in: it has said nothing of this yet")
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
    a.links["main"].state = "connected"
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
    reason = "a run began 3 s ago, the longest one before took 1 s"
    found = [(s.kind, s.state, s.reason) for s in states(a, clock.now()) if s.kind in ("model", "pipeline")]
    assert found == [("model", "hanging", reason), ("pipeline", "stalled", f"model m hangs: {reason}")]
    a.close()
