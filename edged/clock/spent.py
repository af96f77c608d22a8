"""Where the processor time of the event loop's thread goes: nanoseconds by part and stage, always on.

A stage is a method marked `@spends("decode")`; the time goes to `self.counts.spent["decode"]`. Stages lie within each other,
and each has only the time that no stage within it has. What the loop calls is a wake-up, with all stages in it. Asking the
kernel for a thread's processor time takes 0.3 us or more, and every hand-over asks: so a wake-up is measured now and then,
after a random number of others (`EVERY` on average): patterns in the load would otherwise be seen in part. It counts for that
many.

It is the thread's processor time, not the clock's: sending wakes the broker, and on a busy machine the kernel runs that first.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

EVERY = 64

F = TypeVar("F", bound=Callable[..., Any])
Spent = dict[str, int]
"""Nanoseconds by stage."""
IDLE, SKIPPED, MEASURED = range(3)


class HasSpent(Protocol):
    """What a part counts, with `spent` for each stage of it that is marked."""

    @property
    def spent(self) -> Spent: ...


class Part(Protocol):
    @property
    def counts(self) -> HasSpent: ...


class LoopTime:
    """What the loop's thread does right now: nothing (`IDLE`), or a wake-up that is measured or not. To be used by one thread."""

    __slots__ = ("_now", "_random", "_since", "_spent", "_stage", "every", "left", "state")

    def __init__(self, now: Callable[[], int] = time.thread_time_ns, draw: Callable[[], float] = random.random) -> None:
        """`draw` gives numbers in [0, 1)."""
        self.state = IDLE
        self.every = EVERY
        self._now = now
        self._random = draw
        self.left = 1
        """Wake-ups until the next that is measured."""
        self._since = 0
        self._spent: Spent = {}
        self._stage = ""

    def begin(self, spent: Spent, stage: str) -> None:
        """A wake-up that is measured begins with this stage."""
        self.left = 1 + int(self._random() * (2 * self.every - 1))  # 1 to 2 * every - 1, so `every` on average
        self.state = MEASURED
        self._spent, self._stage, self._since = spent, stage, self._now()

    def end(self) -> None:
        self._spent[self._stage] += (self._now() - self._since) * self.every
        self.state = IDLE

    def enter(self, spent: Spent, stage: str) -> tuple[Spent, str]:
        """Of a wake-up that is measured, a stage begins, or goes on; returns the one that it interrupts."""
        now = self._now()
        self._spent[self._stage] += (now - self._since) * self.every
        before = self._spent, self._stage
        self._spent, self._stage, self._since = spent, stage, now
        return before


LOOP = LoopTime()
"""There is one event loop in a process, as there is one log."""


def spends(stage: str) -> Callable[[F], F]:
    """Marks a method of a `Part`, called with positional arguments, as one of its stages."""

    def mark(work: F) -> F:
        def measured(self: Part, *args: Any) -> Any:
            loop = LOOP
            if loop.state == SKIPPED:
                return work(self, *args)
            if loop.state == IDLE:
                loop.left -= 1
                if loop.left:
                    loop.state = SKIPPED
                    try:
                        return work(self, *args)
                    finally:
                        loop.state = IDLE
                loop.begin(self.counts.spent, stage)
                try:
                    return work(self, *args)
                finally:
                    loop.end()
            before = loop.enter(self.counts.spent, stage)
            try:
                return work(self, *args)
            finally:
                loop.enter(*before)

        def of_nothing(self: Part) -> Any:
            return work(self) if LOOP.state == SKIPPED else measured(self)

        def of_one(self: Part, it: Any) -> Any:
            return work(self, it) if LOOP.state == SKIPPED else measured(self, it)

        # most calls by far are skipped: they are handed on without a tuple, which costs as much as all else here
        def of_two(self: Part, it: Any, other: Any) -> Any:
            return work(self, it, other) if LOOP.state == SKIPPED else measured(self, it, other)

        def of_three(self: Part, it: Any, second: Any, third: Any) -> Any:
            return work(self, it, second, third) if LOOP.state == SKIPPED else measured(self, it, second, third)

        def of_five(self: Part, it: Any, second: Any, third: Any, fourth: Any, fifth: Any) -> Any:
            if LOOP.state == SKIPPED:
                return work(self, it, second, third, fourth, fifth)
            return measured(self, it, second, third, fourth, fifth)

        by_count: dict[int, Callable[..., Any]] = {1: of_nothing, 2: of_one, 3: of_two, 4: of_three, 6: of_five}
        count = 0 if work.__defaults__ else work.__code__.co_argcount
        return cast(F, functools.update_wrapper(by_count.get(count, measured), work))

    return mark


def shown(spent: Spent) -> dict[str, Any]:
    """In seconds, for health."""
    return {stage: round(ns / 1e9, 3) for stage, ns in spent.items()}
