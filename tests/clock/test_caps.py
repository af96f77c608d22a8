"""Never more than so many in any time."""

from __future__ import annotations

from edged.clock.caps import Caps
from edged.records import Cap

S = 10**9


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


def test_without_limits_everything_may_pass() -> None:
    caps = Caps(())
    assert all(caps.take(0) for _ in range(100))
