"""How many messages may leave."""

from __future__ import annotations

from edged.behaviours.limit import Limit

S = 10**9


def test_a_seconds_worth_at_once_then_at_the_rate() -> None:
    limit = Limit([3.0])
    assert [limit.allows(S) for _ in range(4)] == [True, True, True, False]
    assert [limit.allows(S + S // 3 + 1) for _ in range(2)] == [True, False]
    assert [limit.allows(100 * S) for _ in range(4)] == [True, True, True, False]  # nothing is saved up beyond that


def test_a_slow_rate_lets_one_through_and_all_rates_must_allow() -> None:
    limit = Limit([10.0, 1 / 60])
    assert [limit.allows(S), limit.allows(2 * S), limit.allows(60 * S), limit.allows(61 * S)] == [True, False, False, True]
