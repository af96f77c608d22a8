"""Settings of `decode`, `frame` and `checksum` to a DecodePlan, or what is wrong with them together.

Owns where the columns of a field lie in a row, and which fields are times and keys. Each setting by itself was checked when
the file was loaded; here is what only shows when they meet. Knows nothing of bytes.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.config.parsers.names import path_of_name
from edged.decode.resize import View
from edged.errors import Problem

if TYPE_CHECKING:
    from edged.config import schema

PathParts = tuple["str | int", ...]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One field on the wire. Columns `start:stop` of a row are its values; both are -1 for a time, a key and `_`."""

    name: str
    path: PathParts
    dtype: np.dtype[Any] | None = None
    scale: float = 1.0
    offset: float = 0.0
    valid: tuple[float, float] | None = None
    values: Mapping[str, float] | None = None
    shape: tuple[int, ...] = ()
    start: int = -1
    stop: int = -1

    @property
    def count(self) -> int:
        """Numbers in it: 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def is_value(self) -> bool:
        return self.start >= 0


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """All that a decoder needs. `fields` are in wire order, `_` included; `width` numbers make a row of `dtype`."""

    format: str
    fields: tuple[FieldPlan, ...]
    width: int
    dtype: np.dtype[Any]
    time_field: str | None = None
    time_format: str | None = None
    key_fields: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()
    on_bad: str = "drop"
    header: bool = False
    separator: str = ","
    endian: str = "little"
    max_bytes: int = 4096
    frame: schema.Frame | None = None
    checksum: schema.Checksum | None = None
    max_keys: int = 256
    max_pixels: int = 0
    views: tuple[View, ...] = ()
    """Of pictures: what they are brought to, each a field of its own; and the largest that is decoded."""

    @property
    def is_slow(self) -> bool:
        """Whether decoding takes too long for the loop: a picture of a camera takes 1 to 100 ms."""
        return self.format == "image"

    @property
    def value_fields(self) -> tuple[FieldPlan, ...]:
        return tuple(field for field in self.fields if field.is_value)

    def field(self, name: str) -> FieldPlan:
        return next(field for field in self.fields if field.name == name)


def plan_decode(
    decode: schema.Decode,
    key_fields: Sequence[str] = (),
    on_bad: str = "drop",
    max_bytes: int = 4096,
    frame: schema.Frame | None = None,
    checksum: schema.Checksum | None = None,
    dtype: Any = np.float32,
    max_keys: int = 256,
    carry: Sequence[str] = (),
    views: Sequence[View] = (),
) -> DecodePlan | list[Problem]:
    """The plan, or every problem of it, with paths below the source (`decode.fields[2].dtype`).

    `key_fields` are the names in `key` that are no topic captures. `dtype` is that of the rows: float32 or float64.
    `max_keys` bounds the sensors whose last good values are remembered. `views` are what pictures are brought to.
    """
    if decode.format == "image":
        return _plan_pictures(decode, max_bytes, frame, checksum, max_keys, views)
    time_field = decode.time.field if decode.time is not None else None
    named = tuple(dict.fromkeys([*([] if time_field is None else [time_field]), *key_fields]))
    fields: list[FieldPlan] = []
    width = 0
    for spec in decode.fields:
        is_value = spec.name != "_" and spec.name not in named
        fields.append(_plan_field(decode, spec, width if is_value else None))
        width += fields[-1].count if is_value else 0
    declared = {field.name for field in fields}
    fields += [FieldPlan(name, path_of_name(name)) for name in named if name not in declared]
    problems = _problems(decode, fields, width)
    if problems:
        return problems
    return DecodePlan(
        format=decode.format,
        fields=tuple(fields),
        width=width,
        dtype=np.dtype(dtype),
        time_field=time_field,
        time_format=None if decode.time is None else decode.time.format,
        key_fields=tuple(key_fields),
        carry=tuple(carry),
        on_bad=on_bad,
        header=decode.header,
        separator=decode.separator,
        endian=decode.endian,
        max_bytes=max_bytes,
        frame=frame,
        checksum=checksum,
        max_keys=max_keys,
    )


def _plan_pictures(
    decode: schema.Decode,
    max_bytes: int,
    frame: schema.Frame | None,
    checksum: schema.Checksum | None,
    max_keys: int,
    views: Sequence[View],
) -> DecodePlan | list[Problem]:
    """One field for each view, all of one name."""
    if importlib.util.find_spec("PIL") is None:
        return [Problem("decode.format", '"image" needs the package Pillow: pip install "edged[image]"')]
    name, start, fields = decode.fields[0].name, 0, []
    for view in views:
        stop = start + view.nbytes
        fields.append(FieldPlan(name, (name,), np.dtype(np.uint8), shape=view.shape, start=start, stop=stop))
        start = stop
    return DecodePlan(
        format=decode.format,
        fields=tuple(fields),
        width=start,
        dtype=np.dtype(np.uint8),
        max_bytes=max_bytes,
        frame=frame,
        checksum=checksum,
        max_keys=max_keys,
        max_pixels=decode.max_pixels,
        views=tuple(views),
    )


def _plan_field(decode: schema.Decode, spec: schema.FieldSpec, start: int | None) -> FieldPlan:
    dtype = None
    if spec.dtype is not None:
        dtype = np.dtype(spec.dtype).newbyteorder("<" if decode.endian == "little" else ">")
    columns = (-1, -1) if start is None else (start, start + math.prod(spec.shape))
    path = spec.path or path_of_name(spec.name)
    return FieldPlan(spec.name, path, dtype, spec.scale, spec.offset, spec.valid, spec.values, spec.shape, *columns)


def _problems(decode: schema.Decode, fields: list[FieldPlan], width: int) -> list[Problem]:
    problems = []
    if width == 0:
        problems.append(Problem("decode.fields", "no field is left for the model: all are times, keys or skipped"))
    for i, field in enumerate(fields):
        if decode.format in ("struct", "raw") and field.dtype is None:
            problems.append(
                Problem(f"decode.fields[{i}]", f'"{field.name}" needs its place on the wire and a dtype: add it to fields')
            )
        if decode.format == "csv" and decode.header and field.shape:
            problems.append(
                Problem(f"decode.fields[{i}].shape", "a header names single columns: name each as a field of its own")
            )
    if decode.format == "raw" and len({field.dtype for field in fields}) > 1:
        problems.append(Problem("decode.fields", 'raw is rows of one type; for fields of several types: format = "struct"'))
    separator = decode.separator
    if decode.format == "csv" and (
        len(separator) != 1 or not separator.isascii() or separator.isalnum() or separator in "+-._\r\n\0"
    ):
        text = f'expected one character that no number has, such as "," ";" or "\\t", found {separator!r}'
        problems.append(Problem("decode.separator", text))
    return problems
