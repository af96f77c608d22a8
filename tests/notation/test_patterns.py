import pytest

from edged.notation.patterns import checked_pattern, groups_of, stays_in_line


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<kg>[+-] *[\d.]+)kg",
        r"^(?P<a>\d{3})(?P<b>\w+)?$",
        r"(?P<a>(?:\d{2}){3})",
        r"(?P<a>ST|US),(?P<b>.*)",
        r"(?i)t=(?P<t>\d+)",
    ],
)
def test_what_ends_soon_is_taken(pattern: str) -> None:
    assert checked_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(?P<a>(a+)+)", "a quantifier over something that has one"),
        (r"(?P<a>(\d+,)*)", "a quantifier over something that has one"),
        (r"(?P<a>(?:x?)*y)", "a quantifier over something that has one"),
        (r"(?P<a>(a|ab)*)c", "alternatives within a quantifier"),
        (r"(?P<a>x)(?P=a)", "a back-reference"),
        (r"(\d+)", "expected a named group"),
        (r"(?P<a>[", "expected a regular expression"),
    ],
)
def test_what_may_never_end_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked_pattern(pattern)


def test_groups_are_in_order() -> None:
    assert groups_of(r"(?P<b>\d)(x)(?P<a>\d)") == ("b", "a")


@pytest.mark.parametrize(
    ("pattern", "stays"),
    [
        (r"(?P<a>\d+) (?P<b>\S+)", True),
        (r"(?P<a>.*)$", True),
        (r"(?P<a>[^,]+)", False),
        (r"(?P<a>\d+)\s", False),
        (r"\A(?P<a>\d)", False),
        (r"(?s)(?P<a>.*)", False),
        (r"(?P<a>(?s:.*))", False),
        (r"(?P<a>\D)", False),
        (r"(?P<a>[\s])", False),
        (r"(?P<a>\n?)", False),
    ],
)
def test_which_may_search_many_lines_at_once(pattern: str, stays: bool) -> None:
    assert stays_in_line(pattern) is stays
