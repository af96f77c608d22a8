"""What was measured of a model on one machine, and the lines of configuration that follow from it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from edged.model.gpu.providers import TITLES
from edged.model.records import LoadReport, ModelPlan

BACK_TO_BACK = 0
USUAL_HZ = (100, 10, BACK_TO_BACK)
"""The cadence by which ways to run a model are compared: the first of these that both can keep."""

INLINE_US = 2000.0
WORTH_A_THREAD_US = 1000.0  # below, waking a second thread costs what it gains
WORTH_A_BATCH_US = 10.0  # a row; below, the interpreter takes longer than the model
MUCH_FASTER = 0.7
FASTER = 0.8
NO_FASTER = 0.9


class Pace(msgspec.Struct, frozen=True):
    """Runs of one row, `hz` a second (0: back to back). `core`: what the process used meanwhile, as a part of one core."""

    hz: int
    runs: int
    p50_us: float
    p99_us: float
    core: float


class Batch(msgspec.Struct, frozen=True):
    """Runs of so many rows at once, back to back."""

    rows: int
    p50_us: float

    @property
    def row_us(self) -> float:
        return self.p50_us / self.rows


class Measured(msgspec.Struct, frozen=True):
    """A model as it ran in a process of its own. `worker_us` is the round trip to the worker thread and back at the cadence
    `worker_hz`. `private_bytes`: what the process grew by and shares with no other. `beside`: how many runs two such models do
    side by side while one alone does one; 0: not measured."""

    paces: tuple[Pace, ...]
    batches: tuple[Batch, ...]
    worker_hz: int
    worker_us: float
    private_bytes: int
    beside: float = 0.0


class Way(msgspec.Struct, frozen=True):
    """One way to run a model: as `report` says, with so many threads; `peak_bytes` while it was loaded."""

    threads: int
    report: LoadReport
    peak_bytes: int
    measured: Measured

    def pace(self, hz: int) -> Pace | None:
        return next((p for p in self.measured.paces if p.hz == hz), None)


class Advice(NamedTuple):
    """A line of `[model.NAME]`, and why."""

    line: str
    why: str


def threads_to_try(cores: int) -> list[int]:
    """One thread, two, and on by doubling while there are cores, up to eight."""
    return [n for n in (1, 2, 4, 8) if n <= cores]


def compare(a: Way, b: Way) -> tuple[float, float]:
    """What a run of one row takes in both, in us, at a cadence that both keep."""
    for hz in USUAL_HZ:
        one, other = a.pace(hz), b.pace(hz)
        if one is not None and other is not None:
            return one.p50_us, other.p50_us
    return math.inf, math.inf


def advise(asked: ModelPlan, usual: Way, others: Sequence[Way], cores: int) -> list[Advice]:
    """What to set other than it is asked for; nothing where it is as good as anything that was tried.

    `usual` is the model as asked for, `others` are further ways."""
    best, found = _best_provider(usual, others)
    more = [w for w in (usual, *others) if w.report.provider == best.report.provider]
    best, threads = _best_threads(asked.threads, best, more, cores)
    return [*found, *threads, *_best_run(best), *_best_batch(best)]


def _best_provider(usual: Way, others: Sequence[Way]) -> tuple[Way, list[Advice]]:
    """One that is faster for a single row, and no slower for many."""
    best = usual
    for way in others:
        if way.report.provider != best.report.provider:
            mine, its = compare(best, way)
            best = way if its < FASTER * mine and _cheapest(way) <= _cheapest(best) else best
    if best is usual or best.report.provider == usual.report.provider:
        return usual, []
    mine, its = compare(usual, best)
    rung = best.report.provider
    line = 'providers = ["cpu"]' if rung == "cpu" else f'providers = ["{rung}", "cpu"]'
    where = f"{TITLES[rung]} takes {_us(its)} for a row, {TITLES[usual.report.provider]} {_us(mine)}"
    return best, [Advice(line, where)]


def _cheapest(way: Way) -> float:
    return min(b.row_us for b in way.measured.batches)


def _best_threads(asked: int, way: Way, ways: Sequence[Way], cores: int) -> tuple[Way, list[Advice]]:
    """The fewest threads that are not much slower; one core is left to everything else."""
    if way.report.provider != "cpu":
        return way, []
    in_order = sorted((w for w in ways if w.threads <= max(1, cores - 1)), key=lambda w: w.threads)
    if not in_order:
        return way, []
    best = in_order[0]
    for more in in_order[1:]:
        fewer_us, more_us = compare(best, more)
        if fewer_us >= WORTH_A_THREAD_US and more_us <= MUCH_FASTER * fewer_us:
            best = more
    if best.threads == asked:
        return best, []
    theirs, its = compare(way, best)
    why = f"{_us(its)} for a row; with {_threads(way.threads)} {_us(theirs)}"
    beside = max(w.measured.beside for w in in_order)
    if best.threads > asked and beside:
        why += f"; beside another model keep {asked}: two models at the same time do {beside:.1f} times the runs of one"
    return best, [Advice(f"threads = {best.threads}", why)]


def side_by_side(ways: Sequence[Way]) -> str:
    """Whether threads inside a model pay here, or models beside each other; empty where nothing was measured."""
    one = next((w for w in ways if w.report.provider == "cpu" and w.threads == 1), None)
    two = next((w for w in ways if w.report.provider == "cpu" and w.threads == 2), None)
    if one is None or not one.measured.beside:
        return ""
    text = f"two such models at the same time do {one.measured.beside:.2f} times the runs of one"
    if two is not None:
        single, double = compare(one, two)
        text += f"; one model with two threads is {single / double:.2f} times as fast"
    return text


def _best_run(way: Way) -> Iterator[Advice]:
    pace = next(p for hz in USUAL_HZ if (p := way.pace(hz)) is not None)
    if pace.p99_us <= INLINE_US and way.report.run == "worker" and way.report.provider == "cpu" and way.report.batch_max == 1:
        why = (
            f"99 of 100 runs block the event loop for at most {_us(pace.p99_us)}; the worker takes {_us(way.measured.worker_us)}"
        )
        yield Advice('run = "inline"', why)
    elif pace.p50_us > INLINE_US and way.report.run == "inline":
        at = f" at {pace.hz} per second" if pace.hz else ""
        yield Advice('run = "worker"', f"a run takes {_us(pace.p50_us)}{at}, and would block the event loop for that long")


def _best_batch(way: Way) -> Iterator[Advice]:
    batches = {b.rows: b for b in way.measured.batches}
    now = batches.get(way.report.batch_max)
    alone = batches.get(1)
    if now is None or alone is None or len(batches) == 1:
        return
    cheapest = min(b.row_us for b in batches.values() if b.rows <= now.rows)
    if now.rows > 1 and cheapest > NO_FASTER * alone.row_us:
        yield Advice("batch = { max = 1 }", f"{now.rows} rows at once take {_us(now.row_us)} each, one alone {_us(alone.row_us)}")
        return
    fits = [b for b in batches.values() if way.report.run == "worker" or b.p50_us <= INLINE_US]
    larger = [b for b in fits if b.rows > now.rows and b.row_us <= MUCH_FASTER * now.row_us]
    if larger and now.row_us >= WORTH_A_BATCH_US:
        best = min(larger, key=lambda b: b.row_us)
        why = f"{_us(best.row_us)} per row, {_us(now.row_us)} with {now.rows}; a run takes rows that wait, and waits for none"
        yield Advice(f"batch = {{ max = {best.rows} }}", why)


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _us(us: float) -> str:
    return f"{us / 1000:.1f} ms" if us >= 10_000 else f"{us:.0f} us" if us >= 10 else f"{us:.1f} us"
