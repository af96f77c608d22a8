from __future__ import annotations

from edged.clock.tail import Tail


def test_what_is_added_is_called_once_at_the_end_of_the_wake_up() -> None:
    tail, called = Tail(), list[str]()

    def work(name: str) -> None:
        assert tail.is_open
        tail.add(lambda: called.append(name))
        assert not called or called == ["a"]

    tail.around(work)("a")
    assert (called, tail.is_open) == (["a"], False)
    tail.open()
    assert not tail.close()
    tail.around(work)("b")
    assert called == ["a", "b"]


def test_a_fault_in_the_wake_up_loses_nothing_that_was_put_off() -> None:
    tail, called = Tail(), list[str]()

    def fail(name: str) -> None:
        tail.add(lambda: called.append(name))
        raise ZeroDivisionError

    try:
        tail.around(fail)("a")
    except ZeroDivisionError:
        called.append("fault")
    assert (called, tail.is_open) == (["a", "fault"], False)
