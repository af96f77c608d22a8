from __future__ import annotations

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from edged.daemon.governor import LONGEST_PAUSE_S, Governor, Orders

NOTHING = Orders(False, False, 0)


def feed(governor: Governor, readings: list[int], start_s: float = 0.0) -> list[tuple[str, Orders]]:
    return [(governor.level, orders) for i, r in enumerate(readings) for orders in [governor.read(r, start_s + i)]]


@pytest.mark.parametrize(("resident", "word"), [(0, "ok"), (900, "ok"), (901, "tight"), (1000, "tight"), (1001, "over")])
def test_levels(resident: int, word: str) -> None:
    governor = Governor(1000, 500, 1)
    governor.read(resident, 0.0)
    assert governor.level == word


@pytest.mark.parametrize(("planned", "tight_at"), [(500, 900), (950, 950), (1000, 980)])
def test_a_plan_that_fills_the_budget_is_not_tight_by_itself(planned: int, tight_at: int) -> None:
    assert Governor(1000, planned, 1).tight_at == tight_at


def test_the_order_of_relief() -> None:
    governor = Governor(1000, 500, 2)
    assert feed(governor, [800, 1100, 1100, 1100, 1100, 1100]) == [
        ("ok", NOTHING),
        ("over", Orders(True, False, 0)),
        ("over", Orders(True, True, 0)),
        ("over", Orders(False, False, 1)),
        ("over", Orders(False, False, 2)),
        ("over", Orders(False, False, 2)),
    ]


def test_tight_memory_sheds_nothing() -> None:
    governor = Governor(1000, 500, 2)
    assert all(orders.shed == 0 for _, orders in feed(governor, [950] * 1000))


def test_trims_that_give_nothing_back_become_rare() -> None:
    governor = Governor(10**9, 0, 0)
    times = [i for i in range(10_000) if governor.read(950_000_000, float(i)).trim]
    assert times[:6] == [0, 1, 11, 31, 71, 151]
    assert max(b - a for a, b in itertools.pairwise(times)) == LONGEST_PAUSE_S


def test_a_trim_that_gave_memory_back_is_repeated_soon() -> None:
    governor = Governor(10**9, 0, 0)
    for i in range(40):
        governor.read(990_000_000, float(i))
    times = [i for i in range(40, 200) if governor.read(990_000_000 - i * 300_000, float(i)).trim]
    assert times[1] - times[0] == 10


def test_a_level_is_left_only_when_memory_stays_well_below() -> None:
    governor = Governor(1000, 500, 1)
    words = [
        word for word, _ in feed(governor, [1001, 999, 971, 970, 960, 980, 1001, 960, 960, 960, 871, 870, 901, 870, 870, 870])
    ]
    assert words == ["over"] * 3 + ["tight"] * 3 + ["over"] * 3 + ["tight"] * 6 + ["ok"]


def test_a_level_is_left_in_the_end_though_memory_stays_just_below() -> None:
    governor = Governor(1000, 500, 1)
    readings = [1001] * 3 + [1000] * 30 + [900] * 31
    words = [word for word, _ in feed(governor, readings)]
    assert words == ["over"] * 32 + ["tight"] * 30 + ["ok"] * 2
    assert governor.shed == 0


def test_what_was_shed_comes_back_though_memory_stays_just_below() -> None:
    governor = Governor(1000, 500, 1)
    feed(governor, [1001] * 3)
    assert governor.shed == 1
    assert [orders.shed for _, orders in feed(governor, [1000] * 5, 3.0)] == [1, 1, 1, 0, 0]


def test_pipelines_come_back_one_at_a_time() -> None:
    governor = Governor(1000, 500, 3)
    feed(governor, [1100] * 5)
    assert governor.shed == 3
    shed = [orders.shed for _, orders in feed(governor, [500] * 40, 5.0)]
    assert [shed.count(n) for n in (3, 2, 1, 0)] == [3, 4, 4, 29]


def test_relapses_make_the_rest_longer() -> None:
    governor, now, seen = Governor(1000, 500, 1), 0.0, []
    for _ in range(9):
        while governor.shed == 0:
            governor.read(1100, now)
            now += 1
        began = now
        while governor.shed:
            governor.read(500, now)
            now += 1
        seen.append(now - began)
    assert seen == sorted(seen)
    assert 3 <= seen[0] < 8
    assert 384 <= seen[-1] < 390


@given(st.lists(st.integers(0, 2000), max_size=300))
def test_whatever_is_read_orders_are_in_bounds_and_calm_ends_them(readings: list[int]) -> None:
    governor = Governor(1000, 500, 4)
    before = 0
    for resident, (_, orders) in zip(readings, feed(governor, readings), strict=True):
        assert 0 <= orders.shed <= 4
        assert abs(orders.shed - before) <= 1
        assert orders.shed <= before or resident > 1000
        before = orders.shed
    feed(governor, [100] * 2000, 1e6)
    assert (governor.level, governor.shed) == ("ok", 0)
