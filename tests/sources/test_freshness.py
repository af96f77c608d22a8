from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.records import Block
from edged.sources.freshness import Freshness
from edged.sources.pace import GAPS

S = 10**9


def block(values: list[float], keys: int | list[int] = 0, at: int = S, times: list[int] | None = None, **more: object) -> Block:
    rows = np.array(values, np.float32).reshape(len(values), -1)
    when = np.array(times if times is not None else [at] * len(values), np.int64)
    return Block(rows, when, 0, at, keys if isinstance(keys, int) else np.array(keys, np.int32), **more)  # type: ignore[arg-type]


def make(stale: int | None = 2 * S, frozen: int | None = None, keys: int = 3) -> Freshness:
    return Freshness(stale, frozen, 1, keys, np.float32)


def flags(one: Block) -> list[bool] | None:
    return None if one.degraded is None else one.degraded.tolist()


def test_a_key_is_online_until_it_was_silent_for_too_long() -> None:
    fresh = make()
    assert fresh.state(S) == ("running", "")
    fresh.see(block([1, 2], [0, 2]))
    assert fresh.is_online(3 * S).tolist() == [True, False, True]
    fresh.see(block([1], [2], at=2 * S))
    assert fresh.is_online(3 * S + 1).tolist() == [False, False, True]
    assert fresh.state(3 * S + 1) == ("running", "1 of 2 keys are silent or frozen")
    assert fresh.state(8 * S) == ("bad values", "no good sample for 6 s: see its drop counts")
    fresh.see(block([1], [0], at=8 * S))
    assert fresh.is_online(8 * S).tolist() == [True, False, False]


def test_a_held_value_is_no_good_sample() -> None:
    fresh = make()
    fresh.see(block([1, 1], [0, 1]))
    fresh.see(block([1, 1], [0, 1], at=4 * S, degraded=np.array([True, False])))
    assert fresh.is_online(4 * S).tolist() == [False, True, False]
    fresh.see(block([1, 1], 0, at=5 * S, degraded=np.array([True, True])))
    assert not fresh.is_online(5 * S)[0]
    fresh.see(block([1, 1], 0, at=5 * S, degraded=np.array([False, True])))
    assert fresh.is_online(5 * S)[0]


def test_only_held_values_since_the_start() -> None:
    fresh = make()
    fresh.see(block([1], degraded=np.array([True])))
    assert fresh.state(S) == ("bad values", "no good sample yet")


def test_without_a_limit_nothing_is_ever_stale() -> None:
    fresh = make(None, 10 * S)
    fresh.see(block([1]))
    assert fresh.is_online(10**6 * S).tolist() == [True, False, False]
    assert fresh.state(10**6 * S) == ("running", "")


def test_rows_are_degraded_once_their_values_have_been_the_same_for_too_long() -> None:
    fresh = make(frozen=2 * S, keys=1)
    one = block([5, 5, 5, 5], times=[0, S, 2 * S, 2 * S + 1])
    fresh.see(one)
    assert flags(one) == [False, False, False, True]
    assert fresh.state(2 * S) == ("frozen", "the same values for more than 2 s")
    two = block([5, 6, 6], times=[3 * S, 4 * S, 6 * S], degraded=np.array([False, True, False]))
    fresh.see(two)
    assert flags(two) == [True, True, False]
    assert fresh.state(2 * S) == ("running", "")
    assert fresh.is_online(2 * S).tolist() == [True]


def test_values_that_are_not_numbers_can_be_frozen_too() -> None:
    fresh = make(frozen=2 * S, keys=1)
    one = block([np.nan, np.nan], times=[0, 3 * S])
    fresh.see(one)
    assert flags(one) == [False, True]


def test_a_key_that_began_anew_is_another_sensor() -> None:
    fresh = make(frozen=S)
    fresh.see(block([5, 5], [1, 1], times=[0, 2 * S]))
    assert fresh.is_frozen.tolist() == [False, True, False]
    again = block([5], [1], times=[3 * S], restarts=(1,))
    fresh.see(again)
    assert flags(again) is None
    assert fresh.renewed == {1}
    fresh.see(block([5], [0], restarts=(1,)))
    assert fresh.is_online(S).tolist() == [True, False, False]


