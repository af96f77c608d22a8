from __future__ import annotations

import pytest

from edged.notation.field_paths import parse_field_path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pressure.in", ("pressure", "in")),
        ("rows.0.v", ("rows", 0, "v")),
        ('"a.b".c', ("a.b", "c")),
        ("'0'.x", ("0", "x")),
        ('"a\\"b"', ('a"b',)),
        ("living room", ("living room",)),
    ],
)
def test_field_paths(text: str, parts: tuple[str | int, ...]) -> None:
    assert parse_field_path(text) == parts


@pytest.mark.parametrize("text", ["", "a..b", ".a", "a.", '"a', '"a"b', 'a"b'])
def test_what_is_no_field_path(text: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        parse_field_path(text)
