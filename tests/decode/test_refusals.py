from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.decode.refusals import MAX_RECORDS, Refusals
from edged.records import Reject


def test_the_first_stand_alone_and_the_rest_is_counted() -> None:
    refusals = Refusals()
    for i in range(10):
        refusals.add(Reject("short", f"{i}", payload=i // 8, offset=i))
    refusals.add(Reject("long", "x", payload=0))
    told = [(r.reason, r.detail, r.payload, r.times) for r in refusals.records]
    assert told == [
        *(("short", f"{i}", 0, 1) for i in range(MAX_RECORDS)),
        ("short", "4", 0, 4),
        ("short", "8", 1, 1),
        ("short", "9", 1, 1),
        ("long", "x", 0, 1),
    ]
    assert [refusals.says("short", payload) for payload in (0, 1, 2)] == [False, True, True]


def test_pieces_of_one_whole_count_as_one() -> None:
    refusals = Refusals(is_one=True)
    for i in range(100):
        refusals.add(Reject("short", "", payload=i))
    assert [(r.payload, r.times) for r in refusals.records] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 96)]


@given(st.lists(st.integers(0, 3)), st.booleans())
def test_all_at_once_is_as_one_by_one(payloads: list[int], is_one: bool) -> None:
    asked = []

    def words(i: int) -> Reject:
        asked.append(i)
        return Reject("late", str(i), payload=payloads[i])

    at_once, alone = Refusals(is_one), Refusals(is_one)
    at_once.add_all(payloads, words)
    for i in range(len(payloads)):
        alone.add(words(i))
    assert sorted(at_once.records) == sorted(alone.records)
    assert len(asked) - len(payloads) == len(at_once.records)


@pytest.mark.parametrize("times", [1, 7])
def test_a_record_may_stand_for_several(times: int) -> None:
    refusals = Refusals()
    for _ in range(6):
        refusals.add(Reject("short", "", times=times))
    assert sum(r.times for r in refusals.records) == 6 * times
