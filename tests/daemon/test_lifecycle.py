from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.lifecycle import LEAVING_S, STOP_DEADLINE_S, Lifecycle
from edged.daemon.relief import Relief
from edged.errors import EX_OK, EX_SOFTWARE
from edged.health.schedule import Health
from edged.system.notify import Notifier

REPLAY = """
[source.in]
type = "replay"
path = "{path}"
speed = 0
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "in"
"""

SIMULATE = """
[source.in]
type = "simulate"
signal = "noise"
rate = 100
[pipeline.p]
source = "in"
publish = []
"""


MODEL = f"""
[model.m]
path = "{Path(__file__).parents[2] / "models" / "vibration"}"
[pipeline.q]
source = "in"
model = "m"
window = {{ size = 512 }}
publish = []
"""


PATIENCE = (
    (None, "worker", 100.0, 30.0),
    (0.3, "worker", 100.0, 2.0),
    (20.0, "inline", 0.001, 20.0),
    (20.0, "inline", 10.0, 30.0),
)


class Told(Notifier):
    """Writes down what systemd would be told."""

    def __init__(self) -> None:
        super().__init__({})
        self.words: list[str] = []
        self.is_ready = asyncio.Event()

    def ready(self, status: str) -> None:
        self.words.append("ready")
        self.is_ready.set()

    def stopping(self, status: str) -> None:
        self.words.append("stopping")


async def lived(
    a: Assembly,
    then: Callable[[], object] = lambda: None,
    watchdog_s: float | None = None,
    put_off: Callable[[float], object] = lambda limit_s: None,
) -> tuple[int, list[str]]:
    """Serves until the end; calls `then` once it is ready."""
    told = Told()
    told.watchdog_s = watchdog_s
    clock = Clock()
    work = asyncio.sleep(3600)  # until it is cancelled
    relief = Relief(a)
    lifecycle = Lifecycle(a, Health(a, relief, clock, ""), relief, told, clock, put_off)
    task = asyncio.get_running_loop().create_task(lifecycle.serve(work))
    await asyncio.wait_for(told.is_ready.wait(), 10)
    then()
    code = await asyncio.wait_for(task, 20)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others
    return code, told.words


async def test_a_signal_is_a_stop_in_good_order(make: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        a = make(SIMULATE, Clock())
        assert await lived(a, lambda: os.kill(os.getpid(), number)) == (EX_OK, ["ready", "stopping"])
        assert a.links["main"].state == "stopped"


async def test_the_end_of_all_recordings_is_the_end(make: Any, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("1\n2\n3\n")
    a = make(REPLAY.format(path=tmp_path / "run.csv"), Clock())
    assert await lived(a) == (EX_OK, ["ready", "stopping"])
    counts = a.pipelines["p"].counts
    [entry] = a.publishes["p"]
    assert (counts.due, counts.published) == (3, 3)
    assert (entry.made, entry.drops.by_reason, entry.balance()) == (3, {"shutdown": 3}, 0)


async def test_a_run_that_never_returns_ends_the_process_in_good_order(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    a = make(SIMULATE + MODEL, Clock())
    model = a.models["m"]

    def hang() -> None:
        model.running, model.running_since = [], Clock().now() - 10**12

    assert await lived(a, hang, watchdog_s=0.3) == (EX_SOFTWARE, ["ready", "stopping"])
    assert "most recent call first" in capfd.readouterr().err  # the stacks


@pytest.mark.parametrize(("watchdog_s", "run", "longest_s", "patience_s"), PATIENCE)
async def test_the_end_is_put_off_while_the_loop_turns_and_a_last_time_for_the_stop(
    make: Any, watchdog_s: float | None, run: str, longest_s: float, patience_s: float
) -> None:
    a, limits = make(SIMULATE + MODEL, Clock()), list[float]()
    a.amend("m", replace(a.reports["m"], run=run))
    a.models["m"].counts.time.add(int(longest_s * 1e9))

    def put_off(limit_s: float) -> None:
        limits.append(limit_s)
        if len(limits) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    assert await lived(a, watchdog_s=watchdog_s, put_off=put_off) == (EX_OK, ["ready", "stopping"])
    assert limits == [patience_s] * 3 + [STOP_DEADLINE_S + LEAVING_S]


async def test_a_bug_ends_the_process_with_its_own_status(make: Any, tmp_path: Path) -> None:
    a = make(SIMULATE, Clock())

    async def broken(push: Any) -> None:
        raise ZeroDivisionError

    a.readers["in"].run = broken
    assert await lived(a) == (EX_SOFTWARE, ["ready", "stopping"])


async def test_a_consumer_that_fails_costs_nobody_else_anything(make: Any, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("1\n2\n3\n")
    a = make(REPLAY.format(path=tmp_path / "run.csv") + '[pipeline.q]\nsource = "in"\npublish = []\n', Clock())

    def broken(block: Any) -> None:
        raise ZeroDivisionError

    a.consumers["in"].insert(0, broken)
    assert await lived(a) == (EX_OK, ["ready", "stopping"])
    assert [a.pipelines[name].counts.due for name in ("p", "q")] == [3, 3]
    counts = a.sources["in"].counts
    assert (set(counts.drops.by_reason), counts.balance(), counts.rows) == ({"internal_error"}, 0, 3)


async def test_a_bug_in_a_callback_too(make: Any) -> None:
    a = make(SIMULATE, Clock())

    def broken() -> None:
        raise ZeroDivisionError

    assert await lived(a, lambda: asyncio.get_running_loop().call_soon(broken)) == (EX_SOFTWARE, ["ready", "stopping"])
