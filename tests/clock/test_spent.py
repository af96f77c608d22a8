"""Each stage has its own time and no other's; what is measured now and then comes to the same as all of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from edged.clock import spent
from edged.clock.spent import IDLE, LoopTime, Spent, spends


class Ticks:
    """A clock that work moves on."""

    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        return self.now


@dataclass
class Counts:
    spent: Spent = field(default_factory=lambda: {"outer": 0, "inner": 0})


class Part:
    def __init__(self, ticks: Ticks) -> None:
        self.counts = Counts()
        self.ticks = ticks

    @spends("outer")
    def outer(self, before: int, within: int, after: int, fails: bool = False) -> str:
        self.ticks.now += before
        try:
            self.inner(within, fails)
        finally:
            self.ticks.now += after
        return "done"

    @spends("inner")
    def inner(self, took: int, fails: bool = False) -> None:
        self.ticks.now += took
        if fails:
            raise ValueError("as told")


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    ticks = Ticks()
    monkeypatch.setattr(spent, "LOOP", LoopTime(ticks, random.Random(1).random))
    return ticks


def test_a_stage_within_another_has_its_own_time(ticks: Ticks) -> None:
    spent.LOOP.every = 1
    part = Part(ticks)
    assert part.outer(5, 100, 7) == "done"
    ticks.now += 10_000  # between two wake-ups nobody works
    part.inner(1)
    assert part.counts.spent == {"outer": 12, "inner": 101}


def test_a_fault_leaves_the_accounts_right(ticks: Ticks) -> None:
    spent.LOOP.every = 1
    part = Part(ticks)
    with pytest.raises(ValueError, match="as told"):
        part.outer(5, 100, 7, True)
    assert spent.LOOP.state == IDLE
    assert part.counts.spent == {"outer": 12, "inner": 100}


@pytest.mark.parametrize("period", [1, 2, 3, 4, 7, 8, 16])
def test_what_is_measured_now_and_then_comes_to_all_of_it(ticks: Ticks, period: int) -> None:
    """Whatever the pattern: every `period`-th wake-up is a long one."""
    spent.LOOP.every = 8
    part, count = Part(ticks), 40_000
    expected = 0
    for i in range(count):
        took = 1000 if i % period == 0 else 10
        expected += took
        part.outer(1, took, 1)
    assert part.counts.spent["inner"] == pytest.approx(expected, rel=0.1)
    assert part.counts.spent["outer"] == pytest.approx(2 * count, rel=0.05)
