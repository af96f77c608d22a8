"""What models gain that run side by side: `python -m tests.bench.beside [seconds]`, on a machine that is idle else.

Two models of 20 ms that always have rows, with one thread and with one for each core; then one of 3 ms with a high priority
behind two of 370 ms: how long a row of it takes, and how long its run. No broker, no source: rows are fed as pipelines do it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray

from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.pipeline.counts import PipelineCounts
from edged.records import NONE, Slot
from edged.system.processors import cores
from tests.support import models

WIDTH = 384


class Rows:
    """Rows without content for one model; `took` has the ns from each row's arrival to its result."""

    def __init__(self, priority: int, is_endless: bool) -> None:
        self.priority = priority
        self.counts = PipelineCounts("it")
        self.took: list[int] = []
        self._due: list[Slot] = []
        self._is_endless = is_endless

    def put(self) -> None:
        self._due.append(Slot(0, 0, 0, time.monotonic_ns(), NONE, False))

    def waiting(self) -> int:
        return 1 if self._is_endless else len(self._due)

    def take(self, limit: int, now: int) -> list[Slot]:
        if self._is_endless:
            return [Slot(0, 0, 0, now, NONE, False)]
        taken, self._due = self._due[:limit], self._due[limit:]
        return taken

    def gather(self, slots: list[Slot], inputs: dict[str, NDArray[Any]], start: int) -> None:
        pass

    def finish(self, slots: list[Slot], outputs: dict[str, NDArray[Any]], inputs: dict[str, NDArray[Any]]) -> None:
        now = time.monotonic_ns()
        self.took += [now - slot.arrival for slot in slots]

    def fail(self, slot: Slot, error: Exception) -> None:
        raise error


def load(folder: Path, wanted_ms: float) -> Loaded:
    """A model that takes about so long for a row."""
    layers = 8
    for _ in range(3):
        manifest, problems = read_manifest("m", models.slow(folder / f"{layers}.onnx", width=WIDTH, layers=layers))
        assert manifest is not None, problems
        plan = ModelPlan(manifest, {"x": (WIDTH, WIDTH)}, providers=("cpu",), run="worker", batch_max=1)
        loaded = Loaded(*load_session(plan))
        layers = max(1, round(layers * wanted_ms * 1e3 / loaded.report.p50_us))
    return loaded


async def throughput(loaded: list[Loaded], threads: int, seconds: float) -> float:
    """Runs per second of all models together."""
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    workers.configure(threads, None)
    made = [Model(str(i), one, loop.call_soon, time.monotonic_ns, workers) for i, one in enumerate(loaded)]
    for model in made:
        model.feed_from([Rows(0, is_endless=True)])
    started = time.monotonic()
    await asyncio.sleep(seconds)
    runs = sum(model.counts.runs for model in made)
    took = time.monotonic() - started
    for model in made:
        model.close()
    workers.close(5)
    return runs / took


async def behind(slow: list[Loaded], fast: Loaded, threads: int, seconds: float) -> tuple[list[int], Model]:
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    workers.configure(threads, 0)
    made = [Model(str(i), one, loop.call_soon, time.monotonic_ns, workers) for i, one in enumerate((*slow, fast))]
    rows = Rows(5, is_endless=False)
    for model in made[:-1]:
        model.feed_from([Rows(0, is_endless=True)])
    made[-1].feed_from([rows])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rows.put()
        made[-1].wake()
        await asyncio.sleep(random.uniform(0.01, 0.05))
    for model in made:
        model.close()
    workers.close(5)
    return rows.took, made[-1]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        pair = [load(Path(folder), 20) for _ in range(2)]
        loop = uvloop.new_event_loop()
        found: dict[int, float] = {}
        for n in (1, cores(), 1, cores()):  # the better of two: others may have been at work meanwhile
            found[n] = max(found.get(n, 0.0), loop.run_until_complete(throughput(pair, n, seconds)))
        for threads, rate in found.items():
            print(f"two models of {pair[0].report.p50_us / 1e3:.0f} ms, {threads} threads: {rate:.1f} runs a second")
        print(f"beside each other: {found[cores()] / found[1]:.2f} times one thread")
        slow, fast = [load(Path(folder), 370) for _ in range(2)], load(Path(folder), 3)
        for threads in (1, cores()):
            took, model = loop.run_until_complete(behind(slow, fast, threads, 2 * seconds))
            in_order, own = np.sort(np.array(took)) / 1e6, model.counts.time
            p50, p99 = in_order[len(in_order) // 2], in_order[int(0.99 * (len(in_order) - 1))]
            print(
                f"{fast.report.p50_us / 1e3:.1f} ms behind two of {slow[0].report.p50_us / 1e3:.0f} ms, {threads} threads: "
                f"p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(took)} rows; its runs p50 {own.quantile_ms(0.5) or 0:.1f} ms, "
                f"p99 {own.quantile_ms(0.99) or 0:.1f} ms"
            )


if __name__ == "__main__":
    main()
