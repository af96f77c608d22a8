"""Checks of `decode`: its fields, and what it says for all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import (
    Decode,
    Element,
    FieldSpec,
    Table,
)
from edged.decode.formats import FORMATS, with_field_key
from edged.notation.field_paths import Step, flat, path_of_name
from edged.notation.patterns import groups_of
from edged.notation.widths import is_packed, width_of
from edged.notation.words import found_among, quoted

INHERITED = ("dtype", "scale", "offset", "unit", "valid", "shape", "base", "absent", "table")
"""Keys of `decode` that stand for those of every field that does not say its own."""
PARTLY_KNOWN = (
    *("path", "dtype", "size", "endian", "bits", "values", "after", "base", "absent"),
    *("repeat", "fields", "register", "table"),
)
"""Keys of a field that not every format has."""


def decode_fields(table: Decode, raw: Raw) -> Wrong:
    kind = FORMATS[table.format]
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    if len(given) == 1 and isinstance(given[0], str) and "," in given[0]:
        names = ", ".join(f'"{name.strip()}"' for name in given[0].split(",") if name.strip())
        yield "fields", f"expected a list of names, found one name with commas; write [{names}]"
        return
    for i, (spec, one) in enumerate(zip(table.fields, given, strict=True)):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        keys = one if isinstance(one, dict) else {}
        is_around = table.payload is not None and "path" in keys and not kind.is_by_path
        known = FORMATS["json"].field_keys if is_around else kind.field_keys
        for key in PARTLY_KNOWN:
            if key == "path" and kind.named is not None:
                continue  # topics may name fields: `checks.source` knows them
            if key in keys and key not in known:
                belongs = f"it belongs to {quoted(with_field_key(key))}"
                yield f"{at}.{key}", f'has no effect with format = "{table.format}"; {belongs}', "key"
        for where, one_of in _elements(at, spec):
            if kind.needs_dtype and one_of.dtype is None and table.dtype is None and not is_around:
                text = 'required: the type on the wire, such as "int16"; one for all fields: decode.dtype'
                yield f"{where}.dtype", text, "table"
        if spec.name == "_" and kind.is_by_path:
            yield at, f'"_" skips a column; {table.format} has none: leave the field out'
    counts = Counter(one.name for spec in table.fields for one in (spec, *spec.fields) if one.name != "_")
    for name, count in counts.items():
        if count > 1:
            last = max(i for i, spec in enumerate(table.fields) if name in (spec.name, *(one.name for one in spec.fields)))
            yield f"fields[{last}]", f'"{name}" is listed {count} times; each field needs a name of its own ("_" skips one)'
    if table.fields and all(one.name == "_" for spec in table.fields for one in spec.fields or (spec,)):
        yield "fields", 'expected a field that is not "_", found none'


def _elements(at: str, spec: FieldSpec) -> Iterator[tuple[str, Element]]:
    """The field, or those of a group, each with its place."""
    if not spec.fields:
        yield at, spec
    for i, one in enumerate(spec.fields):
        yield f"{at}.fields[{i}]", one


def _all_elements(table: Decode, raw: Raw) -> Iterator[tuple[str, Element]]:
    fields = raw.get("fields", [])
    for i, spec in enumerate(table.fields):
        yield from _elements(f"fields[{i}]" if isinstance(fields, list) else "fields", spec)


def groups(table: Decode, raw: Raw) -> Wrong:
    """Groups of fields that are repeated, and what `rows` may name."""
    names = [spec.name for spec in table.fields if spec.fields]
    for i, spec in enumerate(table.fields):
        if spec.repeat is not None and not spec.fields:
            yield f"fields[{i}].repeat", "has no effect without fields; n numbers of one type are shape = [n]", "key"
        if spec.fields and spec.repeat is None:
            yield f"fields[{i}].fields", "needs repeat, how often they come; write them as fields of their own if once", "key"
    if (
        table.rows is not None
        and FORMATS[table.format].is_records
        and table.rows not in ((Step.SELF,), *map(path_of_name, names))
    ):
        fix = found_among(flat(table.rows), [".", *names])
        yield "rows", f'expected "." (record after record) or the name of a field with repeat, {fix}'


def texts_in_messages(table: Decode, raw: Raw) -> Wrong:
    """Where values have no types of their own, only texts are said to be such."""
    if FORMATS[table.format].is_records or "dtype" not in FORMATS[table.format].field_keys:
        return
    for i, spec in enumerate(table.fields):
        fields = raw.get("fields", [])
        at, one = (f"fields[{i}]", fields[i]) if isinstance(fields, list) else ("fields", fields)
        if spec.dtype not in (None, "text"):
            yield (
                f"{at}.dtype",
                f'expected "text", found "{spec.dtype}": {table.format} says itself what is a number; leave it out',
            )
        elif spec.dtype is None and spec.size is not None:
            yield f"{at}.size", 'has no effect: only a text, dtype = "text", has a size', "key"
        for key in ("scale", "offset", "unit", "valid", "values", "shape"):
            if spec.dtype == "text" and isinstance(one, dict) and key in one:
                yield f"{at}.{key}", 'has no effect on a text, dtype = "text"', "key"


def texts_on_the_wire(table: Decode, raw: Raw) -> Wrong:
    if not FORMATS[table.format].needs_dtype:
        return
    for at, spec in _all_elements(table, raw):
        is_text = (spec.dtype or table.dtype) == "text"
        if is_text and spec.size is None:
            yield f"{at}.size", 'required for dtype = "text": how many bytes it has', "table"
        if not is_text and spec.size is not None:
            yield f"{at}.size", 'has no effect: the dtype says how large it is; only dtype = "text" has a size', "key"
        if not is_text and spec.values is not None:
            yield f"{at}.values", 'has no effect: they are for texts, dtype = "text"', "key"
        if not is_text and spec.base == 16:
            yield f"{at}.base", 'has no effect: it is for texts, dtype = "text"', "key"
        if is_text and spec.endian is not None:
            yield f"{at}.endian", "has no effect: a text has no byte order", "key"


def cut_off(table: Decode, raw: Raw) -> Wrong:
    """What stands for fields that a record does not have: those at its end."""
    if table.format != "struct":
        return
    is_end = True
    for i, spec in reversed([*enumerate(table.fields)]):
        for j, one in enumerate(spec.fields):
            if one.absent is not None:
                yield (
                    f"fields[{i}].fields[{j}].absent",
                    "has no effect in a group: only fields at the end of a record lack",
                    "key",
                )
        is_end &= spec.name == "_" or (not spec.fields and (spec.absent or table.absent) is not None)
        if spec.absent is not None and not is_end:
            text = "has no effect: bytes lack at the end of a record, so every field behind this one needs absent too"
            yield f"fields[{i}].absent", text, "key"


def overridden(table: Decode, raw: Raw) -> Wrong:
    """Keys of `decode` that stand for those of every field that does not say its own, where every field does."""
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    for key in INHERITED:
        is_of_skipped = key in ("dtype", "shape")  # of what is skipped too, on the wire
        takers = [
            one for spec, one in zip(table.fields, given, strict=True) if is_of_skipped or spec.name not in ("_", _time_of(table))
        ]
        if key in raw and takers and all(isinstance(one, dict) and key in one for one in takers):
            yield key, f"has no effect, since every field says its own {key}; remove it here, or there", "key"


def skipped(table: Decode, raw: Raw) -> Wrong:
    """What is said of the values of a field that has none: it is skipped, or a time."""
    fields = raw.get("fields", [])
    for i, spec in enumerate(table.fields):
        one = fields[i] if isinstance(fields, list) else fields
        is_time = spec.name == _time_of(table)
        if not isinstance(one, dict) or (spec.name != "_" and not is_time):
            continue
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        why = "the time of the sample, read as decode.time says" if is_time else "skipped"
        for key in ("scale", "offset", "unit", "valid", "values"):
            if key in one:
                yield f"{at}.{key}", f"has no effect: this field is {why}", "key"


def _time_of(table: Decode) -> str | None:
    return table.time.field if table.time is not None else None


def byte_order(table: Decode, raw: Raw) -> Wrong:
    types = {one.dtype or table.dtype or "float32" for _, one in _all_elements(table, raw)} or {table.dtype or "float32"}
    if "endian" in raw and types <= {"int8", "uint8", "bool", "text"}:
        yield "endian", f"has no effect on {quoted(sorted(types))}: one byte has no order", "key"


def numbers_on_the_wire(table: Decode, raw: Raw) -> Wrong:
    usual = "uint16" if table.format == "modbus" else ""
    for at, spec in _all_elements(table, raw):
        dtype, order = spec.dtype or table.dtype or usual, spec.endian or table.endian
        if spec.endian is not None and dtype in ("int8", "uint8", "bool"):
            yield f"{at}.endian", f'has no effect on "{dtype}": one byte has no order', "key"
        if dtype in ("int24", "uint24") and order in ("cdab", "badc"):
            key = f"{at}.endian" if spec.endian is not None else "endian"
            yield key, f'expected "big" or "little" for {dtype}, found "{order}": three bytes have no words'
        if is_packed(dtype):
            yield from _packed(at, dtype, order, spec.shape or table.shape or ())
        if spec.bits is None:
            continue
        if "int" not in dtype:
            yield f"{at}.bits", f'"{dtype}" is no whole number; bits are taken of such as "uint16"', "key"
        elif sum(spec.bits) > (width := int(dtype.lstrip("uint"))):
            yield f"{at}.bits", f"expected bits below {width}, those of {dtype}, found {list(spec.bits)}"


def _packed(at: str, dtype: str, order: str, shape: tuple[int, ...]) -> Wrong:
    """Numbers side by side, whose bits must end with a byte."""
    bits, count = width_of(dtype), math.prod(shape)
    if bits * count % 8:
        text = f"{count} of {dtype} are {bits * count} bits, no whole bytes; write how many stand side by side: shape = [8]"
        yield f"{at}.dtype", text
    if order not in ("big", "little"):
        yield f"{at}.dtype", f'expected endian "big" or "little" for {dtype}, found "{order}"'
    if at.count("fields") > 1:
        yield f"{at}.dtype", f"{dtype} cannot stand in a group that is repeated; use `bits` of whole bytes"


def text_fields(table: Decode, raw: Raw) -> Wrong:
    """Fields of text stand behind labels, or are groups of a pattern."""
    if table.format != "text":
        return
    groups = groups_of(table.pattern) if table.pattern is not None else None
    if groups is None and not table.fields:
        yield "fields", 'required: the values, such as { name = "t", after = "T" }; or a pattern with named groups', "table"
    fields = raw.get("fields", [])
    for i, (spec, one) in enumerate(zip(table.fields, fields if isinstance(fields, list) else [fields], strict=True)):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        if spec.name == "_":
            yield at, '"_" skips a column; text has none: leave the field out'
        elif groups is not None and spec.name not in groups:
            yield at, f"expected a group of decode.pattern, {found_among(spec.name, groups)}"
        if spec.shape or table.shape:
            yield f"{at}.shape", 'has no effect with format = "text"; name each number as a field of its own', "key"
        if groups is not None and isinstance(one, dict) and "after" in one:
            yield f"{at}.after", "has no effect with decode.pattern, whose groups are the fields", "key"


def messages(table: Decode, raw: Raw) -> Wrong:
    """What surrounds the values of a message: digits, a member, records that name their field."""
    kind = FORMATS[table.format]
    if table.encoding is not None and table.payload is None and not kind.is_binary:
        text = f'"{table.encoding}" of the whole payload, and format = "{table.format}" is not written so; name the member'
        yield "encoding", f'{text}: payload = "uplink_message.frm_payload"'
    if table.pattern is not None and not kind.is_by_pattern:
        groups = groups_of(table.pattern)
        if table.named_by is not None:
            yield "pattern", "has no effect with named_by, which reads members", "key"
        elif table.payload is None:
            text = f'required with pattern: the group that holds the {table.format}, such as "{next(iter(groups))}"'
            yield "payload", text, "table"
        elif flat(table.payload) not in groups:
            yield "payload", f"expected a group of decode.pattern, {found_among(flat(table.payload), groups)}"
    if table.named_by is not None and table.payload is None:
        yield "payload", 'required with named_by: the member that holds the value, such as payload = "value"', "table"
    if kind.is_of_pictures and table.time is not None and table.payload is None:
        yield "time", "has no effect on pictures without payload: a time stands in the message around a picture", "key"


def times(table: Decode, raw: Raw) -> Wrong:
    time, kind = table.time, FORMATS[table.format]
    if time is None:
        return
    given = raw["time"] if isinstance(raw["time"], dict) else {}
    if time.format == "arrival":
        if time.field is not None:
            yield "time.field", 'has no effect with format = "arrival": no time is read', "key"
    elif kind.times is not None and time.format not in kind.times:
        others = "".join(f', or "{one}" for its own' for one in kind.times)
        own = "" if kind.times else ", whose own times are taken without it"
        key = "time.format" if given else "time"
        yield key, f'has no effect with format = "{table.format}"{own}; write "arrival" for that of arrival{others}'
    elif time.field is not None and kind.times == ():
        yield "time.field", f'has no effect with format = "{table.format}"', "key"
    elif time.field is None and not kind.own_time and not kind.time_field:
        at = "time" if not isinstance(raw["time"], dict) else "time.field"
        yield at, 'required: the field that holds the time, such as { field = "ts", format = "unix_s" }', "table"
    if "zone" in given and time.format not in ("iso8601", "dsmr"):
        yield "time.zone", f'has no effect with format = "{time.format}", which has one; it belongs to "iso8601"', "key"
    if kind.is_records and time.format in ("rfc3339", "iso8601", "dsmr") and table.payload is None:
        yield "time.format", f'"{time.format}" is a text, and records of format = "{table.format}" hold numbers'


def known_names(table: Decode, raw: Raw) -> Wrong:
    """Formats whose names are known."""
    kind = FORMATS[table.format]
    if not kind.is_flat:
        return
    fields, names = raw.get("fields", []), kind.names.get() if kind.names is not None else ()
    for i, spec in enumerate(table.fields):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        name = flat(spec.path or path_of_name(spec.name))
        if names and name not in names and not any(one.endswith(".") and name.startswith(one) for one in names):
            known = [f"{one}NAME" if one.endswith(".") else one for one in names]
            yield at, f'expected a name that format = "{table.format}" has, {found_among(name, known)}'
        if spec.shape:
            yield f"{at}.shape", f'has no effect with format = "{table.format}", whose values are numbers', "key"


def picture(table: Decode, raw: Raw) -> Wrong:
    """A picture is one field, and its pixels are no values to be scaled or judged."""
    if not FORMATS[table.format].is_of_pictures:
        return
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    if len(given) > 1:
        yield "fields", f"expected one name, what the picture is called, found {len(given)}"
    for i, one in enumerate(given):
        at = f"fields[{i}]" if isinstance(fields, list) else "fields"
        for key in ("scale", "offset", "unit", "valid", "shape") if isinstance(one, dict) else ():
            if key in one:
                yield f"{at}.{key}", f'has no effect with format = "{table.format}"; preprocess has the steps for pictures', "key"


def fill_fields(table: Decode, raw: Raw) -> Decode:
    """Fields with what `decode` says for all of them, and with the path that follows from their name."""
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    specs: Sequence[FieldSpec] = table.fields
    kind = FORMATS[table.format]
    if not specs and kind.default_field:
        specs, given = (FieldSpec(name=kind.default_field),), [{}]
    elif not specs and table.pattern is not None and kind.is_by_pattern:
        specs = [FieldSpec(name=name) for name in groups_of(table.pattern)]
        given = [{}] * len(specs)
    filled = []
    for spec, one in zip(specs, given, strict=True):
        own = one if isinstance(one, dict) else {}
        changes: dict[str, Any] = {
            key: getattr(table, key) for key in INHERITED if key not in own and getattr(table, key) is not None
        }
        if not spec.path and (table.payload is None or kind.is_by_path):
            changes["path"] = path_of_name(spec.name)
        if spec.fields:
            changes = {"path": (spec.name,), "fields": _filled_members(table, spec, own)}
        if kind.default_dtype and spec.dtype is None and "dtype" not in changes:
            changes["dtype"] = kind.default_dtype
        filled.append(msgspec.structs.replace(spec, **changes))
    return msgspec.structs.replace(table, fields=tuple(filled))


def _filled_members(table: Decode, spec: FieldSpec, raw: Raw) -> tuple[Element, ...]:
    """The fields of a group with what `decode` says for all of them."""
    fields = raw.get("fields", [])
    given = fields if isinstance(fields, list) else [fields]
    inherited = {key: getattr(table, key) for key in INHERITED if getattr(table, key) is not None}
    return tuple(
        msgspec.structs.replace(one, **{k: v for k, v in inherited.items() if not isinstance(own, dict) or k not in own})
        for one, own in zip(spec.fields, given, strict=True)
    )


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Decode: (
        Rule(("format", "fields", "dtype"), decode_fields),
        Rule(("fields", "time"), overridden),
        Rule(("fields", "time"), skipped),
        Rule(("format", "fields", "dtype", "endian"), byte_order),
        Rule(("fields", "dtype", "endian"), numbers_on_the_wire),
        Rule(("format", "fields", "rows"), groups),
        Rule(("format", "fields", "dtype"), texts_on_the_wire),
        Rule(("format", "fields", "absent"), cut_off),
        Rule(("format", "fields"), texts_in_messages),
        Rule(("format", "fields"), picture),
        Rule(("format", "fields", "pattern", "shape"), text_fields),
        Rule(("format", "payload", "pattern", "encoding", "named_by", "time"), messages),
        Rule(("format", "payload", "time"), times),
        Rule(("format", "fields"), known_names),
    ),
}
