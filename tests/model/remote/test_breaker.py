from __future__ import annotations

from edged.model.remote.breaker import FAILURES, Breaker

S = 10**9


def test_after_failures_in_a_row_one_request_tries() -> None:
    breaker = Breaker(30 * S)
    for n in range(FAILURES):
        assert breaker.allows(n)
        assert breaker.fail(n) is (n == FAILURES - 1)
    assert not breaker.allows(29 * S)
    assert breaker.is_open(29 * S)
    later = 31 * S
    assert [breaker.allows(later), breaker.allows(later)] == [True, False]
    assert breaker.fail(later)
    assert not breaker.allows(later + 29 * S)
    assert breaker.allows(later + 31 * S)
    breaker.succeed()
    assert breaker.allows(later + 31 * S)
    assert not breaker.is_open(later + 31 * S)


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(S)
    for n in range(3 * FAILURES):
        assert not breaker.fail(n)
        if n % (FAILURES - 1) == FAILURES - 2:
            breaker.succeed()
