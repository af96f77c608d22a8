"""Broken files: each directory of `cases/errors` has an edged.toml and the exact lines that a person gets for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.config.load import load
from edged.errors import ConfigError

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases" / "errors").glob("*/edged.toml"))


def lines_of(case: Path) -> list[str]:
    """What is said of a case, with paths relative to its directory."""
    with pytest.raises(ConfigError) as caught:
        load(case / "edged.toml", {})
    return [line.replace(f"{case}{os.sep}", "") for line in caught.value.lines]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_says_what_is_wrong_and_where(case: Path) -> None:
    assert lines_of(case) == (case / "error.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_line_has_a_position_in_the_file(case: Path) -> None:
    text = (case / "edged.toml").read_text("utf-8")
    source = text.split("\n")
    for line in lines_of(case):
        name, row, column, rest = line.split(":", 3)
        assert name == "edged.toml"
        assert 1 <= int(row) <= len(source)
        assert 1 <= int(column) <= len(source[int(row) - 1]) + 1
        assert rest.strip()
