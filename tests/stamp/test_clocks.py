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


def test_a_counter_wraps_or_starts_over() -> None:
    ms = 10**6
    clock = Elapsed(ms, 1)
    before, _ = clock.times(ns((2**32 - 1) * ms), 1, 0, 100 * SECOND)
    after, _ = clock.times(ns(9 * ms), 1, 0, 100 * SECOND + 10 * ms)
    assert (after - before).tolist() == [10 * ms]
    assert clock.restarts == []
    clock.times(ns(5 * ms), 1, 0, 101 * SECOND)
    assert clock.restarts == [0]
