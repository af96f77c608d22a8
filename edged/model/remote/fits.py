"""Whether a value fits a JSON schema, as far as answers need it: types, members, elements, choices and limits. What it does not
know of a schema it lets pass; the peer was told all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
MAX_DEPTH = 32


def misfit(value: Any, schema: Mapping[str, Any] | bool, at: str = "", depth: int = 0) -> str:
    """What is wrong with the value, and where; empty if it fits."""
    if depth > MAX_DEPTH:
        return f"{at or 'the answer'} is nested too deeply"
    here = at or "the answer"
    if isinstance(schema, bool):
        return "" if schema else f"{here}: the schema allows nothing there"
    kinds = schema.get("type")
    wanted = [kinds] if isinstance(kinds, str) else kinds or []
    if wanted and not any(_is_of(value, kind) for kind in wanted):
        return f"{here}: expected {' or '.join(wanted)}, found {type(value).__name__}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{here}: expected one of {schema['enum']}"
    if isinstance(value, dict):
        return _object(value, schema, at, depth)
    if isinstance(value, list) and isinstance(schema.get("items"), dict | bool):
        found = (misfit(one, schema["items"], f"{at}[{i}]", depth + 1) for i, one in enumerate(value))
        return next(filter(None, found), "")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            return f"{here}: expected {low} to {high}, found {value}"
    return ""


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], at: str, depth: int) -> str:
    members = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            return f"{at or 'the answer'}: {name} is missing"
    if schema.get("additionalProperties") is False and (more := [name for name in value if name not in members]):
        return f"{at or 'the answer'}: {more[0]} is not in the schema"
    found = (misfit(value[n], one, f"{at}.{n}" if at else n, depth + 1) for n, one in members.items() if n in value)
    return next(filter(None, found), "")


def _is_of(value: Any, kind: str) -> bool:
    known = TYPES.get(kind)
    if known is None:
        return True
    return isinstance(value, known) and (kind in ("boolean",) or not isinstance(value, bool))
