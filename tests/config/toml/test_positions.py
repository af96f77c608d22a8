from __future__ import annotations

import json
import string
from typing import Any

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.toml.positions import KeyPath, Scanner, parse_path, scan, unescape, written

# Random TOML, written together with its meaning left to tomli: a table is a list of (key, value text).

blank = st.sampled_from(["", " ", "\t", "  "])
gap = st.sampled_from(["", " ", "\n", " # [a] = { \" ' \n", "\n\n  "])
words = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def basic(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


def literal(text: str) -> str:
    return "'" + "".join(c for c in text if c not in "'\n\r\t" and c.isprintable()) + "'"


def multi_line(text: str) -> str:
    return '"""' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r") + '"""'


keys = st.one_of(words, texts.map(basic), texts.map(literal))
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: repr(float(x))),
    st.sampled_from(["true", "false", "0xAA", "inf", "1979-05-27", "1979-05-27 07:32:00", "07:32:00.5", "1_000"]),
    texts.map(basic),
    texts.map(literal),
    st.text(string.ascii_letters + "\n\"'#=[]{},\\ ", max_size=12).map(multi_line),
    st.sampled_from(['""""quoted""""', "''''it''''", '"""\\\n  a"""', "'''\n[x]\na = 1\n'''"]),
)


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    elements = draw(st.lists(values, max_size=3))
    inside = ",".join(draw(gap) + one + draw(gap) for one in elements)
    end = draw(st.sampled_from([",", ""])) if elements else ""
    return "[" + inside + end + draw(gap) + "]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    inside = ",".join(draw(gap) + draw(pairs(values)) + draw(gap) for _ in range(draw(st.integers(0, 3))))
    return "{" + inside + draw(gap) + "}"


@st.composite
def dotted(draw: st.DrawFn) -> str:
    return (draw(blank) + "." + draw(blank)).join(draw(st.lists(keys, min_size=1, max_size=3)))


@st.composite
def pairs(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    return draw(dotted()) + draw(blank) + "=" + draw(blank) + draw(values)


values = st.recursive(scalars, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=4)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["pair", "pair", "table", "list", "comment"]))
        if kind == "pair":
            lines.append(draw(blank) + draw(pairs(values)) + draw(st.sampled_from(["", " # b = [1"])))
        elif kind == "comment":
            lines.append("# x = { [ \" '''")
        else:
            name = draw(blank) + draw(st.one_of(dotted(), st.sampled_from(["a", "a.b", "a.b.c"]))) + draw(blank)
            lines.append(f"[{name}]" if kind == "table" else f"[[{name}]]")
    return "\n".join(lines)


def paths(value: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    found = [(path, value)] if path else []
    if isinstance(value, dict):
        return found + [one for key, inner in value.items() for one in paths(inner, (*path, key))]
    if isinstance(value, list):
        return found + [one for i, inner in enumerate(value) for one in paths(inner, (*path, i))]
    return found


@given(documents())
@settings(max_examples=300, deadline=None)
def test_every_path_that_tomli_yields_stands_where_the_scanner_says(text: str) -> None:
    try:
        parsed = tomli.loads(text)
    except tomli.TOMLDecodeError:
        Scanner(text).run()  # stops somewhere, raises nothing
        return
    positions = scan(text)
    found = paths(parsed)
    assert {path for path, _ in found} == set(positions.places)
    for path, value in found:
        place = positions.places[path]
        rest = text[place.value :]
        if isinstance(value, dict):
            assert rest[0] == "{" or rest[0] == "[" or rest.startswith(text[place.key :])
        elif isinstance(value, list):
            assert rest[0] == "["
        else:
            assert starts_with(rest, value)


def starts_with(text: str, value: Any) -> bool:
    """Whether some beginning of the text, read as one value, is the value."""
    first = text[:3] if text[:3] in ('"""', "'''") else text[:1]
    if first[0] in "\"'":
        ends = [i for i in range(len(first) * 2, len(text) + 1) if text[:i].endswith(first)]
    else:
        ends = [i for i in range(1, len(text) + 1) if i == len(text) or text[i] in " \t\n,]}#"]
    for end in ends:
        try:
            if tomli.loads(f"x = {text[:end]}")["x"] == value:
                return True
        except tomli.TOMLDecodeError:
            continue
    return False


EXAMPLE = """# comment
title = "x"
[source.accel]
port = "/dev/ttyACM0"
decode = { format = "csv", fields = [
  "ax",
  { name = "ay", valid = [-1, 1] },
] }
a.b = 1
[[pipeline.motor.publish]]
topic = "a"
[[pipeline.motor.publish]]
topic = "b"
when.change = true
"""


def test_positions_of_values_keys_and_tables() -> None:
    positions = scan(EXAMPLE)

    def at(path: str, what: str = "value") -> tuple[int, int]:
        return positions.locate(parse_path(path), what)

    assert at("title") == (2, 9)
    assert at("title", "key") == (2, 1)
    assert at("source.accel") == (3, 1)
    assert at("source.accel", "key") == (3, 9)
    assert at("source.accel.port") == (4, 8)
    assert at("source.accel.decode") == (5, 10)
    assert at("source.accel.decode.fields[0]") == (6, 3)
    assert at("source.accel.decode.fields[1].valid[1]") == (7, 31)
    assert at("source.accel.a.b", "key") == (9, 3)
    assert at("pipeline.motor.publish[1]") == (12, 1)
    assert at("pipeline.motor.publish[1].when.change") == (14, 15)


def test_an_absent_key_is_looked_for_at_the_table_it_is_missing_from() -> None:
    positions = scan(EXAMPLE)
    assert positions.locate(("source", "accel", "rate")) == (3, 1)
    assert positions.locate(("source", "accel", "decode", "time", "field"), "table") == (5, 10)
    assert positions.locate(("source", "accel", "port"), "table") == (3, 1)
    assert positions.locate(("memory", "budget")) == (1, 1)


def test_an_open_bracket_is_known_when_the_text_breaks_off() -> None:
    scanner = Scanner("a = 1\nb = { c = [1,\n  2")
    scanner.run()
    assert [scanner.text[at] for at in scanner.open_brackets] == ["{", "["]


@given(
    st.lists(st.one_of(words, texts.filter(bool), st.integers(0, 99)), min_size=1, max_size=4).filter(
        lambda p: isinstance(p[0], str)
    )
)
def test_a_written_path_can_be_read_again(path: list[str | int]) -> None:
    assert parse_path(written(tuple(path))) == tuple(path)


def test_paths_are_written_as_a_person_writes_them() -> None:
    assert written(("pipeline", "motor", "publish", 1, "topic")) == "pipeline.motor.publish[1].topic"
    assert written(("pipeline", "p", "inputs", "in:0")) == 'pipeline.p.inputs."in:0"'


def test_escapes() -> None:
    assert unescape(r"a\tb\"\\\u00e9\U0001F600\x41") == 'a\tb"\\é😀A'
