"""`limit` of whoever has one: never more than so many in any time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edged.records import Cap

REMEMBERED = 40
"""Bytes of a time that is remembered."""


class Caps:
    """All of `limits` must allow it. The times of the last ones are kept, so that no period has too many, wherever it begins."""

    __slots__ = ("_times", "limits")

    def __init__(self, limits: Sequence[Cap]) -> None:
        self.limits = tuple(limits)
        self._times: deque[int] = deque(maxlen=most(limits))

    def take(self, now: int) -> bool:
        """Whether one more is allowed at `now` (monotonic ns); then it is counted."""
        times = self._times
        for cap in self.limits:
            if len(times) >= cap.count and now - times[-cap.count] < cap.period:
                return False
        times.append(now)
        return True

    def take_over(self, old: Caps) -> None:
        """After a reload: what came before counts on."""
        self._times.extend(old._times)


def most(limits: Sequence[Cap]) -> int:
    """So many times are remembered, at most."""
    return max((cap.count for cap in limits), default=0)
