from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.parsers.measures import cap, duration, rate, silence, size, span
from edged.notation.units import DURATION_UNITS
from edged.notation.values import NEVER, Span
from edged.records import Cap
from tests.config.parsers.refusal import AROUND, refusal


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        *(("5s", 5 * 10**9), ("250ms", 250 * 10**6), ("10us", 10**4), ("7ns", 7), ("0s", 0)),
        *(("1.5h", 5400 * 10**9), ("2 min", 120 * 10**9), ("1d", 86400 * 10**9)),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert duration(text, AROUND) == ns


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
    assert refusal(duration, raw) == said


def test_a_silence_may_have_no_limit() -> None:
    assert silence("never", AROUND) == NEVER
    assert silence("5s", AROUND) == 5 * 10**9
    assert refusal(silence, "Never") == ('expected a duration such as "5s", found "Never"; for no limit: "never"')
    assert refusal(silence, "0s").endswith('found "0s"; for no limit: "never"')


@given(st.integers(0, 36500), st.sampled_from(sorted(DURATION_UNITS)))
def test_whole_durations_are_exact(amount: int, unit: str) -> None:
    assert duration(f"{amount}{unit}", AROUND) == amount * DURATION_UNITS[unit]


@pytest.mark.parametrize(("text", "count"), [("8MiB", 8 << 20), ("1KiB", 1024), ("0.5GiB", 1 << 29), ("12B", 12)])
def test_sizes(text: str, count: int) -> None:
    assert size(text, AROUND) == count


def test_what_is_no_size() -> None:
    assert refusal(size, 4096).endswith('for so many bytes: "4096B"')
    assert refusal(size, "8MB").endswith('write "8MiB"')
    assert refusal(size, "0B").endswith("which is nothing")


@pytest.mark.parametrize(("raw", "hertz"), [(10, 10.0), (0.5, 0.5), ("6/min", 0.1), ("4/h", 4 / 3600), ("10 / s", 10.0)])
def test_rates(raw: Any, hertz: float) -> None:
    assert rate(raw, AROUND) == pytest.approx(hertz)


@pytest.mark.parametrize("raw", [0, -1, True, "6", "6/week", "x/min", [], float("inf"), float("nan")])
def test_what_is_no_rate(raw: Any) -> None:
    refusal(rate, raw)


def test_windows_in_samples_and_in_time() -> None:
    assert span(1024, AROUND) == Span(samples=1024)
    assert span("60s", AROUND) == Span(duration=60 * 10**9)
    for raw in (0, True, 1.5, "0s", "1024"):
        refusal(span, raw)


@pytest.mark.parametrize(
    ("raw", "count", "period_s"),
    [
        ("6/min", 6, 60),
        ("200/d", 200, 86400),
        (1000, 1000, 1),
        ("10 / s", 10, 1),
        (0.5, 1, 2),
        ("2.5/s", 1, 0.4),
        ("1.5/min", 1, 40),
    ],
)
def test_a_limit_is_a_rate_that_is_never_exceeded(raw: Any, count: int, period_s: float) -> None:
    assert cap(raw, AROUND) == Cap(count, round(period_s * 10**9))


@pytest.mark.parametrize("raw", ["6", "10Hz", 0, -1, True, "6/week", "200000/d", [], "0/min"])
def test_what_is_no_limit(raw: Any) -> None:
    refusal(cap, raw)