def learned(fresh: Freshness, gap_s: int = 1, keys: int | list[int] = 0, values: int = 1) -> int:
    """Samples at a pace for as long as it takes to learn that; when the last one came."""
    at = S
    for _ in range(GAPS + 1):
        fresh.see(block([1] * values, keys, at=at))
        at += gap_s * S
    return at - gap_s * S


def test_a_pace_that_was_learned_tells_silence() -> None:
    fresh = Freshness(None, None, 1, 1, np.float32, learns=True)
    assert (fresh.limit, fresh.is_judged.tolist()) == (None, [False])
    at = learned(fresh)
    assert (fresh.limit, fresh.is_judged.tolist()) == (30 * S, [True])
    assert fresh.state(at + 30 * S, at) == ("running", "")
    assert fresh.is_online(at + 30 * S).tolist() == [True]
    late = at + 31 * S
    said = "nothing has come in for 31 s, and its learned pace allows 30 s at most"
    assert fresh.state(late, at) == ("silent", said)
    assert fresh.is_online(late).tolist() == [False]
    assert fresh.state(late, late - S) == ("bad values", "no good sample for 31 s: see its drop counts")
    assert fresh.state(late, at, opened=late - S)[0] == "running"  # its port was away meanwhile
    fresh.see(block([1], at=late))
    assert fresh.state(late, late) == ("running", "")


def test_a_bad_sample_has_no_pace() -> None:
    fresh = Freshness(None, None, 1, 1, np.float32, learns=True)
    for second in range(1, 2 * GAPS):
        fresh.see(block([1, 1], at=second * S, degraded=np.array([True, True])))
    assert fresh.limit is None
    fresh = Freshness(None, None, 1, 3, np.float32, learns=True)
    for second in range(1, 2 * GAPS):
        fresh.see(block([1, 1], [0, 1], at=second * S, degraded=np.array([True, False])))
    assert fresh.is_judged.tolist() == [False, True, False]


def test_each_key_has_a_pace_of_its_own_and_the_source_that_of_the_slowest() -> None:
    fresh = Freshness(None, None, 1, 3, np.float32, learns=True)
    at = learned(fresh, keys=[0, 1], gap_s=1, values=2)
    at = learned(fresh, keys=[2], gap_s=60)
    assert fresh.limit == 600 * S
    assert fresh.is_online(at + 31 * S).tolist() == [False, False, True]
    assert fresh.state(at + 31 * S, at) == ("running", "2 of 3 keys are silent or frozen")
    assert fresh.state(at + 601 * S, at)[0] == "silent"
    fresh.see(block([1], [2], at=at + 601 * S, restarts=(2,)))
    assert fresh.is_judged.tolist() == [True, True, False]


def test_without_learning_no_pace_is_known() -> None:
    fresh = make(None)
    at = learned(fresh)
    assert fresh.limit is None
    assert fresh.state(at + 10**6 * S, at) == ("running", "")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_blocks_of_any_size_give_what_single_rows_give(dtype: type, rows: list[tuple[int, int, int]], cuts: list[int]) -> None:
    fresh = Freshness(None, 5, 2, 3, dtype)
    last: dict[int, tuple[int, int]] = {}
    expected, times, time = [], [], 0
    for key, value, step in rows:
        time += step
        times.append(time)
        before = last.get(key)
        if before is None or before[0] != value:
            last[key] = (value, time)
        expected.append(time - last[key][1] > 5)
    found: list[bool] = []
    edges = sorted({0, len(rows), *(min(c, len(rows)) for c in cuts)})
    for start, stop in itertools.pairwise(edges):
        values: Any = np.array([[v, 7] for _, v, _ in rows[start:stop]], dtype)
        keys = np.array([k for k, _, _ in rows[start:stop]], np.int32)
        one = Block(values, np.array(times[start:stop], np.int64), 0, 1, keys)
        fresh.see(one)
        found += [False] * (stop - start) if one.degraded is None else one.degraded.tolist()
    assert found == expected


def test_a_camera_that_repeats_its_picture_is_frozen() -> None:
    fresh = Freshness(None, S, 12, 1, np.uint8)
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 12)
    for second, picture in enumerate((0, 1, 1, 1)):
        fresh.see(Block(pictures[picture : picture + 1], np.array([second * S]), 0, second * S))
    assert fresh.is_frozen.tolist() == [True]
