"""A session that was opened: whether it runs, on what rows, and what its outputs look like."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edged.model.fit import Fit
from edged.model.onnx import ORT_TYPES, Arrays, plain, run_unbound
from edged.model.records import ModelPlan, OutputRow, RunFailed
from edged.model.recurrent import StatePlan
from edged.model.rows import constants, cut, rows_to_try
from edged.model.trial.arithmetic import probe_rows

LARGE = (1, 30, 1000)  # how far the numbers spread in the last attempts to get something else than NaN out of a model
ONLY_NAN = (
    "all that it gives is no number (NaN), for zeros, for random, positive and large values; was it exported with its weights?"
)


@dataclass(slots=True)
class Opened:
    """A session that has run on `rung`, what its outputs look like, and batches that it is known to run, the likeliest first."""

    rung: str
    session: Any
    outputs: tuple[OutputRow, ...]
    is_batched: bool
    samples: list[Arrays]


def run_one(session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays, tell: Callable[[str], object]) -> None:
    """One row before a whole batch: what may take how long is known by it. (A daemon runs the batch first: less memory.)"""
    for samples in rows_to_try(plan, fitted, golden, fitted.fixed or 1):
        tell("run")
        with contextlib.suppress(Exception):  # whether it runs at all is found out below
            run_unbound(session, list(fitted.outputs), cut(samples, fitted, fitted.fixed or 1) | constants(plan))
            break
    tell("measure")


def look(rung: str, session: Any, plan: ModelPlan, fitted: Fit, golden: Arrays) -> Opened:
    """Runs the session on several rows at once and finds out what its outputs look like, and on what kind of rows it runs.

    Raises `RunFailed` if it runs on none of them.
    """
    names = list(fitted.outputs)
    counts = [fitted.fixed] if fitted.fixed else sorted({1, min(2, fitted.batch_max), fitted.batch_max}, reverse=True)
    states = {s.output: s for s in plan.manifest.states}
    shapes: dict[str, set[tuple[int, tuple[int, ...]]]] = {n: set() for n in names}
    kept: list[Arrays] = []
    failure: Exception | None = None
    is_only_nan = True
    for samples in rows_to_try(plan, fitted, golden, counts[0]):
        try:
            for count in counts:
                found = run_unbound(session, names, cut(samples, fitted, count) | constants(plan))
                is_only_nan = is_only_nan and all(map(_is_only_nan, found))
                for name, y in zip(names, found, strict=True):
                    if name in states:
                        _check_ends(states[name], y.shape, count)
                    else:
                        shapes[name].add((count, y.shape))
        except Exception as e:
            failure = failure or e
            continue
        kept.append(samples)
    if not kept:
        raise RunFailed(plain(failure) if failure else "nothing to try it on")
    if is_only_nan and not _gives_numbers(session, plan, fitted, counts[0]):
        raise RunFailed(ONLY_NAN)
    has_axis = any(s[:1] == (-1,) for s in fitted.shapes.values())
    is_batched = has_axis and all(shape[:1] == (count,) for seen in shapes.values() for count, shape in seen)
    declared = {o.name: (o.shape, o.type) for o in session.get_outputs()}
    sizes = _axis_sizes(plan, fitted)
    outputs = tuple(
        OutputRow(n, states[n].dtype, states[n].shape)
        if n in states
        else _output_row(n, *declared[n], {s for _, s in shapes[n]}, is_batched, sizes)
        for n in names
    )
    return Opened(rung, session, outputs, is_batched, kept)


def _is_only_nan(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size > 0 and value.dtype.kind == "f" and bool(np.isnan(value).all())


def _gives_numbers(session: Any, plan: ModelPlan, fitted: Fit, count: int) -> bool:
    """Whether it gives a number for rows that are large, or above zero: measured values, where it takes them as they come."""
    types = {i.name: str(i.dtype) for i in plan.manifest.onnx.inputs}
    shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
    for scale in LARGE:
        rows = {n: np.abs(x) if x.dtype.kind == "f" else x for n, x in probe_rows(shapes, types, count, scale).items()}
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
    return {
        axis: size
        for info in plan.manifest.onnx.inputs
        if info.name not in fitted.axes
        for axis, size in zip(info.shape or (), fitted.shapes[info.name], strict=False)
        if isinstance(axis, str) and size >= 0
    }


def _output_row(
    name: str, declared: list[Any], kind: str, seen: set[tuple[int, ...]], is_batched: bool, sizes: Mapping[str, int]
) -> OutputRow:
    """`shape` only where the file promises it and the runs agree: what came out twice alike may still differ next time."""
    rows = {s[1:] for s in seen} if is_batched else seen
    promised = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in (declared[1:] if is_batched else declared))
    shape = next(iter(rows))
    return OutputRow(name, ORT_TYPES[kind], shape if rows == {promised} else None)
