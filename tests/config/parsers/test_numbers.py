from __future__ import annotations

from typing import Any

import pytest

from edged.config.parsers.numbers import constant, dead_band, value_range
from edged.notation.markers import marker
from tests.config.parsers.refusal import AROUND, refusal


@pytest.mark.parametrize("raw", [5, [1], [1, 2, 3], [2, 1], [True, 2], ["a", "b"], [0, float("nan")]])
def test_what_is_no_range(raw: Any) -> None:
    refusal(value_range, raw)


def test_a_range_may_be_open_or_one_number() -> None:
    assert value_range([41, 41], AROUND) == (41.0, 41.0)
    assert value_range([0, float("inf")], AROUND) == (0.0, float("inf"))


@pytest.mark.parametrize("raw", [[], [256], [-1], [1.0], [True], "", "aa 55", 5])
def test_what_are_no_bytes(raw: Any) -> None:
    refusal(marker, raw)


def test_a_dead_band() -> None:
    assert (dead_band(True, AROUND), dead_band(False, AROUND), dead_band(2, AROUND)) == (0.0, None, 2.0)
    for raw in (-1, "yes", float("nan")):
        refusal(dead_band, raw)


def test_constants_are_numbers_or_even_lists_of_them() -> None:
    assert constant([[1, 2], [3, 4.5]], AROUND) == ((1, 2), (3, 4.5))
    raw: Any
    for raw in ([], "a", [[1, 2], [3]], [1, [2]], {}):
        refusal(constant, raw)
