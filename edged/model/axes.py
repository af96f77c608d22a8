"""Which axis of a tensor counts rows, where that is not the first: recurrent layers of PyTorch take `[time, N, features]`.

Everywhere else rows come first. `rows_first` says so once, when a file has been read; only what touches the session turns them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from edged.model.onnx_file import OnnxFile, TensorInfo

BATCH = re.compile(r"(n|b|bs|.*batch.*)", re.IGNORECASE)
OTHER = re.compile(r".*(time|seq|step|frame|len|height|width|sample|channel|class).*|t|h|w|l", re.IGNORECASE)
"""Names that exporters and their users give to axes that count rows, and to others."""


def rows_first(onnx: OnnxFile, said: int | None, apart: Collection[str] = ()) -> OnnxFile:
    """The file with the axis that counts rows in front of every tensor. `said` is what the manifest says of it: its place, -1 for
    none, None for nothing. What the model remembers, `apart`, has its own rules (`model/recurrent.py`)."""
    if said is not None and said <= 0:
        return onnx
    names: set[str] = set()
    inputs = [_input(i, onnx.outputs, said, names) if i.name not in apart else i for i in onnx.inputs]
    if all(i.row_axis == 0 for i in inputs):
        return onnx
    outputs = [_output(o, said, names) if o.name not in apart else o for o in onnx.outputs]
    return dataclasses.replace(onnx, inputs=tuple(inputs), outputs=tuple(outputs))


def as_filed(info: TensorInfo) -> TensorInfo:
    return replace(info, shape=info.filed, row_axis=0)


def _input(info: TensorInfo, outputs: Sequence[TensorInfo], said: int | None, names: set[str]) -> TensorInfo:
    shape = info.shape or ()
    axis = 0 if info.row_axis else said if said is not None else _row_axis(shape, outputs)
    if axis >= len(shape):
        return info
    if isinstance(name := shape[axis], str):
        names.add(name)
    return _turned(info, axis)


def _row_axis(shape: Sequence[int | str | None], outputs: Sequence[TensorInfo]) -> int:
    """The open axis whose name the outputs share; the first, if that may be it as well."""
    shared = [k for k, n in enumerate(shape) if isinstance(n, str) and any(n in (o.shape or ()) for o in outputs)]
    batches = [k for k in shared if BATCH.fullmatch(str(shape[k]))]
    likely = batches or [k for k in shared if not OTHER.fullmatch(str(shape[k]))]
    if not likely or 0 in likely or len(likely) > 1:
        return 0
    first = shape[0]
    if first == 1 or first is None:  # one row, or whatever comes first
        return likely[0] if batches and first == 1 else 0
    if isinstance(first, str) and BATCH.fullmatch(first):
        return 0
    return likely[0]


def _output(info: TensorInfo, said: int | None, names: Collection[str]) -> TensorInfo:
    """Rows come out along the axis of the same name; without names along the same axis, if the file leaves that open."""
    if info.row_axis:
        return info
    shape = info.shape or ()
    axis = next((k for k, n in enumerate(shape) if n in names), None)
    if axis is None and said is not None:
        axis = said if said < len(shape) and not isinstance(shape[said], int) else 0
    return _turned(info, axis) if axis else info


def _turned(info: TensorInfo, axis: int) -> TensorInfo:
    shape = info.shape or ()
    return replace(info, shape=(shape[axis], *shape[:axis], *shape[axis + 1 :]), row_axis=axis) if axis else info
