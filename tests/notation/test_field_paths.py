from __future__ import annotations

import pytest

from edged.notation.field_paths import Path, Select, Step, flat, parse_field_path, path_of_name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.b", ("a", "b")),
        ("rows.0.v", ("rows", 0, "v")),
        ('params."switch:0".apower', ("params", "switch:0", "apower")),
        (".", (Step.SELF,)),
        ("^", (Step.ROOT,)),
        ("^.a", (Step.ROOT, "a")),
        ("a.^", ("a", "^")),
        ("values[id=Ch1.Dev1.Tag1].v", ("values", Select(("id",), "Ch1.Dev1.Tag1"), "v")),
        ('values[id="a]b"]', ("values", Select(("id",), "a]b"))),
        ("zones[=driveway]", ("zones", Select((), "driveway"))),
        ("[n=x].v", (Select(("n",), "x"), "v")),
        ("007", ("007",)),
    ],
)
def test_paths(text: str, path: Path) -> None:
    assert parse_field_path(text) == path


@pytest.mark.parametrize("text", ["", "a.", ".a", "a..b", 'a"b"', "a[b]", "a[", "a[0]", "a[=x]b"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="expected a path such as"):
        parse_field_path(text)


def test_a_name_that_is_no_path_is_itself() -> None:
    assert path_of_name("a[b]") == ("a[b]",)


@pytest.mark.parametrize("text", ["Dc/0/Voltage", "1-0:16.7.0*255", "tags.cpu", "a.05"])
def test_flat_names_are_as_they_are_written(text: str) -> None:
    assert flat(parse_field_path(text)) == text
