from __future__ import annotations

from edged.config.values import Cap
from edged.model.remote.breaker import FAILURES, Breaker, Caps

S = 10**9


def test_after_failures_in_a_row_one_request_tries() -> None:
    breaker = Breaker(30 * S)
    for n in range(FAILURES):
        assert breaker.allows(n)
        breaker.fail(n)
    assert not breaker.allows(29 * S)
    assert breaker.is_open(29 * S)
    later = 31 * S
    assert [breaker.allows(later), breaker.allows(later)] == [True, False]
    breaker.fail(later)
    assert not breaker.allows(later + 29 * S)
    assert breaker.opened == 2
    assert breaker.allows(later + 31 * S)
    breaker.succeed()
    assert breaker.allows(later + 31 * S)
    assert not breaker.is_open(later + 31 * S)


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(S)
    for n in range(3 * FAILURES):
        breaker.fail(n)
        if n % (FAILURES - 1) == FAILURES - 2:
            breaker.succeed()
    assert breaker.opened == 0


def test_never_more_than_each_cap_in_any_period() -> None:
    caps = Caps((Cap(2, 10 * S), Cap(3, 100 * S)))
    taken = [t for t in range(250) if caps.take(t * S)]
    assert taken == [0, 1, 10, 100, 101, 110, 200, 201, 210]


def test_a_reload_forgets_nothing_that_was_asked() -> None:
    old, new = Caps((Cap(2, 10 * S),)), Caps((Cap(3, 10 * S),))
    assert old.take(0)
    assert old.take(1)
    new.take_over(old)
    assert [new.take(2), new.take(3)] == [True, False]
