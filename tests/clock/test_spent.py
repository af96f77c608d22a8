"""Each stage has the time of the ticks that find it, and no other's; what is sampled comes to the same as all of it."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field

import pytest

from edged.clock.spent import LoopTime, Spent, spends

TICK = 1000


class Work:
    """Moves the clock on, and lets it tick at random, after `TICK` on average."""

    def __init__(self) -> None:
        self.now = 0
        self.loop = LoopTime(lambda: self.now)
        self._random = random.Random(1)
        self._next = TICK

    def __call__(self, took: int) -> None:
        end = self.now + took
        while self._next <= end:
            self.now = self._next
            self.loop.tick(sys._getframe(1))
            self._next += self._random.randrange(1, 2 * TICK)
        self.now = end


@dataclass
class Counts:
    spent: Spent = field(default_factory=lambda: {"outer": 0, "inner": 0})


class Part:
    def __init__(self, work: Work) -> None:
        self.counts = Counts()
        self.work = work

    @spends("outer")
    def outer(self, before: int, within: int, after: int) -> str:
        self.work(before)
        self.inner(within)
        self.unmarked(after)
        return "done"

    @spends("inner")
    def inner(self, took: int) -> None:
        self.work(took)

    def unmarked(self, took: int) -> None:
        self.work(took)


def test_a_tick_gives_all_since_the_last_one_to_the_innermost_stage() -> None:
    work = Work()
    part, other = Part(work), Part(work)
    part.inner(TICK)
    assert part.counts.spent == {"outer": 0, "inner": TICK}
    work(10 * TICK)  # nobody's
    before = work.now
    other.inner(50 * TICK)
    assert work.now - before >= other.counts.spent["inner"] > 40 * TICK
    assert part.counts.spent == {"outer": 0, "inner": TICK}


def test_a_marked_method_is_called_as_it_stands() -> None:
    part = Part(Work())
    assert part.outer(1, 2, 3) == "done"
    assert part.outer(before=1, within=2, after=3) == "done"


@pytest.mark.parametrize("period", [1, 2, 3, 4, 7, 8, 16])
def test_what_is_sampled_comes_to_all_of_it(period: int) -> None:
    """Whatever the pattern: every `period`-th wake-up is a long one."""
    work = Work()
    part, expected, count = Part(work), 0, 20_000
    for i in range(count):
        took = 700 if i % period == 0 else 10
        expected += took
        part.outer(60, took, 40)
        work(100)
    assert part.counts.spent["inner"] == pytest.approx(expected, rel=0.05)
    assert part.counts.spent["outer"] == pytest.approx(100 * count, rel=0.1)
