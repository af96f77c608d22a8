from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.notation.words import did_you_mean, duration, help_on, listed, shown

S = 10**9


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        *[(60 * S, "60s"), (90 * S, "90s"), (1800 * S, "30min"), (3600 * S, "60min"), (3 * 3600 * S, "3h")],
        *[(86400 * S, "24h"), (2 * 86400 * S, "2d"), (S // 4, "250ms"), (2000, "2us"), (1500, "1500ns")],
    ],
)
def test_durations_are_said_as_they_are_written(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_long_lists_are_cut() -> None:
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "a, b"
    assert listed(f"c{i}" for i in range(80)).endswith("c11, ... (80 in all)")


def test_guesses_what_was_meant() -> None:
    assert did_you_mean("temprature", ["temperature", "humidity"]) == '; did you mean "temperature"?'
    assert did_you_mean("x", ["temperature"]) == ""


@given(st.text())
def test_what_is_shown_is_one_short_line(text: str) -> None:
    assert "\n" not in shown(text)
    assert len(shown(text)) <= 80


def test_a_state_of_several_words_is_one_argument() -> None:
    assert help_on("silent") == "edged help silent"
    assert help_on("bad values") == 'edged help "bad values"'
