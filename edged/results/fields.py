"""The fields of a result, and those that every result has around those of its output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class ResultField(NamedTuple):
    """A field of a result that `of`, `fields` and the next pipeline may name. `path` leads to it in the body."""

    name: str
    path: tuple[str, ...]
    kind: Literal["number", "text", "bool", "tensor", "object"]
    unit: str | None = None
    dtype: str | None = None  # of a tensor: what format "raw" sends it as


class About(NamedTuple):
    """What people call a key: its label, and tags by name."""

    label: str | None
    tags: tuple[tuple[str, str], ...] = ()


ENVELOPE_BEFORE = (
    ResultField("device", ("device",), "text"),
    ResultField("tags", ("tags",), "object"),
    ResultField("pipeline", ("pipeline",), "text"),
    ResultField("key", ("key",), "text"),
    ResultField("key_label", ("key_label",), "text"),
    ResultField("key_tags", ("key_tags",), "object"),
    ResultField("run", ("run",), "text"),
    ResultField("seq", ("seq",), "number"),
    ResultField("time", ("time",), "text"),
    ResultField("model", ("model",), "text"),
)
ENVELOPE_AFTER = (
    ResultField("degraded", ("degraded",), "bool"),
    ResultField("clock", ("clock",), "text"),
    ResultField("carried", ("carried",), "object"),
    ResultField("age_ms", ("age_ms",), "number", "ms"),
)
ENVELOPE = (*ENVELOPE_BEFORE, *ENVELOPE_AFTER)
"""The fields that every result has, before and after those of its output; `encode` gives them their values."""


OF_THE_RUN = frozenset({"device", "pipeline", "run", "model", "age_ms"})
"""Fields of the envelope that say who found it and how fast, and nothing of what was found: they differ from machine to machine
and from run to run. Who shows or compares a result leaves them out."""


def value_at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path of a body, None if it is not there."""
    value: Any = body
    for part in path:
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value
