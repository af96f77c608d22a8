import random

from hypothesis import given
from hypothesis import strategies as st

from edged.clock.backoff import Backoff


@given(first=st.floats(0.01, 5), cap=st.floats(0.01, 60), floor=st.floats(0, 1), seed=st.integers())
def test_waits_lie_between_the_floor_and_a_doubling_limit(first: float, cap: float, floor: float, seed: int) -> None:
    backoff = Backoff(first, cap, floor, random.Random(seed))
    for attempt in range(50):
        limit = min(cap, first * 2.0**attempt)
        assert min(floor, limit) <= backoff.next_s() <= max(floor, limit) + 1e-12


def test_the_jitter_is_full_and_ends_with_good_service() -> None:
    backoff = Backoff(1.0, 64.0, rng=random.Random(1))
    waits = [backoff.next_s() for _ in range(1000)]
    assert max(waits[:3]) <= 4.0
    assert min(waits[10:]) < 3.0
    assert max(waits[10:]) > 61.0
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_a_day_of_failures_does_not_overflow() -> None:
    backoff = Backoff(0.5, 2.0)
    for _ in range(100_000):
        assert backoff.next_s() <= 2.0
