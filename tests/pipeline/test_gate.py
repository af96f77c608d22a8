"""What a gate knows, asked of single samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.pipeline.gate import FAR, REFUSED, STALE, UNKNOWN, Gate, GatePlan, set_apart
from edged.records import Block, Result
from edged.results.when import Condition

S = 10**9
ABOVE = Condition(of=("score",), above=0.5)


class Lead:
    """A pipeline on the way to the gate."""

    def __init__(self, pending_since: int = FAR) -> None:
        self.pending_since = pending_since
        self.is_stalled = False


def made(**settings: Any) -> Gate:
    plan = GatePlan("g", settings.pop("condition", ABOVE), None, 0, None, True)
    return Gate(GatePlan(*(settings.get(name, getattr(plan, name)) for name in plan.__struct_fields__)))


def tell(gate: Gate, key: int, arrival: int, score: float, time: int | None = None) -> None:
    gate.tell(Result({"score": score}, key, 1, arrival if time is None else time, arrival), arrival)


def test_it_is_closed_until_something_is_known() -> None:
    gate = made()
    assert (gate.verdict(0, S, S), gate.why) == (False, UNKNOWN)
    tell(gate, 0, S, 0.9)
    assert gate.verdict(0, S, S) is True
    assert gate.verdict(1, S, S) is False
    tell(gate, 0, 2 * S, 0.1)
    assert (gate.verdict(0, 2 * S, 2 * S), gate.why) == (False, REFUSED)


def test_the_newest_that_is_not_after_the_row_counts() -> None:
    gate = made()
    for second, score in ((1, 0.9), (3, 0.1), (5, 0.9)):
        tell(gate, 0, second * S, score)
    assert [gate.verdict(0, 9 * S, second * S) for second in range(7)] == [False, True, True, False, False, True, True]


def test_more_changes_than_are_kept_are_told_by_the_oldest_of_them() -> None:
    gate = made()
    for second in range(200):
        tell(gate, 0, second * S, 0.9 * (second % 2))
    kept = [gate.verdict(0, 200 * S, second * S) for second in range(200)]
    assert kept[-32:] == [False, True] * 16
    assert set(kept[:160]) == {True}  # the opposite of the oldest that is known


@pytest.mark.parametrize(("hold_s", "expected"), [(0, [True, False, False, False]), (2, [True, True, True, False])])
def test_it_stays_open_for_a_while(hold_s: int, expected: list[bool]) -> None:
    gate = made(hold_ns=hold_s * S)
    tell(gate, 0, 1 * S, 0.9)
    found = [gate.verdict(0, S, S)]
    for second in (2, 3, 4):
        tell(gate, 0, second * S, 0.1)
        found.append(gate.verdict(0, second * S, second * S))
    assert found == expected


def test_it_holds_from_when_the_conditions_last_held() -> None:
    gate = made(hold_ns=2 * S)
    for second in (1, 2, 3):
        tell(gate, 0, second * S, 0.9)
    tell(gate, 0, 4 * S, 0.1)
    assert [gate.verdict(0, t * S, t * S) for t in (4, 5, 6)] == [True, True, False]


@pytest.mark.parametrize(
    ("band", "scores", "expected"),
    [
        (None, [1, 1, 2, 2, 1], [False, False, True, False, True]),
        (0.5, [1, 1.4, 1.6, 1.7, 1.0], [False, False, True, False, True]),
    ],
)
def test_it_opens_for_a_change(band: float | None, scores: list[float], expected: list[bool]) -> None:
    gate = made(condition=Condition(), change_of=("score",), dead_band=band)
    seen = []
    for second, score in enumerate(scores, 1):
        tell(gate, 7, second * S, score)
        tell(gate, 8, second * S, 0)
        seen.append(gate.verdict(7, second * S, second * S))
        assert gate.verdict(8, second * S, second * S) is False
    assert seen == expected


def test_a_stale_stream_closes_it() -> None:
    gate = made(stale_ns=2 * S, hold_ns=60 * S)
    tell(gate, 0, S, 0.9)
    assert gate.verdict(0, 3 * S, 3 * S) is True
    assert (gate.verdict(0, 3 * S + 1, 3 * S + 1), gate.why) == (False, STALE)
    tell(gate, 0, 9 * S, 0.9)
    assert gate.verdict(0, 9 * S, 9 * S) is True


def test_one_without_keys_is_for_all_of_them() -> None:
    gate = made(is_keyed=False)
    tell(gate, 0, S, 0.9)
    assert [gate.verdict(key, S, S) for key in (0, 5)] == [True, True]
    gate.reset(5)  # a key of the others that means another sensor now
    assert gate.verdict(5, S, S) is True


def test_a_key_that_means_another_sensor_is_forgotten() -> None:
    gate = made()
    tell(gate, 3, S, 0.9)
    gate.begin(Block(np.zeros((1, 1)), np.zeros(1, np.int64), 0, 2 * S, restarts=(3,)))
    gate.end()
    assert (gate.verdict(3, 2 * S, 2 * S), gate.why) == (False, UNKNOWN)


def test_a_sensor_is_judged_by_one_of_its_numbers() -> None:
    gate = made(condition=Condition(of=("v",), above=1, below=3), column=1, stale_ns=S)
    values = np.array([[0, 2], [2, 0], [9, 2], [9, np.nan]])
    gate.see(Block(values, np.arange(4) * S, 10, S, np.array([0, 1, 2, 3], np.int32)))
    assert [gate.verdict(key, S, 10 + key * S) for key in range(4)] == [True, False, True, False]
    bad = Block(values[:1], np.array([9 * S]), 0, 9 * S, 0, degraded=np.array([True]))
    gate.see(bad)  # judged, but no sign of life
    assert (gate.verdict(0, 9 * S, 9 * S), gate.why) == (False, STALE)


def test_many_samples_of_one_sensor_at_once() -> None:
    condition = Condition(of=("v",), above=0.5)
    each, together = (made(condition=condition, column=0, hold_ns=3, is_keyed=False) for _ in range(2))
    values = np.random.default_rng(1).integers(0, 2, (40, 1)).astype(np.float64)
    for i in range(40):
        each.see(Block(values[i : i + 1], np.array([i]), 0, S))
    together.see(Block(values, np.arange(40), 0, S))
    assert [together.verdict(0, S, i) for i in range(45)] == [each.verdict(0, S, i) for i in range(45)]
    together.see(Block(values[:0], np.zeros(0, np.int64), 0, S))


def test_a_sensors_field_that_is_true() -> None:
    gate = made(condition=Condition(is_true=("v",)), column=0)
    gate.see(Block(np.array([[0.0], [1.0], [np.nan]]), np.zeros(3, np.int64), 0, S, np.array([0, 1, 2], np.int32)))
    assert [gate.verdict(key, S, 0) for key in range(3)] == [False, True, False]


def test_what_both_start_from_is_waited_for() -> None:
    gate = made(fork="in")
    lead = Lead()
    gate.connect([lead], [])
    gate.begin(Block(np.zeros((2, 1)), np.zeros(2, np.int64), 0, S))
    assert gate.verdict(0, S, 1) is None  # on its way to the gate too
    gate.end()
    lead.pending_since = S
    assert gate.verdict(0, S, 1) is None
    tell(gate, 0, S, 0.9, time=1)
    assert (gate.verdict(0, S, 1), gate.verdict(0, S, 2), gate.verdict(1, S, 1)) == (True, None, None)
    lead.pending_since = FAR  # nothing more comes of this sample: what was known of it before holds
    assert (gate.verdict(0, S, 2), gate.verdict(1, S, 1)) == (True, False)


def test_only_changes_that_a_row_may_still_ask_for_are_kept() -> None:
    gate = made(fork="in")
    lag = Lead(FAR)
    gate.connect([], [lag])
    for second in range(10):
        tell(gate, 0, second * S, 0.9 * (second % 2))
    assert gate.verdict(0, 8 * S, 8 * S) is False  # nobody can ask so late, so it is forgotten
    lag.pending_since = 9 * S
    for second in range(10, 20):
        tell(gate, 0, second * S, 0.9 * (second % 2))
    assert [gate.verdict(0, t * S, t * S) for t in range(9, 20)] == [bool(t % 2) for t in range(9, 20)]


def test_it_waits_for_a_broker_with_those_before_it() -> None:
    gate, lead = made(fork="in"), Lead()
    gate.connect([lead], [])
    assert not gate.is_stalled
    lead.is_stalled = True
    assert gate.is_stalled


@pytest.mark.parametrize(
    ("keys", "times", "apart"),
    [
        (0, [5], [5]),
        (0, [1, 2, 3], [1, 2, 3]),
        (0, [5, 5, 5, 6, 9], [5, 6, 7, 8, 9]),
        ([0, 1, 0, 1, 0], [5, 5, 5, 9, 3], [5, 5, 6, 9, 7]),
    ],
)
def test_samples_of_one_key_have_times_of_their_own(keys: Any, times: list[int], apart: list[int]) -> None:
    ids = keys if isinstance(keys, int) else np.array(keys, np.int32)
    assert set_apart(ids, np.array(times)).tolist() == apart
