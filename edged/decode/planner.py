"""Settings of `decode`, `frame` and `checksum` to a DecodePlan, or what is wrong with them together.

Owns where the columns of a field lie in a row, and which fields are times and keys. Each setting by itself was checked when
the file was loaded; here is what only shows when they meet. Knows nothing of bytes.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec.structs import replace

from edged.decode.formats import FORMATS
from edged.decode.letters import CHARACTERS
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.resize import View
from edged.decode.times import ZONED
from edged.decode.where import Condition
from edged.decode.wire import Packed, Wire, packed, wire_of
from edged.errors import Problem
from edged.notation.field_paths import Path, Step, flat, path_of_name
from edged.notation.widths import is_packed

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
    is_named: bool = False,
    stale_ns: int | None = None,
    is_around: bool = False,
) -> DecodePlan | list[Problem]:
    """The plan, or every problem of it, with paths below the source (`decode.fields[2].dtype`).

    `key_fields` are the names in `key` that are no topic captures, `where` the conditions on what is none. `dtype` is that of
    the rows: float32 or float64. `max_keys` bounds the sensors whose last good values are remembered. `views` are what pictures
    are brought to. `rate` is that of the source.
    are brought to. `is_named`: topics name the field that a message carries; of such the values of the others are held, for
    `stale_ns` at most. `is_around`: of JSON around a payload, which may hold no value.
    """
    kind = FORMATS[decode.format]
    is_named = is_named or decode.named_by is not None
    if problems := list(_packages(decode)):
        return problems
    if decode.payload is not None and not is_named:
        return _plan_inside(decode, key_fields, on_bad, max_bytes, frame, checksum, dtype, max_keys, carry, views, where)
    if kind.is_of_pictures:
        return _plan_pictures(decode, max_bytes, frame, checksum, max_keys, views)
    time_field, time_format = _time(decode)
    conditions = [condition.name for condition in where]
    named = tuple(dict.fromkeys([*([] if time_field is None else [time_field]), *key_fields, *conditions]))
    fields: list[FieldPlan] = []
    width = 0
    for field in _wire_fields(decode, is_named):
        is_value = field.name != "_" and field.name not in named
        fields.append(replace(field, start=width, stop=width + field.count) if is_value else field)
        width += field.count if is_value else 0
    declared = {field.name for field in fields}
    base = decode.base or 10
    fields += [FieldPlan(name, _path(decode, name), after=name, base=base) for name in named if name not in declared]
    problems = [] if is_around else list(_no_values(width))
    if kind.misfits is not None:
        problems += kind.misfits.get()(decode, fields)
    if problems:
        return problems
    return DecodePlan(
        format=decode.format,
        fields=tuple(fields),
        width=width,
        dtype=np.dtype(dtype),
        time_field=time_field,
        time_format=time_format,
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
        encoding=decode.encoding,
        compress=decode.compress,
        payload=decode.payload,
        rows=(Step.SELF,) if kind.is_flat else decode.rows,
        named_by=decode.named_by,
        is_named=is_named,
        stale_ns=stale_ns if is_named else None,
        max_bytes=max_bytes,
        rate=rate if kind.has_rate else None,
        frame=frame,
        checksum=checksum,
        max_keys=max_keys,
    )


def _plan_inside(
    decode: schema.Decode,
    key_fields: Sequence[str],
    on_bad: str,
    max_bytes: int,
    frame: schema.Frame | None,
    checksum: schema.Checksum | None,
    dtype: Any,
    max_keys: int,
    carry: Sequence[str],
    views: Sequence[View],
    where: tuple[Condition, ...],
) -> DecodePlan | list[Problem]:
    """With `payload`: one plan for what is read from it, and one for JSON around it. Times, keys and conditions are read from
    around it, unless they are fields of what is in it."""
    kind = FORMATS[decode.format]
    outer = [spec for spec in decode.fields if _is_outer(spec, kind.is_by_path)]
    inner = [spec for spec in decode.fields if spec not in outer]
    declared = {spec.name for spec in inner}
    is_time_inside = decode.time is not None and (
        decode.time.field in declared or (not decode.time.field and kind.own_time != "")
    )
    inside = plan_decode(
        msgspec.structs.replace(
            decode,
            payload=None,
            pattern=decode.pattern if kind.is_by_pattern else None,
            encoding=None,
            compress=None,
            fields=tuple(inner),
            time=decode.time if is_time_inside else None,
        ),
        [name for name in key_fields if name in declared],
        on_bad,
        max_bytes,
        frame,
        checksum,
        dtype,
        max_keys,
        views=views,
        where=tuple(one for one in where if one.name in declared),
    )
    around = plan_decode(
        _around(decode, outer, None if is_time_inside else decode.time),
        [name for name in key_fields if name not in declared],
        on_bad,
        max_bytes,
        dtype=dtype,
        max_keys=max_keys,
        carry=carry,
        where=tuple(one for one in where if one.name not in declared),
        is_around=True,
    )
    problems = [problem for one in (inside, around) if not isinstance(one, DecodePlan) for problem in one]
    if not isinstance(inside, DecodePlan) or not isinstance(around, DecodePlan):
        return problems
    fields, width = [], 0
    found = {field.name: field for field in (*inside.value_fields, *around.value_fields)}
    order = {spec.name: i for i, spec in enumerate(decode.fields)}
    values = [*inside.value_fields] if kind.is_of_pictures else sorted(found.values(), key=lambda field: order[field.name])
    for field in values:
        fields.append(replace(field, start=width, stop=width + field.stop - field.start))
        width = fields[-1].stop
    return replace(
        inside,
        fields=tuple(fields),
        width=width,
        time_field=around.time_field or inside.time_field,
        time_format=around.time_format or inside.time_format,
        key_fields=tuple(key_fields),
        carry=tuple(carry),
        payload=decode.payload,
        encoding=decode.encoding,
        compress=decode.compress,
        around=around,
        inside=inside,
        is_slow=inside.is_slow,
    )


def _is_outer(spec: schema.FieldSpec, is_by_path: bool) -> bool:
    """Whether a field is read from around the payload: where it has a path, or one from the root on where all have one."""
    return spec.path[:1] == (Step.ROOT,) if is_by_path else bool(spec.path)


def _around(decode: schema.Decode, fields: Sequence[schema.FieldSpec], time: schema.Time | None) -> schema.Decode:
    """What is read from around a payload: JSON, or the groups of a pattern as its members."""
    pattern = None if FORMATS[decode.format].is_by_pattern else decode.pattern
    specs = tuple(
        msgspec.structs.replace(spec, dtype="text" if _is_text(decode, spec) else None, endian=None, bits=None) for spec in fields
    )
    plain = msgspec.structs.replace(decode, payload=None, encoding=None, compress=None, rows=None, pattern=pattern)
    return msgspec.structs.replace(plain, format="json", fields=specs, time=time)


def _is_text(decode: schema.Decode, spec: schema.Element) -> bool:
    return spec.dtype == "text" and not FORMATS[decode.format].needs_dtype


def _time(decode: schema.Decode) -> tuple[str | None, str | None]:
    """The field of the time, and how it is written; none where samples are stamped on arrival."""
    own = FORMATS[decode.format].own_time
    time = decode.time
    if time is None:
        return None, own or None
    if time.format == "arrival":
        return None, None
    written = f"{time.format} {time.zone or ZONED[time.format]}" if time.format in ZONED else time.format
    return time.field or FORMATS[decode.format].time_field or None, written


def _path(decode: schema.Decode, name: str) -> Path:
    path = path_of_name(name)
    return (flat(path),) if FORMATS[decode.format].is_flat else path


def _packages(decode: schema.Decode) -> Iterator[Problem]:
    package = FORMATS[decode.format].package
    if package and importlib.util.find_spec(package) is None:
        yield Problem("decode.format", f'"{decode.format}" needs the package {package}: pip install "edged[{decode.format}]"')
    if decode.compress is not None:
        from edged.decode.opened import missing_package

        if text := missing_package(decode.compress):
            yield Problem("decode.compress", text)


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
        encoding=decode.encoding,
        compress=decode.compress,
        max_pixels=decode.max_pixels,
        views=tuple(views),
        is_slow=True,
    )


def _wire_fields(decode: schema.Decode, is_named: bool) -> Iterator[FieldPlan]:
    """The fields in wire order, those of groups in place of the groups. Which columns they have is not known yet."""
    kind = FORMATS[decode.format]
    default = "hold" if is_named else kind.absent
    for spec in decode.fields:
        path = spec.path or path_of_name(spec.name)
        after = spec.name if spec.after is None else spec.after
        if not spec.fields:
            yield replace(_plan_field(decode, spec, default), path=(flat(path),) if kind.is_flat else path, after=after)
        for one in spec.fields:
            times, is_split = spec.repeat or 1, decode.rows == path_of_name(spec.name)
            shape = one.shape if is_split else (times, *one.shape)
            field = _plan_field(decode, one, default)
            yield replace(field, shape=shape, group=spec.name, repeat=times, is_split=is_split)


def _plan_field(decode: schema.Decode, spec: schema.Element, absent: str | None) -> FieldPlan:
    dtype: np.dtype[Any] | None = None
    wire: Wire | Packed | None = None
    is_text = _is_text(decode, spec)
    if is_text:
        pass
    elif spec.dtype == "text":
        dtype = np.dtype(f"S{spec.size}")
    elif spec.dtype is not None:
        order = spec.endian or decode.endian
        is_side_by_side = is_packed(spec.dtype)
        wire = packed(spec.dtype, order, math.prod(spec.shape)) if is_side_by_side else wire_of(spec.dtype, order, spec.bits)
        dtype = np.dtype(f"V{wire.size}") if wire else np.dtype(spec.dtype).newbyteorder("<" if order == "little" else ">")
    return FieldPlan(
        name=spec.name,
        path=(spec.name,),
        dtype=dtype,
        scale=spec.scale,
        offset=spec.offset,
        valid=spec.valid,
        values=spec.values,
        shape=(spec.size or CHARACTERS,) if is_text else spec.shape,
        wire=wire,
        is_text=is_text,
        base=spec.base,
        absent=spec.absent if spec.absent is not None else absent,
        unit=spec.unit,
    )


def _no_values(width: int) -> Iterator[Problem]:
    if width == 0:
        yield Problem("decode.fields", "no field is left for the model: all are times, keys, named by where or skipped")
