"""Whether rows from pipelines fit a model's inputs, and how many rows it takes at once."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from edged.errors import Problem
from edged.model.onnx_file import TensorInfo
from edged.model.records import ModelPlan

OPEN = 0
NO_AXIS = -1
DEFAULT_BATCH = 16


class Fit(msgspec.Struct, frozen=True):
    """`batch_max` rows are taken at once, always padded to `fixed` where the file fixes the number (else 0).

    `shapes` has each input's array shape with -1 for the batch axis; inputs without one have none. `outputs` are the names
    to compute. `reasons` say where the batch is not what was asked for. `axes` has the axis that counts rows where that is not
    the first, and for each end of a state, None where there is none.
    """

    batch_max: int
    fixed: int
    shapes: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    reasons: tuple[str, ...]
    axes: dict[str, int | None] = msgspec.field(default_factory=dict)


def batch_of(info: TensorInfo, row: tuple[int, ...], has_axis: bool | None = None) -> int | None:
    """How many rows of shape `row` the input takes at once: `OPEN` for any number, n for exactly n, `NO_AXIS` for one row
    that fills the whole tensor, None if the row does not fit. `has_axis` is what the manifest says, None if nothing."""
    if info.shape is None:
        return NO_AXIS if has_axis is False else OPEN
    if len(info.shape) == len(row) and not has_axis and _fits(info.shape, row):
        return NO_AXIS
    if len(info.shape) == len(row) + 1 and has_axis is not False and _fits(info.shape[1:], row):
        first = info.shape[0]
        return first if isinstance(first, int) else OPEN
    return None


def _fits(shape: tuple[int | str | None, ...], row: tuple[int, ...]) -> bool:
    return all(not isinstance(axis, int) or axis == n for axis, n in zip(shape, row, strict=True))


def fit(plan: ModelPlan) -> tuple[Fit | None, list[Problem]]:
    """Checks `plan` against the file: every input filled, every wanted output bindable. All problems at once."""
    name, onnx = plan.manifest.name, plan.manifest.onnx
    problems = [Problem(f"model.{name}.path", text) for text in (*_bad_inputs(plan), *_bad_outputs(plan))]
    if problems:
        return None, problems
    has_axis = None if plan.manifest.batch_axis is None else plan.manifest.batch_axis >= 0
    states = {s.input: s for s in plan.manifest.states}
    batches: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for info in plan.inputs:
        if info.name in plan.constants:
            shapes[info.name] = plan.constants[info.name].shape
            continue
        row = plan.rows[info.name]
        own = states.get(info.name)
        batch = batch_of(info, row, has_axis) if own is None else NO_AXIS if own.axis is None else own.batch
        if batch is None:
            problems.append(Problem(f"model.{name}.path", f"{onnx_name(info)} does not take rows of {list(row)}"))
            continue
        batches[info.name] = batch
        shapes[info.name] = row if batch == NO_AXIS else (-1, *row)
    fixed = {b for b in batches.values() if b > 0}
    if len(fixed) > 1:
        problems.append(Problem(f"model.{name}.path", f"its inputs take different numbers of rows at once: {sorted(fixed)}"))
    if problems:
        return None, problems
    axes: dict[str, int | None] = {i.name: i.row_axis for i in (*onnx.inputs, *onnx.outputs) if i.row_axis}
    axes |= {end: s.axis for s in plan.manifest.states for end in (s.input, s.output)}
    return replace(_sized(plan, batches, fixed.pop() if fixed else 0, shapes), axes=axes), []


def _sized(plan: ModelPlan, batches: dict[str, int], fixed: int, shapes: dict[str, tuple[int, ...]]) -> Fit:
    found = plan.tried.batch_max if plan.tried is not None else DEFAULT_BATCH
    asked = plan.batch_max or fixed or found
    limit, reason = asked, ""
    if without := [n for n, b in batches.items() if b == NO_AXIS] or ([] if batches else ["it"]):
        limit, reason = 1, f"one row per run: {', '.join(without)} has no batch axis"
    elif fixed and asked > fixed:
        limit, reason = fixed, f"{fixed} rows per run: the file fixes that number"
    is_told = plan.batch_max is not None and limit < asked
    return Fit(min(asked, limit), fixed, shapes, wanted_outputs(plan), (reason,) if is_told else ())


def wanted_outputs(plan: ModelPlan) -> tuple[str, ...]:
    """Those that were asked for; else all that can be had as arrays, if any can."""
    if plan.outputs is not None:
        return plan.outputs
    outputs = plan.manifest.onnx.outputs
    return tuple(o.name for o in outputs if not cannot_bind(o)) or tuple(o.name for o in outputs)


def _bad_inputs(plan: ModelPlan) -> list[str]:
    infos = {i.name: i for i in plan.inputs}
    given = {*plan.rows, *plan.constants}
    texts = [f"it has no input {n!r}; it has {', '.join(map(onnx_name, infos.values()))}" for n in sorted(given - infos.keys())]
    for info in infos.values():
        if info.name not in given:
            texts.append(f"its input {onnx_name(info)} gets nothing: give pipeline inputs.{info.name}")
        elif info.kind != "tensor":
            texts.append(f"its input {info.name} is a {info.kind}, which cannot be filled from numbers")
        elif 0 in (info.shape or ()) and info.name in plan.rows:
            fix = "export it again with that axis open (PyTorch: dynamic_shapes or dynamic_axes), or with its real size"
            texts.append(f"its input {onnx_name(info)} has an axis of size 0, so no sample fits into it; {fix}")
        elif info.dtype in (None, "string", "complex64", "complex128"):  # a string that is filled has numpy's type here
            texts.append(f"its input {onnx_name(info)} cannot be filled: numpy and sensors have no {info.dtype or info.element}")
    return texts


def _bad_outputs(plan: ModelPlan) -> list[str]:
    infos = {o.name: o for o in plan.manifest.onnx.outputs}
    texts = []
    for name in wanted_outputs(plan):
        info = infos.get(name)
        if info is None:
            texts.append(f"it has no output {name!r}; it has {', '.join(infos)}")
        elif text := cannot_bind(info):
            texts.append(text)
    return texts


def cannot_bind(output: TensorInfo) -> str:
    """Why an output cannot be had as an array; empty if it can."""
    if output.kind != "tensor":
        is_map = "map" in output.kind
        fix = (
            'export with options={"zipmap": False}' if is_map else "name others as output.tensor, or export its parts as tensors"
        )
        return f"output {output.name} is a {output.kind}, which cannot be bound; {fix}"
    if output.dtype in (None, "complex64", "complex128"):
        return f"output {onnx_name(output)} cannot be read: numpy has no {output.element or output.dtype}"
    return ""


def onnx_name(info: TensorInfo) -> str:
    """`x: float32[N,64]`."""
    return f"{info.name}: {info}"
