"""The configuration's schema as a JSON Schema (draft 7), for editors and for whoever writes configurations by program.

Made from the same tables as the reference page, so a key that is added there is here too. It says what can be said of one
key and of the type that its table is of; what holds between keys, tables and files, `edged check` says. It never refuses what
edged accepts: a value whose form is not in `FORMS` may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from edged.config.introspection import Attribute, attributes, is_table, types_of, unwrap, variants
from edged.config.parsers.choices import BYTE_ORDERS, DTYPES, Providers
from edged.config.parsers.names import NAME
from edged.config.parsers.numbers import MAX_WORKERS
from edged.config.parsers.paths import STEP_NAME, STEPS
from edged.config.parsers.value import Value
from edged.config.reference import default_of
from edged.config.schema import Config, Several, Source, Table
from edged.notation.units import DURATION_UNITS, RATE_UNITS, SIZE_UNITS
from edged.notation.widths import PACKED_TYPE

Json = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
FUNCTION = "file.py:function"


def _with_unit(units: Iterable[str]) -> Json:
    return {"type": "string", "pattern": rf"^\s*\d+(\.\d+)?\s*({'|'.join(map(re.escape, units))})\s*$"}


def _any(*forms: Json) -> Json:
    return {"anyOf": list(forms)}


def _list_of(form: Json, at_least: int = 0, at_most: int | None = None) -> Json:
    most = {} if at_most is None else {"maxItems": at_most}
    return {"type": "array", "items": form, "minItems": at_least, **most}


_TEXT: Json = {"type": "string", "minLength": 1}
_INT: Json = {"type": "integer"}
_NUMBER: Json = {"type": "number"}
_BOOL: Json = {"type": "boolean"}
_DURATION = _with_unit(DURATION_UNITS)
_FUNCTION: Json = {"type": "string", "pattern": r"\.py:[^:]+$"}
_OUTSIDE: Json = {
    "type": "object",
    "properties": dict.fromkeys(("credential", "env", "file"), _TEXT),
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
_SCALAR = _any({"type": "string"}, _NUMBER, _BOOL)

FORMS: Mapping[str, Json] = {
    "bool": _BOOL,
    "bool or topic": {"type": ["boolean", "string"]},
    "int": _INT,
    "ints": _list_of(_INT, 2, 2),
    "number": _NUMBER,
    "number+": _any(_NUMBER, _list_of(_NUMBER, 1)),
    "number, list": _any(_NUMBER, _BOOL, _list_of({}, 1)),
    "number, string, true or false": _SCALAR,
    "value": _SCALAR,
    "any": {},
    "number or `max`": _any({"const": "max"}, _NUMBER),
    "`true` or number": _any(_BOOL, _NUMBER),
    "`1` `1.5` `2`": {"enum": [1, 1.5, 2]},
    "range": _list_of(_NUMBER, 2, 2),
    "[low, count]": _list_of(_INT, 2, 2),
    "duration": _DURATION,
    "duration or `never`": _any(_DURATION, {"const": "never"}),
    "samples or duration": _any(_DURATION, {"type": "integer", "minimum": 1}),
    "size": _with_unit(SIZE_UNITS),
    "rate": _any({"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": rf"/\s*({'|'.join(RATE_UNITS)})\s*$"}),
    "string": {"type": "string"},
    "pattern": _TEXT,
    "name": _TEXT,
    "topic": _TEXT,
    "path": _TEXT,
    "field path": _TEXT,
    "ext": _any(_TEXT, _OUTSIDE),
    "string list or path": _any(_TEXT, _list_of(_TEXT, 1)),
    "bytes": _any({"type": "string"}, _list_of(_any({"type": "integer", "minimum": 0, "maximum": 255}, {"type": "string"}))),
    "type": {"enum": list(DTYPES)},
    "type, `int24` `uint24` `uint11` `text`": _any({"enum": [*DTYPES, "text"]}, {"pattern": f"^{PACKED_TYPE}$"}),
    "`big` `little` `cdab` `badc`": {"enum": list(BYTE_ORDERS)},
    "`drop` `hold` or number": _any({"enum": ["drop", "hold"]}, _NUMBER),
    "`local` `utc` or `+hh:mm`": {"type": "string", "pattern": r"^(local|utc|[+-]\d{1,2}:?\d{2})$"},
    "https URL": {"type": "string", "pattern": "^https://"},
    "host:port": {"type": "string", "pattern": r".:\d+$"},
    "numbers": _list_of(_NUMBER, 1),
    "`auto` or int": _any({"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}),
    unwrap(Providers)[1][-1].name: _any({"const": "auto"}, _list_of({"type": "string"}, 1)),
    f'`"{FUNCTION}"`': _FUNCTION,
    STEP_NAME.name: _any({"enum": list(STEPS)}, _FUNCTION),
}
"""By the name of the type in the reference page."""


def json_schema() -> Json:
    """The whole schema. Every table stands once, in `definitions`."""
    tables: dict[str, Json] = {}
    whole = _table(Config, tables)
    return {
        "$schema": DIALECT,
        "title": "edged",
        "description": "The configuration of edged, an inference daemon for small computers beside machines.",
        **whole,
        "definitions": tables,
    }


def _of(hint: Any, tables: dict[str, Json], is_top: bool = False) -> Json:
    bare, notes = unwrap(hint)
    for note in notes:
        if isinstance(note, Value):
            return FORMS.get(note.name, {})
        if isinstance(note, Several):
            one = _of(get_args(bare)[0], tables)
            return _any(one, _list_of(one, note.at_least))
    if get_origin(bare) is Literal:
        return {"enum": list(get_args(bare))}
    if get_origin(bare) is dict:
        names = {"propertyNames": {"pattern": f"^{NAME.pattern}$"}} if is_top else {}
        return {"type": "object", "additionalProperties": _of(get_args(bare)[1], tables), **names}
    if bare is Source:
        return _reference("source", lambda: _kinds(variants(bare), tables), tables)
    if is_table(bare):
        return _reference(bare.__name__, lambda: _with_short_form(bare, tables), tables)
    found = variants(bare)
    if len(found) == 1:
        return _of(found[0], tables) if found != (bare,) else {}
    return _any(*(_of(one, tables) for one in found))


def _reference(name: str, make: Any, tables: dict[str, Json]) -> Json:
    if name not in tables:
        tables[name] = {}  # a table may hold itself
        tables[name] = make()
    return {"$ref": f"#/definitions/{name}"}


def _with_short_form(table: type[Table], tables: dict[str, Json]) -> Json:
    whole = _table(table, tables)
    if not table.FIRST:
        return whole
    return {"description": whole.pop("description"), **_any(_of(attributes(table)[table.FIRST].type, tables), whole)}


def _table(table: type[Table], tables: dict[str, Json]) -> Json:
    keys = attributes(table)
    rules = list(_rules(table, keys))
    return {
        "type": "object",
        "description": " ".join((table.__doc__ or "").split()),
        "properties": {name: _key(one, tables, table is Config) for name, one in keys.items()},
        "required": [name for name, one in keys.items() if one.is_required],
        "additionalProperties": False,
        **({"allOf": rules} if rules else {}),
    }


def _key(attribute: Attribute, tables: dict[str, Json], is_top: bool = False) -> Json:
    only = f" ({', '.join(attribute.key.only)})" if attribute.key.only else ""
    said = attribute.key.meaning.replace("`", "") + only
    default = default_of(attribute).replace("`", "")
    text = said if default in ("required", "none") else f"{said}. Default: {default}"
    return {"description": text, "allOf": [_of(attribute.type, tables, is_top)]}


def _rules(table: type[Table], keys: Mapping[str, Attribute]) -> Iterator[Json]:
    """Which keys a table has, and needs, by the type that it is of."""
    if not table.TYPE:
        return
    named = {kind for one in keys.values() for kind in (*one.key.only, *one.key.required)}
    for kind in dict.fromkeys((*types_of(table), *sorted(named))):
        refused = [name for name, one in keys.items() if one.key.only and kind not in one.key.only]
        needed = [name for name, one in keys.items() if kind in one.key.required]
        if refused or needed:
            yield _if_of(table.TYPE, kind, keys[table.TYPE].default == kind, refused, needed)


def _if_of(key: str, kind: str, is_default: bool, refused: Iterable[str], needed: list[str], more: Json | None = None) -> Json:
    told = _FUNCTION if kind == FUNCTION else {"const": kind}
    properties = {**dict.fromkeys(refused, False), **(more or {})}
    return {
        "if": {"properties": {key: told}, **({} if is_default else {"required": [key]})},
        "then": {"properties": properties, "required": needed},
    }


def _kinds(kinds: Iterable[type[Table]], tables: dict[str, Json]) -> Json:
    """Tables that their key `type` tells apart, as one: so that an editor knows the keys before it knows the type."""
    by_type = {types_of(table)[0]: attributes(table) for table in kinds}
    union: dict[str, Json] = {}
    own: dict[str, dict[str, Json]] = {kind: {} for kind in by_type}
    for kind, keys in by_type.items():
        for name, attribute in keys.items():
            said = _key(attribute, tables)
            if union.setdefault(name, said) != said:
                own[kind][name] = said
    for name in {name for keys in own.values() for name in keys}:
        for kind, keys in by_type.items():
            if name in keys:
                own[kind][name] = _key(keys[name], tables)
        union[name] = {"description": union[name]["description"]}
    union["type"] = {"description": union["type"]["description"], "enum": list(by_type)}
    return {
        "type": "object",
        "properties": union,
        "required": ["type"],
        "additionalProperties": False,
        "allOf": [
            _if_of(
                "type",
                kind,
                False,
                [name for name in union if name not in keys],
                [name for name, one in keys.items() if one.is_required and name != "type"],
                {name: said for name, said in own[kind].items() if name != "type"},
            )
            for kind, keys in by_type.items()
        ],
    }
