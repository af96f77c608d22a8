from __future__ import annotations

from typing import Any

import pytest

from edged.decode.paths import ABSENT, find, members
from edged.notation.field_paths import parse_field_path

TREE = {"a": {"b": 1}, "n": None, "l": [{"id": "x", "v": 1}, {"id": 7, "v": 2}, "s", True], "0": "zero", 3: "three"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", 1),
        ("a.c", ABSENT),
        ("n", None),
        ("n.x", ABSENT),
        ("l.0.v", 1),
        ("l.1.v", 2),
        ("l.9", ABSENT),
        ("l[id=x].v", 1),
        ("l[id=7].v", 2),
        ("l[id=y].v", ABSENT),
        ("l[=s]", "s"),
        ("l[=true]", True),
        ("l[=t]", ABSENT),
        ("a[=s]", ABSENT),
        ("0", "zero"),
        ("3", "three"),
    ],
)
def test_find(path: str, found: Any) -> None:
    assert find(TREE, parse_field_path(path)) is found or find(TREE, parse_field_path(path)) == found


def test_the_root_and_the_element_itself() -> None:
    assert find(5, parse_field_path("."), TREE) == 5
    assert find(5, parse_field_path("^.a.b"), TREE) == 1


def test_what_a_message_has() -> None:
    assert members({"a": 1, "b": 2}) == "it has a, b"
    assert members({}) == "it has no member"
    assert members([1]) == "it is an array"
    assert members(dict.fromkeys("abcdefgh")).endswith("f, ...")
