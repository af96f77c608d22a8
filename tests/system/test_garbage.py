"""What only a collection finds is found after a change, at the latest after some more of them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from edged.system.garbage import EVERY, Garbage


class Part:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    yield Garbage()
    gc.unfreeze()


def test_what_is_new_is_found_at_once_and_what_was_set_aside_once_in_a_while(garbage: Garbage) -> None:
    old = Part()
    garbage.set_aside()
    new = Part()
    parts = [weakref.ref(old), weakref.ref(new)]
    del old, new
    garbage.collect(is_large=False)
    assert [part() is None for part in parts] == [False, True]
    for _ in range(EVERY - 1):
        garbage.collect(is_large=False)
    assert parts[0]() is None


def test_where_much_went_everything_is_looked_at(garbage: Garbage) -> None:
    old = Part()
    garbage.set_aside()
    part = weakref.ref(old)
    del old
    garbage.collect(is_large=True)
    assert part() is None
