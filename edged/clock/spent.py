"""Where the processor time of the event loop's thread goes: nanoseconds by part and stage, always on.

A stage is a method marked `@spends("decode")`; its time goes to `self.counts.spent["decode"]`. A timer of the kernel ticks after
every 50 ms of processor time of the process (`daemon/signals.py`), and each tick looks which stage the thread is in: the
innermost one gets the processor time that the thread took since the tick before. So the path itself pays nothing for its account,
and what many ticks say comes to the truth, as it does in any profiler that samples.

It is the thread's processor time, not the clock's: sending wakes the broker, and on a busy machine the kernel runs that first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Spent = dict[str, int]
"""Nanoseconds by stage."""

_STAGES: dict[int, str] = {}
"""By the identity of a marked method's code: to hash code means to read it."""


class HasSpent(Protocol):
    """What a part counts, with `spent` for each stage of it that is marked."""

    @property
    def spent(self) -> Spent: ...


class LoopTime:
    """Of one thread: how much of its time has been given to a stage, or to none. `now` is its processor time in ns."""

    def __init__(self, now: Callable[[], int] = time.thread_time_ns) -> None:
        self._now = now
        self._since = now()

    def tick(self, frame: FrameType | None) -> None:
        """To be called in that thread, with what it is doing."""
        now = self._now()
        took, self._since = now - self._since, now
        while frame is not None:
            if (stage := _STAGES.get(id(frame.f_code))) is not None:
                frame.f_locals["self"].counts.spent[stage] += took
                return
            frame = frame.f_back


def spends(stage: str) -> Callable[[F], F]:
    """Marks a method as a stage of a part, which is an object that has `counts` of the kind `HasSpent`."""

    def mark(work: F) -> F:
        _STAGES[id(work.__code__)] = stage
        return work

    return mark


def shown(spent: Spent) -> dict[str, Any]:
    """In seconds, for health."""
    return {stage: round(ns / 1e9, 3) for stage, ns in spent.items()}
