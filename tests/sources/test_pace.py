from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.sources.pace import GAPS, KEY_BYTES, MIN_SILENCE_NS, NEVER, SILENT_GAPS, Paces

S = 10**9


def heard(gaps_s: Iterable[float], paces: Paces | None = None, key: int = 0, at: int = S) -> tuple[Paces, int]:
    """Paces that saw a sample, and one after each of these gaps; and the time of the last."""
    paces = paces or Paces(2)
    paces.see(key, at)
    for gap_s in gaps_s:
        at += round(gap_s * S)
        paces.see(key, at)
    return paces, at


@pytest.mark.parametrize(("gap_s", "limit_s"), [(0.001, 30), (1, 30), (3, 30), (3.5, 35), (60, 600), (86400, 864000)])
def test_ten_gaps_of_a_regular_sensor_and_at_least_30_s_are_no_chance(gap_s: float, limit_s: float) -> None:
    paces, at = heard([gap_s] * (GAPS - 1))
    assert paces.limits.tolist() == [NEVER, NEVER]
    heard([gap_s], paces, at=at)
    assert paces.limits.tolist() == [pytest.approx(limit_s * S), NEVER]
    assert paces.longest == paces.limits[0]


def test_a_door_contact_has_no_pace() -> None:
    door = random.Random(7)
    paces, _ = heard(door.expovariate(1 / 60) for _ in range(20 * GAPS))
    assert paces.limits.tolist() == [NEVER, NEVER]
    bouncing, _ = heard(gap for _ in range(10 * GAPS) for gap in (0.01, 0.02, door.uniform(1, 600)))
    assert bouncing.longest == NEVER


@given(st.lists(st.floats(0.01, 1000), min_size=GAPS, max_size=GAPS))
def test_the_spread_decides(gaps: list[float]) -> None:
    paces, _ = heard(gaps)
    mean = sum(gaps) / GAPS
    spread = (sum((gap - mean) ** 2 for gap in gaps) / GAPS) ** 0.5
    if abs(spread - mean / 2) > 1e-6 * mean:
        expected = max(MIN_SILENCE_NS, SILENT_GAPS * mean * S) if spread < mean / 2 else NEVER
        assert paces.longest == pytest.approx(expected, rel=1e-6)


def test_what_comes_at_once_is_one_sign_of_life() -> None:
    paces, _ = heard([2, 1e-6, 1e-6] * GAPS)
    assert paces.longest == 30 * S
    paces, _ = heard([5, 1e-6] * GAPS)
    assert paces.longest == pytest.approx(50 * S)


def test_the_pace_follows_a_sensor_that_slows_down() -> None:
    paces, at = heard([1] * GAPS)
    paces, at = heard([10] * GAPS, paces, at=at)  # below the limit of 30 s
    assert paces.longest == 100 * S
    heard([1] * GAPS, paces, at=at)
    assert paces.longest == 30 * S


def test_one_silence_changes_nothing_and_two_of_them_end_a_pace() -> None:
    paces, at = heard([1] * GAPS)
    paces, at = heard([100, *[1] * (GAPS - 1)], paces, at=at)
    assert paces.longest == 30 * S
    paces, at = heard([1], paces, at=at)  # 50 regular ones: what was is forgiven
    paces, at = heard([100], paces, at=at)
    assert paces.longest == 30 * S
    paces, at = heard([100], paces, at=at)
    assert paces.longest == NEVER
    heard([100] * GAPS, paces, at=at)  # and the new one is learned
    assert paces.longest == 1000 * S


def test_irregular_gaps_that_are_short_do_not_end_a_pace() -> None:
    paces, at = heard([1] * GAPS)
    rest = random.Random(7)
    heard((rest.expovariate(2) for _ in range(3 * GAPS)), paces, at=at)
    assert paces.longest == 30 * S


def test_keys_are_apart_and_may_begin_anew() -> None:
    paces, _ = heard([1] * GAPS)
    heard([60] * GAPS, paces, key=1)
    assert paces.limits.tolist() == [30 * S, 600 * S]
    assert paces.longest == 600 * S
    paces.forget(1)
    assert paces.limits.tolist() == [30 * S, NEVER]
    assert paces.longest == 30 * S
    heard([4] * GAPS, paces, key=1, at=10**9 * S)
    assert paces.limits.tolist() == [30 * S, 40 * S]


def test_it_takes_the_bytes_that_are_planned() -> None:
    assert Paces(100).nbytes == 100 * KEY_BYTES
