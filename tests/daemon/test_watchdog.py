from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import replace

from edged.daemon.assembly import Assembly
from edged.daemon.watchdog import STUCK_S, Progress
from edged.records import Block
from tests.support import models

CONFIG = """
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


async def test_rows_that_nobody_takes_are_a_hang_and_silence_is_none(
    make: Callable[[str], Assembly], clock: Any, tmp_path: Any
) -> None:
    a = make(CONFIG.format(path=models.linear(tmp_path / "m.onnx")))
    progress = Progress(a)
    pipeline = a.pipelines["p"]

    def push() -> None:
        pipeline.push(0, Block(np.ones((1, 3), np.float32), np.zeros(1, np.int64), 0, clock.now()))

    assert progress.stuck(clock.now()) is None
    clock.pass_s(10 * STUCK_S)
    assert progress.stuck(clock.now()) is None  # nothing to do is no hang

    push()
    assert progress.stuck(clock.now()) is None
    clock.pass_s(STUCK_S + 1)
    assert progress.stuck(clock.now()) == "pipeline.p: 1 windows wait and none is taken"

    pipeline.fail(pipeline.take(1, 0)[0], RuntimeError("no"))
    assert progress.stuck(clock.now()) is None
    a.close()


async def test_a_run_that_does_not_end_is_a_hang(make: Callable[[str], Assembly], clock: Any, tmp_path: Any) -> None:
    a = make(CONFIG.format(path=models.linear(tmp_path / "m.onnx")))
    progress = Progress(a)
    model = a.models["m"]
    model.running, model.running_since = [], clock.now()
    clock.pass_s(STUCK_S - 1)
    assert progress.stuck(clock.now()) is None
    clock.pass_s(2)
    assert progress.stuck(clock.now()) == "model.m: a run began 21 s ago"
    model.counts.time.add(int(STUCK_S * 1e9))  # a model that is known to be slow
    assert progress.stuck(clock.now()) is None
    a.close()


async def test_rows_that_wait_for_an_engine_are_no_hang(make: Callable[[str], Assembly], clock: Any, tmp_path: Any) -> None:
    a = make(CONFIG.format(path=models.linear(tmp_path / "m.onnx")))
    a.amend("m", replace(a.reports["m"], builds=True, is_held=True))
    progress = Progress(a)
    a.pipelines["p"].push(0, Block(np.ones((1, 3), np.float32), np.zeros(1, np.int64), 0, clock.now()))
    for _ in range(3):
        assert progress.stuck(clock.now()) is None
        clock.pass_s(STUCK_S + 1)
    a.amend("m", replace(a.reports["m"], builds=False, is_held=False))
    assert progress.stuck(clock.now()) is None
    clock.pass_s(STUCK_S + 1)
    assert progress.stuck(clock.now()) == "pipeline.p: 1 windows wait and none is taken"
    a.close()
