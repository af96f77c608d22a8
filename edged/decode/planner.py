"""Settings of `decode`, `frame` and `checksum` to a DecodePlan, or what is wrong with them together.

Owns where the columns of a field lie in a row, and which fields are times and keys. Each setting by itself was checked when
the file was loaded; here is what only shows when they meet. Knows nothing of bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.config.parsers.names import path_of_name
from edged.decode.formats import FORMATS
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.resize import View
from edged.decode.where import Condition
from edged.decode.wire import wire_of
from edged.errors import Problem

if TYPE_CHECKING:
    from edged.config import schema


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
    where: tuple[Condition, ...] = (),
    rate: float | None = None,
) -> DecodePlan | list[Problem]:
    """The plan, or every problem of it, with paths below the source (`decode.fields[2].dtype`).

    `key_fields` are the names in `key` that are no topic captures, `where` the conditions on what is none. `dtype` is that of
    the rows: float32 or float64. `max_keys` bounds the sensors whose last good values are remembered. `views` are what pictures
    are brought to. `rate` is that of the source.
    """
    kind = FORMATS[decode.format]
    if kind.is_of_pictures:
        return _plan_pictures(decode, max_bytes, frame, checksum, max_keys, views)
    time_field = decode.time.field if decode.time is not None else None
    conditions = [condition.name for condition in where]
    named = tuple(dict.fromkeys([*([] if time_field is None else [time_field]), *key_fields, *conditions]))
    fields: list[FieldPlan] = []
    width = 0
    for field in _wire_fields(decode):
        is_value = field.name != "_" and field.name not in named
        fields.append(replace(field, start=width, stop=width + field.count) if is_value else field)
        width += field.count if is_value else 0
    declared = {field.name for field in fields}
    base = decode.base or 10
    fields += [FieldPlan(name, path_of_name(name), after=name, base=base) for name in named if name not in declared]
    problems = [*_no_values(width), *kind.misfits(decode, fields)]
    if problems:
        return problems
    return DecodePlan(
        format=decode.format,
        fields=tuple(fields),
        width=width,
        dtype=np.dtype(dtype),
        time_field=time_field,
        time_format=decode.time.format if decode.time is not None else kind.own_time or None,
        key_fields=tuple(key_fields),
        carry=tuple(carry),
        on_bad=on_bad,
        header=decode.header,
        separator=decode.separator,
        pattern=decode.pattern,
        decimal=decode.decimal,
        where=where,
        endian=decode.endian,
        rest=decode.rest,
        rows=decode.rows or "",
        max_bytes=max_bytes,
        rate=rate if kind.has_rate else None,
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
        is_slow=True,
    )


def _wire_fields(decode: schema.Decode) -> Iterator[FieldPlan]:
    """The fields in wire order, those of groups in place of the groups. Which columns they have is not known yet."""
    for spec in decode.fields:
        path = spec.path or path_of_name(spec.name)
        after = spec.name if spec.after is None else spec.after
        if not spec.fields:
            yield replace(_plan_field(decode, spec), path=path, after=after)
        for one in spec.fields:
            times, is_split = spec.repeat or 1, decode.rows == spec.name
            shape = one.shape if is_split else (times, *one.shape)
            yield replace(_plan_field(decode, one), shape=shape, group=spec.name, repeat=times, is_split=is_split)


def _plan_field(decode: schema.Decode, spec: schema.Element) -> FieldPlan:
    dtype, wire = None, None
    if spec.dtype == "text":
        dtype = np.dtype(f"S{spec.size}")
    elif spec.dtype is not None:
        order = spec.endian or decode.endian
        wire = wire_of(spec.dtype, order, spec.bits)
        dtype = np.dtype(f"V{wire.size}") if wire else np.dtype(spec.dtype).newbyteorder("<" if order == "little" else ">")
    return FieldPlan(
        name=spec.name,
        path=(spec.name,),
        dtype=dtype,
        scale=spec.scale,
        offset=spec.offset,
        valid=spec.valid,
        values=spec.values,
        shape=spec.shape,
        wire=wire,
        base=spec.base,
        unit=spec.unit,
    )


def _no_values(width: int) -> Iterator[Problem]:
    if width == 0:
        yield Problem("decode.fields", "no field is left for the model: all are times, keys, named by where or skipped")
