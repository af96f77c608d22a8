"""The clocks alone; what they make of whole blocks, keys and refusals is in test_stamper."""

from __future__ import annotations

import numpy as np
import pytest

from edged.stamp.clocks import Arrival, Clock, Elapsed, Utc

SECOND = 10**9


def ns(*times: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(times, np.int64)


@pytest.mark.parametrize("clock", [Arrival(1e9, 2), Utc(1e9, 2), Elapsed(10**6, 2)])
def test_times_of_one_key_never_fall_and_a_forgotten_key_begins_anew(clock: Clock) -> None:
    first, _ = clock.times(ns(5 * SECOND, 6 * SECOND), 2, 1, 100 * SECOND)
    then, _ = clock.times(ns(7 * SECOND), 1, 1, 101 * SECOND)
    assert first.tolist() == sorted(first.tolist())
    assert then[0] >= first[-1]
    clock.forget(1)
    again, kept = clock.times(ns(SECOND), 1, 1, 102 * SECOND)
    assert kept is None
    assert len(again) == 1
    assert clock.restarts == []


def test_on_arrival_earlier_samples_are_spaced_by_the_period() -> None:
    times, _ = Arrival(1e9, 1).times(None, 3, 0, 100 * SECOND)
    assert times.tolist() == [98 * SECOND, 99 * SECOND, 100 * SECOND]


def test_a_stamp_before_the_last_one_is_late() -> None:
    clock = Utc(None, 1)
    clock.times(ns(10), 1, 0, 0)
    times, kept = clock.times(ns(9, 11), 2, 0, 0)
    assert kept is not None
    assert kept.tolist() == [False, True]
    assert times[1] == 11


YEAR = 365 * 86_400 * SECOND


@pytest.mark.parametrize("lone", [True, False])
def test_one_wrong_stamp_makes_nothing_late_that_follows(lone: bool) -> None:
    clock = Utc(None, 1)
    now = [0]

    def taken(*times: int) -> list[int]:
        kept = []
        for part in [[one] for one in times] if lone else [[*times]]:
            now[0] += SECOND
            out, ok = clock.times(ns(*part), len(part), 0, now[0])
            kept += out[ok if ok is not None else slice(None)].tolist()
        return kept

    assert taken(10 * SECOND, 11 * SECOND) == [10 * SECOND, 11 * SECOND]
    assert taken(12 * SECOND, 68 * YEAR) == [12 * SECOND, 68 * YEAR]
    assert clock.restarts == []
    assert taken(14 * SECOND, 15 * SECOND) == [14 * SECOND, 15 * SECOND]
    assert clock.restarts == [0], "windows must not mix both"
    assert taken(9 * SECOND, 16 * SECOND) == [16 * SECOND]
    assert clock.restarts == [0]


def test_a_leap_that_goes_on_is_the_time_and_a_day_without_samples_is_none() -> None:
    clock = Utc(None, 1)
    for arrival, time in ((1, 10), (2, YEAR), (3, YEAR + 1)):
        clock.times(ns(time), 1, 0, arrival * SECOND)
    assert clock.times(ns(11), 1, 0, 4 * SECOND)[1] is not None, "a sensor whose clock was set: what came before that is late"
    later = Utc(None, 1)
    later.times(ns(0), 1, 0, 0)
    later.times(ns(YEAR), 1, 0, YEAR + SECOND)
    assert later.times(ns(SECOND), 1, 0, YEAR + 2 * SECOND)[1] is not None, "what was kept while it was away is late"


def test_a_counter_wraps_or_starts_over() -> None:
    ms = 10**6
    clock = Elapsed(ms, 1)
    before, _ = clock.times(ns((2**32 - 1) * ms), 1, 0, 100 * SECOND)
    after, _ = clock.times(ns(9 * ms), 1, 0, 100 * SECOND + 10 * ms)
    assert (after - before).tolist() == [10 * ms]
    assert clock.restarts == []
    clock.times(ns(5 * ms), 1, 0, 101 * SECOND)
    assert clock.restarts == [0]
