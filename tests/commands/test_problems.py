from __future__ import annotations

import pytest

from edged.commands.problems import problems_text
from edged.errors import ConfigError, Finding, said_and_fix
from edged.system.terminal import Look

ONE = Finding("edged.toml", 'expected one of "a" "b", found "c"; write "a"', 6, 8, "source.x.type", 'type = "c" # why')


def test_a_line_and_a_caret_under_the_place() -> None:
    assert problems_text([ONE], Look()).splitlines() == [
        'edged.toml:6:8: source.x.type: expected one of "a" "b", found "c"; write "a"',
        '  6 | type = "c" # why',
        "    |        ^^^",
    ]


def test_a_warning_says_so_and_what_has_no_line_has_no_caret() -> None:
    assert problems_text([Finding("edged.toml", "there is no such file", is_warning=True)], Look()) == (
        "warning: edged.toml: there is no such file"
    )


@pytest.mark.parametrize(
    ("source", "column", "under"),
    [
        ("\tkey = 1", 8, "       ^"),
        ('a = "温度", b = c', 14, 15 * " " + "^"),
        ("x =", 4, "   ^"),
        ("x = é", 5, "    ^"),
        ("a\x1b = b", 6, "        ^"),
    ],
)
def test_the_caret_is_under_it_on_any_terminal(source: str, column: int, under: str) -> None:
    shown = problems_text([Finding("f", "t", 1, column, "", source)], Look()).splitlines()
    assert shown[2].removeprefix("    | ") == under
    assert all(c.isprintable() for line in shown for c in line)


def test_a_terminal_is_never_overrun() -> None:
    long = Finding("edged.toml", "expected " + "something " * 20, 1, 200, "a.b", "x" * 300)
    lines = problems_text([long], Look(width=60)).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[-2].strip().startswith("1 | ...xxx")
    assert lines[-2][lines[-1].index("^")] == "x"


def test_colours_are_around_what_was_made_readable() -> None:
    text = problems_text([Finding("e\x1bvil", "bad\x1b[31m", 1, 1, "k", "k = 1")], Look(has_colours=True))
    assert "\\x1bvil" in text
    assert "bad\\x1b[31m" in text
    assert text.startswith("\033[1m")


def test_as_data() -> None:
    assert ONE.facts() == {
        "path": "edged.toml",
        "line": 6,
        "column": 8,
        "key": "source.x.type",
        "message": 'expected one of "a" "b", found "c"',
        "fix": 'write "a"',
    }
    assert Finding("f", "there is no such file").facts()["line"] is None
    assert ConfigError(["plain"]).found == [Finding("", "plain")]
    assert ConfigError(["plain"]).lines == ["plain"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a; b; c", ("a", "b; c")),
        ('found "x; y"; z', ('found "x; y"', "z")),
        ("nothing to do", ("nothing to do", "")),
        ('an open " quote; fix', ('an open " quote', "fix")),
    ],
)
def test_what_is_wrong_and_its_fix(text: str, parts: tuple[str, str]) -> None:
    assert said_and_fix(text) == parts
