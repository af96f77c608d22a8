"""Measures a model that was loaded: in the child of a trial (`model/trial/child.py`), which nothing else shares.

One row at a cadence, as sensors ask for it: caches are cold then and cores asleep, so it takes several times as long as back
to back. Several rows at once. The way to the worker thread and back. All on a loop, since that is what waits between two runs.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from edged.model.load import load_session
from edged.model.onnx import BoundSession
from edged.model.records import LoadReport, ModelPlan, ModelRefused, Tried
from edged.model.trial.advice import BACK_TO_BACK, USUAL_HZ, WORTH_A_THREAD_US, Batch, Measured, Pace
from edged.model.worker import Workers
from edged.system.processors import cores
from edged.system.switching import quick_switches

SHARES = {BACK_TO_BACK: 0.05, 10: 0.4, 100: 0.1, 1000: 0.1}
"""Of the time that there is, by runs a second; what is left is for the worker and for batches."""

WORKER_SHARE = 0.1
BATCH_SHARE = 0.2
BESIDE_SHARE = 0.05
FEWEST_RUNS = 3
MAX_RUNS = 20_000
AT_MOST_BUSY = 0.8  # of a cadence's period; what takes longer cannot keep it
LARGEST_BATCH = 64
RUNS_TO_LOAD = 8  # of the largest batch, when a session is loaded

Once = Callable[[], Awaitable[int]]


def measure(bound: BoundSession, report: LoadReport, plan: ModelPlan, seconds: float, private_bytes: int) -> Measured:
    """Takes about so many seconds, more only where a few runs do."""
    loop = asyncio.new_event_loop()
    workers = Workers(loop.call_soon_threadsafe)

    async def inline() -> int:
        at = time.perf_counter_ns()
        bound.run(1)
        return time.perf_counter_ns() - at

    async def on_worker() -> int:
        done: asyncio.Future[int] = loop.create_future()
        at = time.perf_counter_ns()
        workers.submit("bench", lambda: bound.run(1), lambda _: done.set_result(time.perf_counter_ns() - at))
        return await done

    try:
        flat = loop.run_until_complete(_pace(inline, BACK_TO_BACK, seconds * SHARES[BACK_TO_BACK]))
        kept = [hz for hz in SHARES if hz and flat.p50_us * hz < AT_MOST_BUSY * 1e6]
        paces = [loop.run_until_complete(_pace(inline, hz, seconds * SHARES[hz])) for hz in kept]
        usual = next(hz for hz in USUAL_HZ if hz in kept or hz == BACK_TO_BACK)
        with quick_switches():
            worker = loop.run_until_complete(_pace(on_worker, usual, seconds * WORKER_SHARE))
    finally:
        workers.close(1.0)
        loop.close()
    wide = _wide(bound, report, plan, flat.p50_us, seconds * BATCH_SHARE)
    batches = _batches(wide, report.batch_max, seconds * BATCH_SHARE)
    beside = 0.0
    if flat.p50_us >= WORTH_A_THREAD_US and report.provider == "cpu" and plan.threads == 1 and cores() > 1:
        beside = _beside(bound, plan, flat.p50_us, seconds * BESIDE_SHARE)
    return Measured((*paces, flat), batches, usual, worker.p50_us, private_bytes, beside)


def _beside(bound: BoundSession, plan: ModelPlan, alone_us: float, seconds: float) -> float:
    """How many runs two such models do on two threads while one alone does one; 0 where there is no memory for a second one."""
    tried = Tried(bound.batch_max)
    try:
        other = load_session(replace(plan, providers=("cpu",), run="worker", tried=tried, batch_max=None))[0]
    except ModelRefused:
        return 0.0
    end = time.perf_counter() + seconds
    counts = [0, 0]

    def run(i: int, one: BoundSession) -> None:
        while time.perf_counter() < end or counts[i] < FEWEST_RUNS:
            one.run(1)
            counts[i] += 1

    started = time.perf_counter()
    threads = [threading.Thread(target=run, args=(i, one)) for i, one in enumerate((bound, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started) * alone_us / 1e6


async def _pace(once: Once, hz: int, seconds: float) -> Pace:
    """At a cadence a fixed number of runs, back to back as many as there is time for."""
    loop = asyncio.get_running_loop()
    start, busy = loop.time(), time.process_time()
    most = max(FEWEST_RUNS, int(hz * seconds)) if hz else MAX_RUNS
    took: list[int] = []
    while len(took) < most and (hz or len(took) < FEWEST_RUNS or loop.time() - start < seconds):
        await asyncio.sleep(start + len(took) / hz - loop.time() if hz else 0)
        took.append(await once())
    core = (time.process_time() - busy) / (loop.time() - start)
    took.sort()
    return Pace(hz, len(took), _quantile(took, 0.5), _quantile(took, 0.99), core)


def _wide(bound: BoundSession, report: LoadReport, plan: ModelPlan, row_us: float, seconds: float) -> BoundSession:
    """The model for larger batches than the daemon would run: where it can be had, and in the time that there is."""
    most = LARGEST_BATCH
    while most > bound.batch_max and most * row_us * RUNS_TO_LOAD > seconds * 1e6:
        most //= 2
    takes_one_size = len(bound.buckets) == 1 and plan.batch_max != 1
    if most <= bound.batch_max or takes_one_size or report.provider == "tensorrt":  # another engine would take minutes
        return bound
    try:
        return load_session(replace(plan, providers=(report.provider,), batch_max=most, run="worker"))[0]
    except ModelRefused:  # for want of memory
        return bound


def _batches(bound: BoundSession, usual: int, seconds: float) -> tuple[Batch, ...]:
    counts = [b for b in bound.buckets if b & (b - 1) == 0 or b in (usual, bound.batch_max)]
    found: list[Batch] = []
    for count in counts:
        took: list[int] = []
        end = time.perf_counter() + seconds / len(counts)
        while len(took) < FEWEST_RUNS or (len(took) < MAX_RUNS and time.perf_counter() < end):
            at = time.perf_counter_ns()
            bound.run(count)
            took.append(time.perf_counter_ns() - at)
        took.sort()
        found.append(Batch(count, _quantile(took, 0.5)))
    return tuple(found)


def _quantile(in_order: list[int], part: float) -> float:
    """In us, of ns."""
    return in_order[max(0, math.ceil(part * len(in_order)) - 1)] / 1e3
