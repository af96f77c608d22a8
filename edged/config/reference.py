"""The reference page, made from the schema: `python -m edged.config.reference > edged/config/REFERENCE.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from edged.config.introspection import Attribute, attributes, is_table, tables_in, unwrap, variants
from edged.config.parsers.value import Value
from edged.config.schema import Config, DecodedSource, Several, Source, Table
from edged.notation.units import DURATION_UNITS, SIZE_UNITS

PAGE = Path(__file__).with_name("REFERENCE.md")

INTRODUCTION = """# Configuration reference

Every key of the configuration, with its type, its default and its meaning.

`python -m edged.config.reference` writes this page from the schema; do not edit it.

- One TOML file. What there is one of is `[kind]`, what there may be many of is `[kind.name]`. Names: letters, digits,
  `_`, `-`, at most 64. File paths are relative to the file.
- Sources and pipelines are streams and share one set of names: `source = "name"` names either.
- Unknown keys are errors, and so is a key that has no effect where it stands.
- `T+`, one or several: a single value stands for a list of one. An empty list means none.
- *short form*: a string stands for a table that has only this key. `frame = "line"` is `frame = { type = "line" }`.
- duration: `"250ms"` (`ns us ms s min h d`). size: `"8MiB"` (`B KiB MiB GiB`). rate: a number is per second, or `"6/min"`,
  `"4/h"`. range: `[low, high]`. bytes: `[0xAA, 0x55]`, or a string (its UTF-8). type: numpy's names (`int16`, `float32`, `bool`).
- field path: `pressure.in`, `rows.0.v`, `"a.b".c`. A field of a stream: its name where that is unique among the pipeline's
  sources, else `stream.field`.
- topic: in a subscription `+` and `#` are MQTT's; `{name}` matches one level and captures it, `{name...}` (last) the rest.
  In a publish: `{pipeline}`, `{key}` and the captures of the source. `{device}` and `{base_topic}` are filled in everywhere.
- ext, external string: a string, or `{ credential = "name" }` (systemd), `{ env = "NAME" }`, `{ file = "path" }`. A secret may
  stand in the file, but edged warns about it, and about a secret's file that every user may read.
"""


def page() -> str:
    """The whole page as Markdown."""
    lines = [INTRODUCTION]
    for attribute in attributes(Config).values():
        for table, extra in tables_in(attribute.type):
            if issubclass(table, Source):
                continue
            name = ".".join((attribute.name, *extra))
            lines += [f"## `[{name}]`", "", _said_of(table), "", *_rows(table)]
            lines += _inner(table, attribute.name)
        if attribute.name == "source":
            lines += _sources(attribute)
    return "\n".join(lines).rstrip() + "\n"


def _said_of(table: type[Table]) -> str:
    """Its docstring, without the indentation that Python before 3.13 leaves."""
    return inspect.cleandoc(table.__doc__ or "")


def _sources(attribute: Attribute) -> list[str]:
    shared = {*attributes(DecodedSource), "type"}
    lines = [
        "## `[source.NAME]`",
        "",
        "Of every type; simulate has only `rate` (required) and `on_bad`. edged publishes whether a source is well, retained, on",
        "`{base_topic}/source/NAME`: `online` or `offline`; of each key, where `stale_after` is known or its pace is learned or",
        "`frozen_after` is set, on `{base_topic}/source/NAME/KEY`.",
        "",
    ]
    lines += _table(attributes(DecodedSource).values())
    tables = [table for table, _ in tables_in(attribute.type)]
    for table in tables:
        (kind,) = get_args(unwrap(attributes(table)["type"].type)[0])
        own = [one for one in attributes(table).values() if one.name not in shared]
        lines += [f'### `type = "{kind}"`', "", _said_of(table), "", *_table(own)]
    seen: set[type[Table]] = set()
    for table in tables:
        lines += _inner(table, "source", seen)
    return lines


def _inner(table: type[Table], where: str, seen: set[type[Table]] | None = None) -> list[str]:
    """The tables that stand in a table, each once."""
    seen = set() if seen is None else seen
    lines: list[str] = []
    for attribute in attributes(table).values():
        for inner, extra in tables_in(attribute.type):
            if inner in seen:
                continue
            seen.add(inner)
            name = ".".join((attribute.name, *extra))
            lines += [f"### `{name}` of `{where}`", "", _said_of(inner), "", *_rows(inner), *_inner(inner, name, seen)]
    return lines


def _rows(table: type[Table]) -> list[str]:
    return _table(attributes(table).values(), table.FIRST)


def _table(keys: Any, first: str = "") -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(key, first))} |" for key in keys]
    return [*lines, ""]


def _cells(attribute: Attribute, first: str) -> Iterator[str]:
    yield f"`{attribute.name}`" + (" *short form*" if attribute.name == first else "")
    yield type_of(attribute.type)
    yield default_of(attribute)
    only = f" ({', '.join(attribute.key.only)})" if attribute.key.only else ""
    yield attribute.key.meaning + only


def type_of(hint: Any) -> str:
    """A type as the page says it."""
    bare, notes = unwrap(hint)
    for note in notes:
        if isinstance(note, Value):
            return note.name
        if isinstance(note, Several):
            return type_of(get_args(bare)[0]) + "+"
    if get_origin(bare) is Literal:
        return " ".join(f"`{one}`" for one in get_args(bare))
    if get_origin(bare) is dict:
        return f"{type_of(get_args(bare)[1])} by name"
    if is_table(bare):
        return "table"
    found = variants(bare)
    return type_of(found[0]) if len(found) == 1 else " or ".join(map(type_of, found))


def default_of(attribute: Attribute) -> str:
    """A default as the page says it."""
    if attribute.key.default:
        return attribute.key.default
    if attribute.is_required:
        return "required"
    if attribute.key.required:
        return f"required for {', '.join(attribute.key.required)}"
    if attribute.default in (None, (), {}) or isinstance(attribute.default, Table):
        return "none"
    return f"`{_written(attribute.default, type_of(attribute.type))}`"


def _written(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind in ("duration", "size"):
        units = DURATION_UNITS if kind == "duration" else SIZE_UNITS
        unit = max((u for u, worth in units.items() if value % worth == 0), key=lambda u: units[u])
        return f'"{value // units[unit]}{unit}"'
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return f"{value:g}"


def main() -> None:
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
