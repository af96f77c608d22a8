"""How many rows go together, and on which thread: only what gives the same answers, and what saves time on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.errors import Problem
from edged.model.fit import Fit
from edged.model.onnx import Arrays, BoundSession, place_of
from edged.model.opened import Opened, timer
from edged.model.records import ModelPlan, ModelRefused, RunFailed
from edged.model.trial.arithmetic import Timing, agree, batching

INLINE_NS = 2_000_000
RANGES = (1, 32, 1 / 32, 8)
"""Factors of rows: what is measured over a whole batch shows in those of small numbers."""
IN_TRAINING = "if that is not intended, export it again in inference mode (PyTorch: model.eval())"
DRAWN = 4
"""Runs of one row that must be alike, of a model that has operators which may draw lots."""
TIMED_RUNS = 25
TIMED_NS = 100_000_000


def settle_batch(opened: Opened, plan: ModelPlan, fitted: Fit) -> tuple[BoundSession, tuple[str, ...]]:
    """Rows go together only where that gives what they give alone."""
    has_axis = any(s[:1] == (-1,) for s in fitted.shapes.values())
    if has_axis and not opened.is_batched:
        if fitted.fixed > 1:
            text = f"an output has no row for each of the {fitted.fixed} rows that go in"
            raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)])
        why = "the number of rows that come out is not the number that went in"
        reasons = (f"one row per run: {why}" if fitted.batch_max > 1 else "", _trained(plan))
        return _bind(opened, plan, fitted, 1), tuple(filter(None, reasons))
    if opened.alone:
        return _bind(opened, plan, fitted, 1), (f"one row per run: {opened.alone}",)
    bound = _bind(opened, plan, fitted, fitted.batch_max)
    if said := _in_training(bound, plan):
        return (_bind(opened, plan, fitted, 1) if bound.buckets[-1] > 1 and not fitted.fixed else bound), (said,)
    is_said = plan.manifest.batch_axis is not None and plan.manifest.batch_axis >= 0
    if bound.buckets[-1] == 1 or is_said:
        return bound, ()
    why = _dependence(bound, opened.samples, plan)
    if why and fitted.fixed:
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", _of_fixed_rows(plan, fitted, why))])
    return (_bind(opened, plan, fitted, 1), (f"one row per run: {why}",)) if why else (bound, ())


def _trained(plan: ModelPlan) -> str:
    """What to say of a model that works as it does while it is trained."""
    trained = sorted(plan.manifest.onnx.sketch.trained)
    said = f"its {' and '.join(trained)} takes mean and deviation from the rows of each run, not from training"
    return f"{said}; {IN_TRAINING}" if trained else ""


def _in_training(bound: BoundSession, plan: ModelPlan) -> str:
    """The same, also of one that answers the same row otherwise each time."""
    sketch = plan.manifest.onnx.sketch
    if sketch.trained or not sketch.draws or plan.manifest.states:
        return _trained(plan)
    first = {n: y.copy() for n, y in bound.run(1).items()}
    for _ in range(DRAWN):
        again = bound.run(1)
        if not all(agree(again[n][0], first[n][0]) for n in first):
            return f"it answers the same row differently each time, by {' and '.join(sketch.draws)}; {IN_TRAINING}"
    return ""


def _dependence(bound: BoundSession, batches: list[Arrays], plan: ModelPlan) -> str:
    """Why rows together do not give what they give alone; empty if they do."""
    said = "(if that is intended, set batch_axis = 0 in model.toml)"
    if plan.manifest.onnx.sketch.quantises_by_batch:
        return f"it quantizes by the range of all rows of a run, so each row would change the rounding of the others {said}"
    if _is_independent(bound, batches):
        return ""
    return "rows of one run do not give what each gives alone (if they should, set batch_axis = 0 in model.toml)"


def _of_fixed_rows(plan: ModelPlan, fitted: Fit, why: str) -> str:
    """What to do about a file whose first axis has a fixed size, and cannot be padded."""
    names = [i for i in plan.inputs if i.name in fitted.shapes and fitted.shapes[i.name][:1] == (-1,)]
    listed = ", ".join(f"{i.name}: {i}" for i in names)
    text = f"{listed}: the first axis of {fitted.fixed} was taken for rows, and {why.partition(' (')[0]}; say in model.toml: "
    text += f'batch_axis = "none" if it is one input of {fitted.fixed} samples (with window = {{ size = {fitted.fixed} }}), '
    return text + "batch_axis = 0 if they are rows all the same"


def _bind(opened: Opened, plan: ModelPlan, fitted: Fit, batch_max: int) -> BoundSession:
    """Binds, fills every row with one that is known to run (padding must run too), and warms up.

    The largest batch first, so that memory grows once; the other sizes only where each compiles kernels of its own.
    """
    place = place_of(plan, opened.rung)
    bound = BoundSession(opened.session, plan, fitted, opened.outputs, opened.is_batched, batch_max, place)
    for name, x in bound.padded.items():
        x[:] = np.resize(opened.samples[0][name], x.shape)
    sizes = bound.buckets if opened.rung != "cpu" else sorted({bound.buckets[0], bound.buckets[-1]})
    for bucket in reversed(sizes):
        bound.run(min(bucket, batch_max))
    return bound


def _is_independent(bound: BoundSession, batches: list[Arrays]) -> bool:
    """Whether up to four rows, each alone in a batch, give what they give together. Rows that are all alike show nothing."""
    samples = next((b for b in reversed(batches) if _has_different_rows(b, bound)), None)
    if samples is None:
        return False
    if not _is_alike(bound, samples, (1,)):
        return False
    try:
        return _is_alike(bound, samples, RANGES)
    except RunFailed:  # it does not take such numbers, which says nothing
        return True


def _is_alike(bound: BoundSession, samples: Arrays, factors: Sequence[float]) -> bool:
    """The same for `samples` times `factors`, one a row in turn."""
    count = bound.batch_max
    before = {n: x.copy() for n, x in bound.padded.items()}

    def fill(name: str, x: NDArray[Any], rows: Sequence[int]) -> None:
        for to, i in enumerate(rows):
            x[to] = samples[name][i]
            if x.dtype.kind == "f":
                x[to] *= factors[i % len(factors)]

    try:
        for name, x in bound.inputs.items():
            fill(name, x, range(len(x)))
        together = {n: y.copy() for n, y in bound.run(count).items()}
        for i in sorted({0, 1, count // 2, count - 1} & set(range(count))):
            for name, x in bound.padded.items():
                fill(name, x, [i] * len(x))  # in every row, so that padding differs from what it was
            alone = bound.run(1)
            if not all(agree(alone[n][0], together[n][i]) for n in together):
                return False
        return True
    finally:
        for name, x in bound.padded.items():
            x[:] = before[name]


def _has_different_rows(samples: Arrays, bound: BoundSession) -> bool:
    return any(bool(np.any(samples[n] != samples[n][:1])) for n in bound.inputs)


def try_batches(bound: BoundSession, opened: Opened, plan: ModelPlan, fitted: Fit) -> tuple[BoundSession, Timing, str]:
    """Rows go together only where that saves time on this machine, unless a size was asked for; and what was found."""
    now, rows = timer(opened.rung, plan), bound.batch_max
    timing = measure(bound, rows, now)
    if plan.tried is not None and rows == plan.tried.batch_max:
        return bound, timing, plan.tried.batching
    if rows == 1 or fitted.fixed:
        return bound, timing, opened.batching
    alone = measure(bound, 1, now)
    pays, figures = batching(alone, timing, rows)
    if pays or plan.batch_max is not None:
        return (
            bound,
            timing,
            f"rows that wait run together{'' if pays else ', as configured, though that saves no time'}: {figures}",
        )
    return _bind(opened, plan, fitted, 1), alone, f"one row per run: {rows} rows in a run save no time: {figures}"


def choose_thread(
    bound: BoundSession, timing: Timing, opened: Opened, plan: ModelPlan, fitted: Fit
) -> tuple[BoundSession, Timing, str, tuple[str, ...]]:
    """Inline while the longest run blocks the event loop for 2 ms at most; a smaller batch is preferred to the worker where a
    row costs about the same in it. `timing` is that of the largest batch."""
    now = timer(opened.rung, plan)
    if plan.run != "auto":
        return bound, timing, plan.run, ()
    if opened.rung != "cpu":  # its runs are short while nobody else uses the GPU, which nobody can promise
        return bound, timing, "worker", ()
    if timing.longest_ns <= INLINE_NS:
        return bound, timing, "inline", ()
    asked = bound.batch_max
    smallest = timing if asked == 1 else measure(bound, 1, now)
    for bucket in reversed([b for b in bound.buckets if b < asked and smallest.longest_ns <= INLINE_NS]):
        smaller = measure(bound, bucket, now)
        if smaller.longest_ns <= INLINE_NS:
            if fitted.fixed or smaller.median_ns / bucket > 1.25 * timing.median_ns / asked:
                break
            bound = _bind(opened, plan, fitted, bucket)
            reason = f"at most {bucket} rows per run: {asked} would block the event loop for {timing.longest_ns / 1e6:.1f} ms"
            return bound, smaller, "inline", (reason,)
    rows = f"{asked} rows take" if asked > 1 else "a row takes"
    return bound, timing, "worker", (f"runs on a worker thread: {rows} up to {timing.longest_ns / 1e6:.1f} ms",)


def measure(bound: BoundSession, count: int, now: Callable[[], int]) -> Timing:
    """25 runs back to back, or 100 ms of them; up to twice more where only the longest is too long."""
    best: Timing | None = None
    for _ in range(3):
        times: list[int] = []
        end = time.perf_counter_ns() + TIMED_NS
        while len(times) < TIMED_RUNS and (not times or time.perf_counter_ns() < end):
            at = now()
            bound.run(count)
            times.append(now() - at)
        timing = Timing(sorted(times)[len(times) // 2], max(times))
        best = timing if best is None or timing.longest_ns < best.longest_ns else best
        if best.longest_ns <= INLINE_NS or best.median_ns > INLINE_NS:
            break
    assert best is not None
    return best
