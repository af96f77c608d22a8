"""When a version is left: what it must keep to, by numbers."""

from __future__ import annotations

import pytest

from edged.config.schema import Guard
from edged.model.guard import Pace, Tally, worse
from edged.telemetry import Histogram

GUARD = Guard(for_=10**9, not_finite=0.01, slower=2.0)


def ran(ms: float, rows: int = 100, hiccup_ms: float = 0.0, failed: int = 0, not_finite: int = 0) -> Tally:
    times = Histogram()
    for _ in range(rows):
        times.add(int(ms * 1e6))
    if hiccup_ms:
        times.add(int(hiccup_ms * 1e6))
    return Tally(rows, failed, not_finite, times.sum, times.total, tuple(times.counts))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (ran(1), ""),
        (ran(1.5), ""),
        (ran(3), "3 ms, and 1 ms before"),
        (ran(1, hiccup_ms=1000), ""),
        (ran(9, rows=10), ""),
        (ran(1, not_finite=1), ""),
        (ran(1, not_finite=2), "2 of 100 results are not finite"),
        (ran(1, rows=3, failed=3), "all of its 3 rows failed"),
        (ran(1, failed=60), "60 of 100 rows failed"),
    ],
)
def test_what_is_left(now: Tally, said: str) -> None:
    found = worse(GUARD, ran(1).row_ns, now)
    assert said in found if said else not found


def test_only_what_came_since_the_swap_counts() -> None:
    start, new = ran(50, not_finite=90), ran(1)
    times = tuple(a + b for a, b in zip(start.times, new.times, strict=True))
    later = Tally(200, 0, 90, start.run_ns + new.run_ns, 200, times)
    assert later.since(start) == ran(1)
    assert later.since(Tally()) == later


def test_without_a_pace_before_nothing_is_slower() -> None:
    assert not worse(GUARD, Pace(), ran(100))
    assert not worse(GUARD, ran(1, rows=5).row_ns, ran(100))
