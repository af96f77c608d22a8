"""What the schema says of itself: the keys of a table with their types and notes, and where in a file each table may stand.

Reads the annotations of the structs, and no value of a file. Conversion, the reference, the JSON Schema and `edged help` use it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from edged.config.schema import Config, Key, Source, Table


class Attribute(msgspec.Struct, frozen=True):
    """One key of a table: its type and what the schema says of it."""

    name: str
    type: Any
    key: Key
    default: Any
    field: str
    """What the struct calls it: with `_` behind a word of Python."""

    @property
    def is_required(self) -> bool:
        return self.default is msgspec.NODEFAULT


@cache
def attributes(table: type[Table]) -> dict[str, Attribute]:
    """The keys of a table in the order of the schema, those of the table itself after those it has from its base."""
    hints = get_type_hints(table, include_extras=True)
    found = {}
    required = len(table.__struct_fields__) - len(table.__struct_defaults__)
    defaults = (msgspec.NODEFAULT,) * required + table.__struct_defaults__
    for field, default in zip(table.__struct_fields__, defaults, strict=True):  # structs.fields would read all hints once more
        key = next(note for note in unwrap(hints[field])[1] if isinstance(note, Key))
        name, factory = field.removesuffix("_"), getattr(default, "factory", None)
        found[name] = Attribute(name, hints[field], key, default if factory is None else factory(), field)
    return found


def unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its notes, and the notes."""
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        return inner, tuple(notes)
    return hint, ()


def variants(hint: Any) -> tuple[Any, ...]:
    """The members of a union without None, and the settings of every kind of source; another type is its own only member."""
    if hint is Source:
        return _leaves(Source)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(one for one in get_args(hint) if one is not type(None))
    return (hint,)


def _leaves(table: type[Table]) -> tuple[type[Table], ...]:
    below = table.__subclasses__()
    return tuple(leaf for one in below for leaf in _leaves(one)) if below else (table,)


def is_table(hint: Any) -> bool:
    """Whether a type is one table."""
    return isinstance(hint, type) and issubclass(hint, Table)


def types_of(table: type[Table]) -> tuple[str, ...]:
    """The types that a table with a `type` may be of."""
    hint, _ = unwrap(attributes(table)[table.TYPE or "type"].type)
    return get_args(hint) if get_origin(hint) is Literal else ()


@cache
def tables_with_places() -> tuple[tuple[type[Table], tuple[str, ...]], ...]:
    """Every table of the schema and where it stands: `("pipeline", "NAME", "window")`."""
    return tuple(_walk(Config, ()))


def _walk(table: type[Table], where: tuple[str, ...]) -> Iterator[tuple[type[Table], tuple[str, ...]]]:
    if where:
        yield table, where
    for attribute in attributes(table).values():
        for inner, extra in tables_in(attribute.type):
            yield from _walk(inner, (*where, attribute.name, *extra))


def tables_in(hint: Any) -> Iterator[tuple[type[Table], tuple[str, ...]]]:
    """The tables that a key may hold, each with `("NAME",)` when it holds them by name."""
    bare, _ = unwrap(hint)
    for one in variants(bare):
        inner, _ = unwrap(one)
        if is_table(inner):
            yield inner, ()
        elif get_origin(inner) is dict:
            yield from ((table, ("NAME", *extra)) for table, extra in tables_in(get_args(inner)[1]))
        elif get_origin(inner) is tuple:
            yield from tables_in(get_args(inner)[0])
