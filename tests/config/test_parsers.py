from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import parsers
from edged.config.parsers import Function, Secret, Span, Surroundings, parse_field_path
from edged.config.words import shown

AROUND = Surroundings(Path("/etc/edged"), {})


def refusal(parse: Any, raw: Any) -> str:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(raw, AROUND)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        *(("5s", 5 * 10**9), ("250ms", 250 * 10**6), ("10us", 10**4), ("7ns", 7), ("0s", 0)),
        *(("1.5h", 5400 * 10**9), ("2 min", 120 * 10**9), ("1d", 86400 * 10**9)),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parsers.duration(text, AROUND) == ns


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (5, 'expected a duration such as "5s", found the number 5; for so many seconds: "5s"'),
        (True, 'expected a duration such as "5s", found true'),
        ("1m", 'expected a duration such as "5s"; "1m" could be "1min" or "1ms"'),
        ("30", 'expected a duration such as "5s", found "30", which has no unit (ns us ms s min h d)'),
        ("5 sec", 'expected a duration such as "5s", found "5 sec"; write "5s"'),
        ("5 weeks", 'expected a duration such as "5s" (ns us ms s min h d), found "5 weeks"'),
        ("-5s", 'expected a duration such as "5s", found "-5s", which is negative'),
        ("", 'expected a duration such as "5s", found ""'),
    ],
)
def test_what_is_no_duration(raw: Any, said: str) -> None:
    assert refusal(parsers.duration, raw) == said


def test_a_silence_may_have_no_limit() -> None:
    assert parsers.silence("never", AROUND) == parsers.NEVER
    assert parsers.silence("5s", AROUND) == 5 * 10**9
    assert refusal(parsers.silence, "Never") == ('expected a duration such as "5s", found "Never"; for no limit: "never"')
    assert refusal(parsers.silence, "0s").endswith('found "0s"; for no limit: "never"')


@given(st.integers(0, 36500), st.sampled_from(sorted(parsers.DURATION_UNITS)))
def test_whole_durations_are_exact(amount: int, unit: str) -> None:
    assert parsers.duration(f"{amount}{unit}", AROUND) == amount * parsers.DURATION_UNITS[unit]


@pytest.mark.parametrize(("text", "count"), [("8MiB", 8 << 20), ("1KiB", 1024), ("0.5GiB", 1 << 29), ("12B", 12)])
def test_sizes(text: str, count: int) -> None:
    assert parsers.size(text, AROUND) == count


def test_what_is_no_size() -> None:
    assert refusal(parsers.size, 4096).endswith('for so many bytes: "4096B"')
    assert refusal(parsers.size, "8MB").endswith('write "8MiB"')
    assert refusal(parsers.size, "0B").endswith("which is nothing")


@pytest.mark.parametrize(("raw", "rate"), [(10, 10.0), (0.5, 0.5), ("6/min", 0.1), ("4/h", 4 / 3600), ("10 / s", 10.0)])
def test_rates(raw: Any, rate: float) -> None:
    assert parsers.rate(raw, AROUND) == pytest.approx(rate)


@pytest.mark.parametrize("raw", [0, -1, True, "6", "6/week", "x/min", [], float("inf"), float("nan")])
def test_what_is_no_rate(raw: Any) -> None:
    refusal(parsers.rate, raw)


@pytest.mark.parametrize("raw", [5, [1], [1, 2, 3], [2, 1], [True, 2], ["a", "b"], [0, float("nan")]])
def test_what_is_no_range(raw: Any) -> None:
    refusal(parsers.value_range, raw)


def test_a_range_may_be_open_or_one_number() -> None:
    assert parsers.value_range([41, 41], AROUND) == (41.0, 41.0)
    assert parsers.value_range([0, float("inf")], AROUND) == (0.0, float("inf"))


@pytest.mark.parametrize("raw", [[], [256], [-1], [1.0], [True], "", "aa 55", 5])
def test_what_are_no_bytes(raw: Any) -> None:
    refusal(parsers.marker, raw)


def test_windows_in_samples_and_in_time() -> None:
    assert parsers.span(1024, AROUND) == Span(samples=1024)
    assert parsers.span("60s", AROUND) == Span(duration=60 * 10**9)
    for raw in (0, True, 1.5, "0s", "1024"):
        refusal(parsers.span, raw)


def test_a_dead_band() -> None:
    assert (parsers.dead_band(True, AROUND), parsers.dead_band(False, AROUND), parsers.dead_band(2, AROUND)) == (0.0, None, 2.0)
    for raw in (-1, "yes", float("nan")):
        refusal(parsers.dead_band, raw)


def test_constants_are_numbers_or_even_lists_of_them() -> None:
    assert parsers.constant([[1, 2], [3, 4.5]], AROUND) == ((1, 2), (3, 4.5))
    raw: Any
    for raw in ([], "a", [[1, 2], [3]], [1, [2]], {}):
        refusal(parsers.constant, raw)


def test_functions_and_steps() -> None:
    assert parsers.step("steps.py:scale", AROUND) == Function(Path("/etc/edged/steps.py"), "scale")
    assert parsers.step("detrend", AROUND) == "detrend"
    raw: Any
    for raw in ("steps.py", "steps:scale", "steps.py:a.b", 5, "scale"):
        refusal(parsers.step, raw)


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


def test_a_secret_shows_itself_to_nobody_but_who_asks() -> None:
    secret = Secret("hunter2")
    assert (secret.reveal(), secret.encode(), type(secret.reveal())) == ("hunter2", b"hunter2", str)
    for seen in (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret:>20}", repr([secret])):
        assert "hunter2" not in seen
    assert copy.copy(secret) == pickle.loads(pickle.dumps(secret)) == secret


@given(st.text())
def test_what_is_shown_is_one_short_line(text: str) -> None:
    assert "\n" not in shown(text)
    assert len(shown(text)) <= 80
