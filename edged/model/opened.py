"""A session that was opened: whether it runs, on what rows, and what its outputs look like."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from edged.model.fit import Fit
from edged.model.onnx import ORT_TYPES, Arrays, plain, run_unbound
from edged.model.records import ModelPlan, OutputRow, RunFailed
from edged.model.recurrent import StatePlan
from edged.model.rows import constants, cut, rows_to_try
from edged.model.trial.arithmetic import Timing, batching, probe_rows

SLOW_NS = 20_000_000
"""So long must a row take that a single run of it tells."""
LARGE = (1, 30, 1000)  # how far the numbers spread in the last attempts to get something else than NaN out of a model
ONLY_NAN = (
    "all that it gives is not a number (NaN), for zeros, for random, positive and large values; was it exported with its weights?"
)


class Opened(msgspec.Struct):
    """A session that has run on `rung`, what its outputs look like, and batches that it is known to run, the likeliest first."""

    rung: str
    session: Any
    outputs: tuple[OutputRow, ...]
    is_batched: bool
    samples: list[Arrays]
    fitted: Fit
    alone: str = ""
    """Why it does not run on several rows at once, although the file leaves their number open."""
    batching: str = ""
    """What was found of rows together, where that was asked before."""


def run_one(session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays, tell: Callable[[str], object]) -> int | None:
    """One row before a whole batch: what may take how long is known by it. (A daemon runs the batch first: less memory.) Which
    of the rows to try ran; None if none did."""
    found = None
    for i, samples in enumerate(rows_to_try(plan, fitted, golden, fitted.fixed or 1)):
        tell("run")
        with contextlib.suppress(Exception):  # whether it runs at all is found out below
            run_unbound(session, list(fitted.outputs), cut(samples, fitted, fitted.fixed or 1) | constants(plan))
            found = i
            break
    tell("measure")
    return found


def grow(rung: str, session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays, which: int | None) -> tuple[Fit, str]:
    """Of a model that takes its time for a row no more rows at once than pay, and what was found: their number is doubled while
    each costs less than before. A quick one is measured on a whole batch, which shows more."""
    if which is None or fitted.fixed or fitted.batch_max == 1 or plan.batch_max is not None or plan.tried is not None:
        return fitted, ""
    samples, names = rows_to_try(plan, fitted, golden, fitted.batch_max)[which], list(fitted.outputs)
    now = timer(rung, plan)

    def run(count: int) -> Timing:
        before = now()
        run_unbound(session, names, cut(samples, fitted, count) | constants(plan))
        return Timing(now() - before, 0)

    best, rows = run(1), 1
    if best.median_ns < SLOW_NS:
        return fitted, ""
    while rows < fitted.batch_max:
        count = min(2 * rows, fitted.batch_max)
        try:
            found = run(count)
        except Exception:  # why, is found out below
            return fitted, ""
        pays, figures = batching(best, found, count, rows)
        if not pays:
            said = f"one row per run: {count} rows in a run save no time: {figures}"
            return replace(fitted, batch_max=rows), said if rows == 1 else ""
        best, rows = found, count
    return fitted, ""


def timer(rung: str, plan: ModelPlan) -> Callable[[], int]:
    """With one thread the model's own processor time is what counts: at boot others crowd the machine, and while they keep the
    loop from running, it makes no difference where the model would have run."""
    is_alone = plan.threads == 1 and rung == "cpu"
    return time.thread_time_ns if is_alone else time.perf_counter_ns


def look(rung: str, session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays) -> Opened:
    """Runs the session on several rows at once and finds out what its outputs look like, and on what kind of rows it runs.

    Raises `RunFailed` if it runs on none of them.
    """
    names = list(fitted.outputs)
    counts = [fitted.fixed] if fitted.fixed else sorted({1, min(2, fitted.batch_max), fitted.batch_max}, reverse=True)
    states = {s.output: s for s in plan.manifest.states}
    samples = rows_to_try(plan, fitted, golden, counts[0])
    seen, alone = _run_all(session, plan, fitted, samples, counts), ""
    if not seen.kept and counts[0] > 1 and not fitted.fixed:  # an exporter has put its own single row into the graph
        single = _run_all(session, plan, fitted, samples, [1])
        if single.kept and seen.failure is not None:
            alone = f"the file leaves the number of rows open, and {counts[0]} at once fail: {plain(seen.failure)}"
            seen = single
    if not seen.kept:
        raise RunFailed(plain(seen.failure) if seen.failure else "nothing to try it on")
    if seen.is_only_nan and not _gives_numbers(session, plan, fitted, 1 if alone else counts[0]):
        raise RunFailed(ONLY_NAN)
    has_axis = any(s[:1] == (-1,) for s in fitted.shapes.values())
    turned = {n: {(k, _rows_first(s, fitted.axes.get(n))) for k, s in of} for n, of in seen.shapes.items()}
    is_batched = has_axis and all(shape[:1] == (count,) for of in turned.values() for count, shape in of)
    axes, shapes = (fitted.axes, turned) if is_batched else ({}, seen.shapes)
    stated = plan.manifest.outputs if is_batched or not has_axis else {}
    declared = {o.name: (_declared(o.shape, axes.get(o.name), stated.get(o.name)), o.type) for o in session.get_outputs()}
    sizes = _axis_sizes(plan, fitted)
    outputs = tuple(
        OutputRow(n, states[n].dtype, states[n].shape)
        if n in states
        else _output_row(n, *declared[n], {s for _, s in shapes[n]}, is_batched, sizes)
        for n in names
    )
    # What goes out as it came in is in no array of ours: onnxruntime leaves one that is bound for it as it is.
    passed = {i.name for i in (*plan.inputs, *plan.manifest.onnx.defaults)}
    is_of_rows = is_batched or not has_axis
    outputs = tuple(
        replace(o, is_promised=o.is_promised and o.name not in passed, seen=o.seen if is_of_rows else None) for o in outputs
    )
    return Opened(rung, session, outputs, is_batched, seen.kept, fitted, alone)


class _Seen(msgspec.Struct):
    """What came of running a session: the samples that it ran on, the shapes that came out by number of rows."""

    shapes: dict[str, set[tuple[int, tuple[int, ...]]]]
    kept: list[Arrays] = msgspec.field(default_factory=list)
    failure: Exception | None = None
    is_only_nan: bool = True


def _run_all(session: Any, plan: ModelPlan, fitted: Fit, tries: Sequence[Arrays], counts: Sequence[int]) -> _Seen:
    names = list(fitted.outputs)
    states = {s.output: s for s in plan.manifest.states}
    seen = _Seen({n: set() for n in names})
    for samples in tries:
        try:
            for count in counts:
                found = run_unbound(session, names, cut(samples, fitted, count) | constants(plan))
                seen.is_only_nan = seen.is_only_nan and all(map(_is_only_nan, found))
                for name, y in zip(names, found, strict=True):
                    if name in states:
                        _check_ends(states[name], y.shape, count)
                    else:
                        seen.shapes[name].add((count, y.shape))
        except Exception as e:
            seen.failure = seen.failure or e
            continue
        seen.kept.append(samples)
    return seen


def _declared(shape: Sequence[Any], axis: int | None, stated: tuple[int, ...] | None) -> tuple[Any, ...]:
    """What is promised of an output, rows first: by the file, and by the manifest where that says more."""
    rows = _rows_first(shape, axis)
    return rows if stated is None else (*rows[:1], *stated) if rows else (None, *stated)


def _rows_first(shape: Sequence[Any], axis: int | None) -> tuple[Any, ...]:
    """A shape of the file with the axis that counts rows in front, if it is another than the first."""
    if not axis or axis >= len(shape):
        return tuple(shape)
    return (shape[axis], *shape[:axis], *shape[axis + 1 :])


def _is_only_nan(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size > 0 and value.dtype.kind == "f" and bool(np.isnan(value).all())


def _gives_numbers(session: Any, plan: ModelPlan, fitted: Fit, count: int) -> bool:
    """Whether it gives a number for rows that are large, or above zero: measured values, where it takes them as they come."""
    types = {i.name: str(i.dtype) for i in plan.inputs}
    shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
    for scale in LARGE:
        rows = {
            n: np.abs(x) if x.dtype.kind == "f" else x
            for n, x in probe_rows(shapes, types, count, scale, plan.manifest.onnx.sketch.vocabularies).items()
        }
        with contextlib.suppress(Exception):
            found = run_unbound(session, list(fitted.outputs), cut(rows, fitted, count) | constants(plan))
            if not all(map(_is_only_nan, found)):
                return True
    return False


def _check_ends(state: StatePlan, shape: tuple[int, ...], count: int) -> None:
    """What comes out must go in again, whatever the file leaves open. Raises `RunFailed`."""
    expected = tuple(count if n == -1 else n for n in state.tensor)
    if shape != expected:
        text = (
            f"{state.output} came out as {list(shape)}, {state.input} is {list(expected)}; the two ends of a state must be alike"
        )
        raise RunFailed(text)


def _axis_sizes(plan: ModelPlan, fitted: Fit) -> dict[str, int]:
    """The sizes that the inputs' rows give to named axes."""
    states = {s.input for s in plan.manifest.states}
    return {
        axis: size
        for info in plan.inputs
        if info.name not in states
        for axis, size in zip(info.shape or (), fitted.shapes[info.name], strict=False)
        if isinstance(axis, str) and size >= 0
    }


def _output_row(
    name: str, declared: tuple[Any, ...], kind: str, seen: set[tuple[int, ...]], is_batched: bool, sizes: Mapping[str, int]
) -> OutputRow:
    """`shape` only where the file promises one and the runs agree: of an open axis, what came out twice alike may still differ
    next time. Where the file promises a size that it does not keep, what was seen counts: some exporters write 1 for the rows."""
    rows = {s[1:] for s in seen} if is_batched else seen
    promised = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in (declared[1:] if is_batched else declared))
    is_kept = not is_batched or not declared or not isinstance(declared[0], int) or {s[0] for s in seen} == {declared[0]}
    if rows == {promised} and is_kept:
        return OutputRow(name, ORT_TYPES[kind], next(iter(rows)))
    is_fixed = len(rows) == 1 and all(isinstance(n, int) for n in promised) and 0 not in next(iter(rows))
    return (
        OutputRow(name, ORT_TYPES[kind], next(iter(rows)), is_promised=False)
        if is_fixed
        else OutputRow(
            name, ORT_TYPES[kind], None, seen=next(iter(rows)) if len(rows) == 1 and 0 not in next(iter(rows)) else None
        )
    )
