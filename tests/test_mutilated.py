"""Deployments with a line gone, a value of another kind, a key misspelt: a plan or a list of problems, never a traceback."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from edged.config.toml.document import parse
from edged.daemon.prepare import prepare
from edged.errors import ConfigError
from tests.support.deployments import NAMES, environ, written

VALUE = re.compile(r'"[^"\n]*"|\b\d+(?:\.\d+)?\b|\btrue\b|\{[^{}\n]*\}|\[[^\[\]\n]*\]')
KEY = re.compile(r"\b(\w+) = ")
OTHERS = (
    *("0", "1", "-1", "3", "1000", "1e9", "true", '""', '"x"', '"a.b"', '"5s"', '"+"', '"#"', '"{key}"', '"{x}"'),
    *("[]", "{}", "[64]", '["a", "b"]', "{ size = 4 }", '"raw"', '"classify"', '"anomaly"', '"regress"', '"block"', '"json"'),
)
EACH = 40


def mutilated(text: str, chance: random.Random) -> Iterator[str]:
    lines = text.splitlines(keepends=True)
    values = [found.span() for found in VALUE.finditer(text)]
    keys = [found.span(1) for found in KEY.finditer(text)]
    for _ in range(EACH):
        gone = chance.randrange(len(lines))
        yield "".join(lines[:gone] + lines[gone + 1 :])
        start, stop = chance.choice(values)
        yield text[:start] + chance.choice(OTHERS) + text[stop:]
    for start, stop in chance.sample(keys, 10):
        yield text[:start] + "zz" + text[stop:]


def problems(path: Path) -> list[str]:
    try:
        return list(prepare(path).warnings)
    except ConfigError as error:
        return error.lines


@pytest.mark.parametrize("name", NAMES)
def test_no_file_ends_in_a_traceback(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(name, tmp_path)
    for variable, value in environ(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("gc.collect", lambda: 0)
    text = path.read_text("utf-8")
    for one in mutilated(text, random.Random(name)):
        path.write_text(one, "utf-8")
        assert all(line.startswith(str(path)) for line in problems(path))


# Each key of each deployment, one at a time: gone, misspelt, of a type that it never has, absurdly large.

Tables = dict[str, Any]
Way = tuple["str | int", ...]
A_DATE = date(1979, 5, 27)
"""No key takes one."""
FAR = 10**12
SINGLES = ("device", "memory", "log", "spool", "health")
NAMED_BY_PEOPLE = ("inputs", "state", "values", "broker", "source", "model", "pipeline")
"""What stands below these is a name, not a key."""


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return value.isoformat() if isinstance(value, date) else json.dumps(value, ensure_ascii=False)


def file_of(tables: Tables) -> str:
    """One line a table, those of the same kind below each other."""
    lines = []
    for kind, one in tables.items():
        named = {kind: one} if kind in SINGLES else {f"{kind}.{name}": table for name, table in one.items()}
        for header, table in named.items():
            lines += [f"[{header}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def ways(value: Any, way: Way = ()) -> Iterator[Way]:
    """The way to every key and every element of a list, without those to the tables of the file."""
    if way and not (len(way) == 1 or (len(way) == 2 and way[0] not in SINGLES)):
        yield way
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from ways(one, (*way, key))


def changed(value: Any, way: Way, change: Callable[[dict[Any, Any], Any], dict[Any, Any]]) -> Any:
    """A copy in which `change` was made to the table or list (as a table of its numbers) that holds the end of the way."""
    pairs = dict(value.items() if isinstance(value, dict) else enumerate(value))
    if len(way) == 1:
        pairs = change(pairs, way[0])
    else:
        pairs[way[0]] = changed(pairs[way[0]], way[1:], change)
    return pairs if isinstance(value, dict) else list(pairs.values())


def gone(pairs: dict[Any, Any], key: Any) -> dict[Any, Any]:
    return {k: v for k, v in pairs.items() if k != key}


def misspelt(pairs: dict[Any, Any], key: Any) -> dict[Any, Any]:
    return {(f"{k[:-1]}zq" if k == key else k): v for k, v in pairs.items()}


def is_key(way: Way) -> bool:
    return isinstance(way[-1], str) and not (len(way) > 2 and way[-2] in NAMED_BY_PEOPLE)


@pytest.mark.parametrize("name", NAMES)
def test_each_key_wrong_in_each_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(name, tmp_path)
    for variable, value in environ(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("gc.collect", lambda: 0)
    tables = parse(path.read_text("utf-8")).values

    def refused(change: Callable[[dict[Any, Any], Any], dict[Any, Any]], way: Way) -> list[str]:
        text = file_of(changed(tables, way, change))
        path.write_text(text, "utf-8")
        try:
            prepare(path)
        except ConfigError as error:
            said = [line.removeprefix(f"{path}:").split(":", 2) for line in error.lines]
            rows = text.split("\n")
            assert all(1 <= int(row) <= len(rows) and 1 <= int(column) <= len(rows[int(row) - 1]) + 1 for row, column, _ in said)
            return [rest for _, _, rest in said]
        return []

    path.write_text(file_of(tables), "utf-8")
    prepare(path)
    for way in ways(tables):
        refused(gone, way)
        refused(lambda pairs, key: {**pairs, key: FAR}, way)
        assert refused(lambda pairs, key: {**pairs, key: A_DATE}, way), way
        if is_key(way):
            wrong = f"{str(way[-1])[:-1]}zq"
            words = ("unknown key", "found a table with", "has no such option")
            lines = refused(misspelt, way)
            named = [line for line in lines if wrong in line or "a key that is none of these" in line]  # where secrets stand
            assert any(word in line for word in words for line in named), way
