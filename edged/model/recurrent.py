"""What a model remembers: outputs of one run that are inputs of the next, and where their rows lie.

Memory is kept by key, so its rows are batched like all others. Recurrent layers count rows along a later axis than everybody
else, `float32[2,N,64]`: only what touches the session knows that, everywhere else a row is `[2,64]` and rows come first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.model.axes import as_filed, rows_first
from edged.model.onnx_file import OnnxFile, Shape, TensorInfo
from edged.notation.words import did_you_mean

Array = NDArray[Any]


class StatePlan(msgspec.Struct, frozen=True):
    """`output` of a run is `input` of the next one of the same key; both are `dtype`.

    `shape` is that of a row. `axis` counts rows in both tensors and takes `batch` of them at once (0: any number); None where
    there is no such axis, and one row is the whole tensor. `starts`: what it begins with, by key; zeros for any other.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    axis: int | None
    batch: int = 0
    starts: tuple[tuple[str, tuple[float, ...]], ...] = ()

    @property
    def is_turned(self) -> bool:
        """Whether the tensor's numbers are in another order than those of its rows, once there are several rows."""
        return self.axis is not None and math.prod(self.shape[: self.axis]) > 1

    @property
    def tensor(self) -> tuple[int, ...]:
        """The tensor's shape, with -1 for the axis that counts rows."""
        return self.shape if self.axis is None else (*self.shape[: self.axis], -1, *self.shape[self.axis :])


def plan_states(onnx: OnnxFile, pairs: Mapping[str, str], batch_axis: int | None) -> tuple[tuple[StatePlan, ...], list[str]]:
    """One plan for each of `pairs`, input by output, and what is wrong with them. `batch_axis` is what the manifest says."""
    problems = list(_unknown(onnx, pairs))
    if problems:
        return (), problems
    inputs = {i.name: as_filed(i) for i in onnx.inputs}
    outputs = {o.name: as_filed(o) for o in onnx.outputs}
    turned = rows_first(onnx, batch_axis, [*pairs, *pairs.values()])
    counted = {i.shape[0] for i in turned.inputs if i.shape and i.name not in pairs.values()}
    plans = []
    for output, name in pairs.items():
        found = _pair(outputs[output], inputs[name], counted, batch_axis)
        if isinstance(found, str):
            problems.append(found)
        else:
            plans.append(found)
    return tuple(plans), problems


def _unknown(onnx: OnnxFile, pairs: Mapping[str, str]) -> Iterator[str]:
    outputs, inputs = [o.name for o in onnx.outputs], [i.name for i in onnx.inputs]
    for output, name in pairs.items():
        is_swapped = output in inputs and name in outputs
        if output not in outputs:
            fix = f'; it is written output = "input": {name} = "{output}"' if is_swapped else did_you_mean(output, outputs)
            yield f'the model has no output "{output}"; it has {", ".join(outputs)}{fix}'
        if name not in inputs and not is_swapped:
            yield f'the model has no input "{name}"; it has {", ".join(inputs)}{did_you_mean(name, inputs)}'
    for name in dict.fromkeys(pairs.values()):
        if len(both := [o for o, i in pairs.items() if i == name]) > 1:
            yield f"{name} is filled from {' and from '.join(both)}; one output fills it"


def _pair(output: TensorInfo, given: TensorInfo, counted: set[int | str | None], batch_axis: int | None) -> StatePlan | str:
    if given.kind != "tensor" or given.dtype in (None, "string", "complex64", "complex128") or given.shape is None:
        return f"{given.name} is {given}: a state must be a tensor of numbers of a known size"
    if output.kind != "tensor" or output.dtype != given.dtype or not _are_alike(output.shape, given.shape):
        return f"{output.name} is {output}, {given.name} is {given}; the two ends of a state must be alike"
    axis = None if batch_axis == -1 else _rows_of(given.shape, counted)
    sizes = given.shape if axis is None else (*given.shape[:axis], *given.shape[axis + 1 :])
    shape = tuple(n for n in sizes if isinstance(n, int))
    if len(shape) < len(sizes):
        return f"{given.name} is {given}: the size of a state must be known, only the axis that counts rows may be open"
    assert given.dtype is not None
    batch = 0 if axis is None else given.shape[axis]
    return StatePlan(given.name, output.name, shape, given.dtype, axis, batch if isinstance(batch, int) else 0)


def _are_alike(a: Shape | None, b: Shape) -> bool:
    """Open axes may have any size."""
    if a is None:
        return True
    return len(a) == len(b) and all(not isinstance(n, int) or not isinstance(m, int) or n == m for n, m in zip(a, b, strict=True))


def _rows_of(shape: Shape, counted: set[int | str | None]) -> int | None:
    """The axis that counts rows: named as that of other inputs, else the only open one, else of a fixed number of several rows
    the first of that size. Of a single row nobody needs to know."""
    named = [axis for axis, n in enumerate(shape) if isinstance(n, str) and n in counted]
    is_open = [axis for axis, n in enumerate(shape) if not isinstance(n, int)]
    fixed = [axis for axis, n in enumerate(shape) if isinstance(n, int) and n > 1 and n in counted]
    return next(iter((*named, *is_open, *fixed)), None)


def as_rows(tensor: Array, axis: int | None) -> Array:
    """A tensor with its rows first."""
    if axis is None:
        return tensor[None]
    rows: Array = np.moveaxis(tensor, axis, 0)
    return rows


def as_tensor(rows: Array, axis: int | None) -> Array:
    """The opposite, contiguous."""
    if axis is None:
        alone: Array = rows[:1].reshape(rows.shape[1:])  # an array also where it is a single number
        return alone
    tensor: Array = np.ascontiguousarray(np.moveaxis(rows, 0, axis))
    return tensor
