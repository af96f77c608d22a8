"""What models gain that run side by side: `python -m tests.bench.beside [rounds]`, 20 of them if you say nothing.

Two models of 20 ms that always have rows, with one thread and with one for each core; then one of 3 ms with a high priority
behind two of 370 ms: how long a row of it takes, and how long its run. No broker, no source: rows are fed as pipelines do it.

Both need all cores. Where others work on the machine, each round waits a while for a quiet moment, and what counts are the rounds
in which others had the least; each figure says how much of a core that was. More than a tenth of one makes it no figure. What the
kernel says of the threads still is one: how long a run takes of a processor, and how long a thread neither ran nor waited for a
processor (for the loop, a lock). These two are what a run would take on an idle machine; caches that threads share are not in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import uvloop
from numpy.typing import NDArray

from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan, Session
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.pipeline.counts import PipelineCounts
from edged.records import NONE, Slot
from edged.system.processors import cores
from tests.support import models

WIDTH = 384
LOOKS, LOOK_S, QUIET = 40, 0.1, 0.2
"""So often and for so long each round looks whether others use less than so many cores."""


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


class Rate(NamedTuple):
    """Runs a second as they were, and as they would be on an idle machine, by what the kernel says of the threads."""

    seen: float
    idle: float


class Spell(NamedTuple):
    """What was measured while others had so many cores."""

    others: float
    found: Any


def while_others(measure: Callable[[], Any]) -> Spell:
    """Measures as soon as the machine is quiet, or after a while all the same."""
    for _ in range(LOOKS):
        busy = busy_s()
        time.sleep(LOOK_S)
        if busy_s() - busy < QUIET * LOOK_S:
            break
    busy, own, began = busy_s(), time.process_time(), time.monotonic()
    found = measure()
    ended, own = time.monotonic(), time.process_time() - own
    return Spell(max(0.0, (busy_s() - busy - own) / (ended - began)), found)


def busy_s() -> float:
    """Processor time that anybody on this machine has had, and what a host took from it."""
    user, nice, system, _idle, _wait, *interrupts = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def quietest(spells: list[Spell]) -> list[Spell]:
    """The quarter of them in which others had the least."""
    return sorted(spells, key=lambda one: one.others)[: max(1, len(spells) // 4)]


async def throughput(loaded: list[Loaded], threads: int, seconds: float) -> Rate:
    """That of all models together."""
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    workers.configure(threads, None)
    made = [Model(str(i), one, loop.call_soon, time.monotonic_ns, workers) for i, one in enumerate(loaded)]
    for model in made:
        model.feed_from([Rows(0, is_endless=True)])
    await asyncio.sleep(seconds / 5)  # the threads have begun
    began, (ran, waited), before = time.monotonic(), used_s(), sum(model.counts.runs for model in made)
    await asyncio.sleep(seconds)
    took, used, runs = time.monotonic() - began, used_s(), sum(model.counts.runs for model in made) - before
    ran, waited = used[0] - ran, used[1] - waited
    for model in made:
        model.close()
    workers.close(5)
    blocked = max(0.0, threads * took - ran - waited)
    return Rate(runs / took, threads * runs / (ran + blocked))


def used_s() -> tuple[float, float]:
    """How long the threads of models have run, and waited for a processor."""
    ids = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("model-")]
    spent = [[*map(int, Path(f"/proc/self/task/{one}/schedstat").read_text().split())] for one in ids]
    return sum(one[0] for one in spent) / 1e9, sum(one[1] for one in spent) / 1e9


async def behind(slow: list[Loaded], fast: Loaded, threads: int, seconds: float) -> tuple[list[int], list[int]]:
    """Of each row of the fast model, from its arrival to its result, and of each of its runs, in ns."""
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    workers.configure(threads, 0)
    timed = Timed(fast.session)
    models = [*slow, fast._replace(session=timed)]
    made = [Model(str(i), one, loop.call_soon, time.monotonic_ns, workers) for i, one in enumerate(models)]
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
    return rows.took, timed.took


class Timed:
    """A session; `took` has the ns of each run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.batch_max = session.batch_max
        self.took: list[int] = []

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        return self.session.inputs

    def run(self, count: int) -> dict[str, NDArray[Any]]:
        began = time.monotonic_ns()
        outputs = self.session.run(count)
        self.took.append(time.monotonic_ns() - began)
        return outputs


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    threads = (1, cores())
    with tempfile.TemporaryDirectory() as folder:
        run = uvloop.new_event_loop().run_until_complete
        pair = [load(Path(folder), 20) for _ in range(2)]
        spells: dict[int, list[Spell]] = {n: [] for n in threads}
        for _ in range(rounds):
            for n in threads:
                spells[n].append(while_others(partial(run, throughput(pair, n, 1))))
        best = {n: max(quietest(spells[n]), key=lambda one: one.found.seen) for n in threads}
        idle = {n: median(one.found.idle for one in spells[n]) for n in threads}
        for n, one in best.items():
            ms = pair[0].report.p50_us / 1e3
            print(
                f"two models of {ms:.0f} ms, {n} threads: {one.found.seen:.1f} runs a second, while others had "
                f"{one.others:.2f} cores; by processor time {idle[n]:.1f} on an idle machine"
            )
        seen = best[cores()].found.seen / best[1].found.seen
        gain = idle[cores()] / idle[1]
        print(f"beside each other: {seen:.2f} times one thread; by processor time {gain:.2f} times on an idle machine")
        slow, fast = [load(Path(folder), 370) for _ in range(2)], load(Path(folder), 3)
        for n in threads:
            these = quietest([while_others(partial(run, behind(slow, fast, n, 2))) for _ in range(rounds)])
            took, runs = (np.sort(np.concatenate([one.found[i] for one in these])) / 1e6 for i in (0, 1))
            print(
                f"{fast.report.p50_us / 1e3:.1f} ms behind two of {slow[0].report.p50_us / 1e3:.0f} ms, {n} threads: "
                f"p50 {at(took, 0.5):.1f} ms, p99 {at(took, 0.99):.1f} ms of {len(took)} rows; "
                f"its runs p50 {at(runs, 0.5):.1f} ms, p99 {at(runs, 0.99):.1f} ms; others had up to {these[-1].others:.2f} cores"
            )


def at(in_order: NDArray[Any], part: float) -> float:
    return float(in_order[int(part * (len(in_order) - 1))])


if __name__ == "__main__":
    main()
