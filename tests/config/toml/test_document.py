from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.toml.document import SyntaxProblem, not_utf8, parse


def said(text: str) -> tuple[int, int, str]:
    with pytest.raises(SyntaxProblem) as caught:
        parse(text)
    return caught.value.line, caught.value.column, caught.value.text


def test_values_and_positions_go_together() -> None:
    document = parse('a = 1\r\n[b]\r\nc = "x"\r\n')
    assert document.values == {"a": 1, "b": {"c": "x"}}
    assert document.positions.locate(("b", "c")) == (3, 5)


def test_braces_may_span_lines() -> None:
    assert parse("a = {\n  b = 1,\n}\n").values == {"a": {"b": 1}}


def test_a_table_declared_twice_names_both_places() -> None:
    assert said("[source.a]\nx = 1\n[source.b]\n[source.a]\n") == (
        4,
        1,
        "source.a: declared twice, first at line 1; a second sensor needs a name of its own",
    )
    assert said("[[a]]\n[a]\n")[2].startswith("a: declared twice, first at line 1")


def test_a_key_given_twice_names_both_places() -> None:
    assert said("[a]\nb = 1\nc = 2\nb = 3\n") == (4, 1, "a.b: given twice, first at line 2; remove one")
    assert said("x = { a = 1, a = 2 }")[2] == "x.a: given twice, first at line 1; remove one"


def test_an_open_brace_is_named_by_its_line() -> None:
    assert said("\na = {\n  b = 1,\n")[2] == "TOML: the brace opened at line 2 is not closed"
    assert said("a = [\n  1\n[b]\n")[:2] == (3, 1)


def test_nesting_without_end_is_refused() -> None:
    assert "nested too deep" in said("a = " + "[" * 100_000)[2]


def place_of_first_error(text: str) -> tuple[int, int] | None:
    try:
        parse(text)
    except SyntaxProblem as problem:
        return problem.line, problem.column
    return None


def is_in(text: str, place: tuple[int, int] | None) -> bool:
    lines = text.replace("\r\n", "\n").split("\n")
    return place is None or (1 <= place[0] <= len(lines) and 1 <= place[1] <= len(lines[place[0] - 1]) + 1)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    assert is_in(text, place_of_first_error(text))


WORDS = (
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    '"',
    "'",
    '"""',
    "a",
    "b.c",
    "1",
    "01",
    "true",
    "yes",
    "\n",
    " ",
    "#",
    "5s",
    ":",
)


@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
def test_broken_toml_is_refused_with_a_place_in_it(text: str) -> None:
    assert is_in(text, place_of_first_error(text))


SECRET = "hunter2"
UNCLOSED = (
    "= hunter2",
    '= "hunter2',
    "= 'hunter2",
    "= [hunter2",
    '= [\n["hunter2"',
    "= {a = hunter2",
    '= """\n[hunter2',
    "= “hunter2”",
)
CLOSED = ('= "hunter2"', "= ['hunter2']", '= [\n["hunter2"]]', '= """\n[hunter2]"""', "= {a = 'hunter2'}")
SHORT = tuple(word for word in WORDS if "'" not in word and '"' not in word)


def refusal(text: str) -> str:
    try:
        parse(text)
    except SyntaxProblem as problem:
        return problem.text
    return ""


@pytest.mark.parametrize("key", ["password", "[broker.main]\npassword", "[a]\nb.c = 1\nb", "a = 1\na", "a.b = 1\na"])
@pytest.mark.parametrize(
    "value", [*UNCLOSED, *CLOSED, "= 0hunter2", "= .hunter2", "= 12hunter2", ": hunter2", "hunter2", "= a, hunter2"]
)
@pytest.mark.parametrize("after", ["", "\n", " hunter2", ", hunter2", "\n[hunter2", "]", '\\hunter2"', " = hunter2"])
def test_what_is_refused_is_not_quoted(key: str, value: str, after: str) -> None:
    """It may be a password without quotes."""
    assert SECRET not in refusal(f"{key} {value}{after}\n")


@given(st.lists(st.sampled_from((*SHORT, *UNCLOSED, *CLOSED)), max_size=10).map("".join))
def test_no_value_is_quoted_however_broken_the_rest_is(text: str) -> None:
    assert SECRET not in refusal(text)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("[a]\rb = 1\r", (1, 4), "the lines end in CR alone"),
        ("a = 1\nb\0 = 2\n", (2, 2), "found a NUL byte"),
        ("\0" * 64, (1, 1), "found a NUL byte"),
        ("---\nbroker:\n", (1, 1), "this is YAML"),
        ("# why\n\nbroker:\n  main: {url: x}\n", (3, 1), "this is YAML"),
        ("a = 1\n>>>>>>> other\n", (2, 1), "merge conflict"),
        ("a = １\n", (1, 5), "full-width 1 (U+FF11)"),
    ],
)
def test_what_is_something_else_than_toml(text: str, place: tuple[int, int], said: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == place
    assert said in caught.value.text


def test_a_colon_in_a_file_of_toml_does_not_make_it_yaml() -> None:
    with pytest.raises(SyntaxProblem, match="write key = value, found a colon"):
        parse('[broker.main]\nurl: "x"\n')


def test_other_encodings() -> None:
    assert not_utf8("a".encode("utf-16"), 0) == "expected UTF-8 text, found UTF-16; save the file as UTF-8"
    assert not_utf8(b"a = \xe9", 4) == "expected UTF-8 text, found the byte 0xE9; save the file as UTF-8"
