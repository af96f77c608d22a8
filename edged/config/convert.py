"""Plain TOML values to the schema's structs, table by table and key by key, collecting every problem.

A key that is wrong does not hide the next one: conversion goes on, and a table with a problem is left out of the result.
Knows the schema's annotations (`introspection`), not its tables: what any key means is said there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec.structs import replace

from edged.config.introspection import Attribute, attributes, is_table, tables_with_places, types_of, unwrap, variants
from edged.config.parsers.choices import choice
from edged.config.parsers.names import NAME
from edged.config.parsers.value import Surroundings, Value
from edged.config.schema import Config, Several, Table
from edged.config.toml.positions import KeyPath, Positions, parse_path, written
from edged.errors import Problem
from edged.notation.values import Function
from edged.notation.words import nearest, quoted, shown

Raw = Mapping[str, Any]
"""A table as it stands in the file."""
Wrong = Iterable["tuple[str, str] | tuple[str, str, str]"]
Check = Callable[[Any, Raw], Wrong]
Finish = Callable[[Any, Raw], Any]

TABLE_SLIPS = {"mqtt": "broker", "server": "broker", "sensor": "source", "serial": "source", "input": "source"} | {
    "output": "pipeline",
    "flow": "pipeline",
}
"""What people call the tables of a file, one of several or all of them."""
_WRONG: Any = object()
"""Stands for a value that could not be converted; its problem is recorded."""


class Rule(msgspec.Struct, frozen=True):
    """What must hold between the keys `reads` of a table; it is not asked when one of them is wrong by itself.

    `check` gets the converted table and the plain one, and yields (key, text) or (key, text, where to point).
    """

    reads: tuple[str, ...]
    check: Check


class Conversion(msgspec.Struct):
    """One pass over the values of a file.

    `rules` has, by table, what must hold between its keys; `finish` what is filled in once it is converted. `meant` has the
    tables of the file that were probably meant by misspelt ones.
    """

    around: Surroundings
    positions: Positions
    rules: Mapping[type[Table], tuple[Rule, ...]]
    finish: Mapping[type[Table], Finish]
    problems: list[Problem] = msgspec.field(default_factory=list)
    meant: set[str] = msgspec.field(default_factory=set)

    def wrong(self, path: KeyPath, text: str, at: str = "value") -> None:
        self.problems.append(Problem(written(path), text, at))

    def file(self, raw: Mapping[str, Any]) -> Config:
        """The whole file, without the tables that have a problem."""
        known = attributes(Config)
        self.meant = self.unknown_keys(Config, raw, (), "", {})
        values = {name: self.value(known[name].type, one, (name,)) for name, one in raw.items() if name in known}
        return Config(**{name: value for name, value in values.items() if value is not _WRONG})

    def value(self, hint: Any, raw: Any, path: KeyPath) -> Any:
        """`raw` as the type wants it, or _WRONG after recording why not."""
        bare, notes = unwrap(hint)
        for note in notes:
            if isinstance(note, Value):
                return self.parsed(note, raw, path)
            if isinstance(note, Several):
                return self.several(bare, note, raw, path)
        if get_origin(bare) is Literal:
            return self.attempt(lambda: choice(raw, get_args(bare)), path)
        if get_origin(bare) is dict:
            return self.by_name(get_args(bare)[1], raw, path)
        found = variants(bare)
        if found == (bare,):
            return self.table(bare, raw, path)
        if len(found) == 1:
            return self.value(found[0], raw, path)
        tables = [one for one in found if is_table(one)]
        if len(tables) > 1:
            return self.typed_table(tables, raw, path)
        plain = next(one for one in found if not is_table(one))
        return self.value(tables[0] if isinstance(raw, dict) else plain, raw, path)

    def parsed(self, note: Value, raw: Any, path: KeyPath) -> Any:
        around = replace(self.around, warnings=[])
        value = self.attempt(lambda: note.parse(raw, around), path)
        self.problems.extend(Problem(written(path), text, is_warning=True) for text in around.warnings)
        return value

    def attempt(self, parse: Callable[[], Any], path: KeyPath) -> Any:
        try:
            return parse()
        except ValueError as error:
            self.wrong(path, str(error))
            return _WRONG

    def several(self, hint: Any, note: Several, raw: Any, path: KeyPath) -> Any:
        """A list, or the single value that stands for a list of one."""
        element = get_args(hint)[0]
        if not isinstance(raw, list):
            one = self.value(element, raw, path)
            return one if one is _WRONG else (one,)
        if len(raw) < note.at_least:
            self.wrong(path, "expected at least one, found an empty list")
            return _WRONG
        values = [self.value(element, one, (*path, i)) for i, one in enumerate(raw)]
        return _WRONG if any(one is _WRONG for one in values) else tuple(values)

    def by_name(self, hint: Any, raw: Any, path: KeyPath) -> Any:
        """A table of things by name. At the top of the file the names are ours, further down the model's or the payload's."""
        is_top = len(path) == 1
        if not isinstance(raw, dict) or (is_top and any(not isinstance(one, dict | list) for one in raw.values())):
            wanted = f"a name: [{path[0]}.main] (the name is up to you)" if is_top else "a table by name"
            self.wrong(path, f"expected {wanted}, found {shown(raw) if not isinstance(raw, dict) else f'[{path[0]}]'}")
            return {}
        if not raw and not is_top:
            self.wrong(path, "has no effect, since it is empty; leave it out", "key")
            return _WRONG
        values: dict[str, Any] = {}
        for name, one in raw.items():
            if is_top and not NAME.fullmatch(name):
                self.wrong((*path, name), "expected a name of letters, digits, _ and -, at most 64", "key")
            if is_top and isinstance(one, list):
                here = written((*path, name))
                self.wrong((*path, name), f"expected one table, [{here}], found a list: [[{here}]]")
                continue
            value = self.value(hint, one, (*path, name))
            if value is not _WRONG:
                values[name] = value
        return values

    def typed_table(self, tables: list[type[Table]], raw: Any, path: KeyPath) -> Any:
        """One of several tables, by its key `type`."""
        if not isinstance(raw, dict):
            self.wrong(path, f"expected a table, found {shown(raw)}")
            return _WRONG
        known = {types_of(table)[0]: table for table in tables}
        if "type" not in raw:
            declared = {key for table in tables for key in attributes(table)}
            misspelt = [name for name in raw if name not in declared and nearest(name, ["type"])]
            for name in misspelt:
                self.wrong((*path, name), 'unknown key; did you mean "type"?', "key")
            if not misspelt:
                self.wrong((*path, "type"), f"required: one of {quoted(known)}", "table")
            return _WRONG
        chosen = self.attempt(lambda: choice(raw["type"], tuple(known)), (*path, "type"))
        if chosen is _WRONG:
            return _WRONG
        siblings = {kind: attributes(table) for kind, table in known.items()}
        return self.table(known[chosen], raw, path, chosen, siblings)

    def table(
        self,
        table: type[Table],
        raw: Any,
        path: KeyPath,
        kind: str = "",
        siblings: Mapping[str, Mapping[str, Attribute]] | None = None,
    ) -> Any:
        """A struct of the schema. `kind` is its type where that chose the struct, `siblings` the keys of the other types."""
        if isinstance(raw, str) and table.FIRST:
            raw, inner = {table.FIRST: raw}, {table.FIRST: path}
        else:
            inner = {}
        if not isinstance(raw, dict):
            self.wrong(path, f"expected {_example(table)}, found {shown(raw)}{_as_table_of(table, raw)}")
            return _WRONG
        before = len(self.problems)
        known = attributes(table)
        if not raw and len(path) > 2 and not table.IS_SAID_BY_EMPTY and not any(one.is_required for one in known.values()):
            self.wrong(path, f"has no effect, since it is empty; known here: {' '.join(known)}", "key")
            return _WRONG
        values: dict[str, Any] = {}
        for name, one in raw.items():
            if name in known:
                values[name] = self.value(known[name].type, one, inner.get(name, (*path, name)))
        kind = kind or self.kind_of(table, values)
        spoilt = {name for name, value in values.items() if value is _WRONG}
        spoilt |= self.unknown_keys(table, raw, path, kind, siblings or {})
        self.effects(table, raw, path, kind)
        spoilt |= self.missing(table, raw, path, kind, spoilt)
        stand_ins = {known[name].field: None for name in spoilt if known[name].is_required}
        given = {known[name].field: value for name, value in values.items() if name not in spoilt}
        built = table(**given, **stand_ins)
        self.ask(built, raw, path, spoilt)
        if any(not p.is_warning for p in self.problems[before:]):
            return _WRONG
        finish = next((self.finish[one] for one in table.__mro__ if one in self.finish), None)
        return finish(built, raw) if finish else built

    def kind_of(self, table: type[Table], values: Mapping[str, Any]) -> str:
        """The type that a table says it is of; empty when it has none, or a wrong one."""
        if not table.TYPE:
            return ""
        given = values.get(table.TYPE, attributes(table)[table.TYPE].default)
        if isinstance(given, Function):
            return "file.py:function"
        return given if isinstance(given, str) else ""

    def unknown_keys(
        self,
        table: type[Table],
        raw: Mapping[str, Any],
        path: KeyPath,
        kind: str,
        siblings: Mapping[str, Mapping[str, Attribute]],
    ) -> set[str]:
        """Records keys that the table does not have; returns those that were probably meant by one of them."""
        known = attributes(table)
        meant = set()
        for name in raw:
            if name in known:
                continue
            others = [other for other, keys in siblings.items() if name in keys]
            if others:
                self.wrong((*path, name), f'has no effect on a source of type "{kind}"; it belongs to {quoted(others)}', "key")
                continue
            free = [key for key in known if key not in raw]
            close = nearest(name, free) or (None if path else TABLE_SLIPS.get(name.lower().rstrip("s")))
            home = None if close else _home(name, path)
            if name in table.SLIPS:
                key, words = table.SLIPS[name]
                meant.add(key)
                self.wrong((*path, name), f"unknown key; {words}", "key")
            elif close:
                meant.add(close)
                self.wrong((*path, name), f'unknown key; did you mean "{close}"?', "key")
            elif home and not path and (header := _header(name, raw)):
                self.wrong((*path, name), f"unknown table; write {header}", "key")
            elif home:
                move = self.move(path) if home[1] else ""
                self.wrong((*path, name), f'unknown key; "{name}" belongs to {home[0]}{move}', "key")
            else:
                shown_keys = free if path else list(known)
                self.wrong((*path, name), f"unknown key; known here: {' '.join(shown_keys) or 'no other'}", "key")
        return meant

    def move(self, path: KeyPath) -> str:
        """How to get a key out of a table that a header opened below the one it belongs to."""
        place = self.positions.places.get(path)
        header = self.positions.text[place.value :].split("\n", 1)[0].split("#")[0].strip() if place else ""
        return f": move it above the line {header}" if header.startswith("[") else ""

    def effects(self, table: type[Table], raw: Mapping[str, Any], path: KeyPath, kind: str) -> None:
        if not kind:
            return
        for name in raw:
            attribute = attributes(table).get(name)
            if attribute and attribute.key.only and kind not in attribute.key.only:
                wanted = quoted(attribute.key.only)
                self.wrong((*path, name), f'has no effect with {table.TYPE} = "{kind}"; it belongs to {wanted}', "key")

    def missing(self, table: type[Table], raw: Mapping[str, Any], path: KeyPath, kind: str, spoilt: set[str]) -> set[str]:
        """Records keys that are required and not there, and returns them."""
        absent = set()
        for attribute in attributes(table).values():
            is_needed = attribute.is_required or (kind and kind in attribute.key.required)
            if is_needed and attribute.name not in raw and attribute.name not in spoilt:
                absent.add(attribute.name)
                of_type = f' for {table.TYPE} = "{kind}"' if kind in attribute.key.required and table.TYPE else ""
                self.wrong((*path, attribute.name), f"required{of_type}: {attribute.key.meaning.replace('`', '')}", "table")
        return absent

    def ask(self, built: Table, raw: Mapping[str, Any], path: KeyPath, spoilt: set[str]) -> None:
        """Record what does not hold between the keys that are right by themselves."""
        for table in type(built).__mro__:
            for rule in self.rules.get(table, ()):
                if spoilt.isdisjoint(rule.reads):
                    for key, text, *at in rule.check(built, raw):
                        self.wrong((*path, *parse_path(key)), text, at[0] if at else "value")


def _example(table: type[Table]) -> str:
    names = [a.name for a in attributes(table).values() if a.is_required] or list(attributes(table))[:2]
    inside = ", ".join(f"{name} = ..." for name in names)
    short = f"a string ({table.FIRST}) or " if table.FIRST else ""
    return f"{short}a table such as {{ {inside} }}"


def _as_table_of(table: type[Table], raw: Any) -> str:
    """How a bare value is written that stands for the one key that is required."""
    needed = [a.name for a in attributes(table).values() if a.is_required]
    if len(needed) != 1 or not isinstance(raw, str | int | float) or isinstance(raw, bool):
        return ""
    value = '"' + raw + '"' if isinstance(raw, str) else raw
    return f"; write {{ {needed[0]} = {value} }}" if '"' not in str(raw) else ""


# Where else a key exists, for keys that stand in the wrong table.


def _home(name: str, path: KeyPath) -> tuple[str, bool] | None:
    """Where a key belongs that stands below `path`, and whether that is around it; None when no table has it, or too many."""
    homes = [(table, where) for table, where in tables_with_places() if name in attributes(table)]
    above = [where for _, where in homes if _is_above(where, path)]
    if above:
        here = _named(above[-1], path)
        return f"[{here}]", True
    near = sorted(
        {where for _, where in homes if where[:1] == path[:1]} or {where for _, where in homes},
        key=lambda where: (len(where), where),
    )
    tables = dict.fromkeys(_as_table(where, path, name) for where in near)
    return (" or ".join(tables), False) if 0 < len(tables) <= 3 else None


def _header(name: str, file: Raw) -> str:
    """The header of a table that stands at the top of a file and belongs into one of several by name, such as `[[publish]]`."""
    value = file[name]
    is_list = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    homes = {where for table, where in tables_with_places() if name in attributes(table) and where[1:] == ("NAME",)}
    if len(homes) != 1 or not (is_list or isinstance(value, dict)):
        return ""
    kind = next(iter(homes))[0]
    named = file.get(kind)
    only = next(iter(named)) if isinstance(named, dict) and len(named) == 1 else "NAME"
    return f"[[{kind}.{only}.{name}]]" if is_list else f"[{kind}.{only}.{name}]"


def _as_table(where: tuple[str, ...], path: KeyPath, name: str) -> str:
    if len(where) <= 2:
        return f"[{_named(where, path)}]"
    return f"{where[-1]} = {{ {name} = ... }}"


def _named(where: tuple[str, ...], path: KeyPath) -> str:
    """A place of the schema with the names of the file filled in where they are the same."""
    parts = [str(path[i]) if part == "NAME" and i < len(path) and where[:i] == path[:i] else part for i, part in enumerate(where)]
    return ".".join(parts)


def _is_above(where: tuple[str, ...], path: KeyPath) -> bool:
    names = tuple(part for part in path if isinstance(part, str))
    return len(where) < len(names) and all(a in (b, "NAME") for a, b in zip(where, names, strict=False))
