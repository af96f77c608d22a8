"""Deployments with a line gone, a value of another kind, a key misspelt: a plan or a list of problems, never a traceback."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.errors import ConfigError
from edged.runtime.start import prepare
from tests.deployments import NAMES, environ, written

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
