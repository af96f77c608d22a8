"""Which sequence numbers are done, as runs of them: replay and live results are done in order each, so that there are few."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

MAX = 4096
"""Runs kept at most. What is forgotten beyond is sent twice after a restart, no more."""


class Runs:
    """A set of whole numbers. Sorted, apart, never empty: `starts[i] <= n < stops[i]`."""

    __slots__ = ("starts", "stops")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self.starts: list[int] = []
        self.stops: list[int] = []
        for start, stop in runs:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.stops, strict=True)

    def __contains__(self, n: int) -> bool:
        i = bisect_right(self.starts, n) - 1
        return i >= 0 and n < self.stops[i]

    def add(self, start: int, stop: int) -> int:
        """Adds `start <= n < stop`; returns how many of them are new."""
        if start >= stop:
            return 0
        i = bisect_left(self.stops, start)
        j = bisect_right(self.starts, stop)
        had = sum(min(stop, self.stops[k]) - max(start, self.starts[k]) for k in range(i, j))
        if i < j:
            union = min(start, self.starts[i]), max(stop, self.stops[j - 1])
        else:
            union = start, stop
        self.starts[i:j], self.stops[i:j] = [union[0]], [union[1]]
        return stop - start - had

    def next_missing(self, n: int) -> int:
        """The first number from `n` on that is not in the set."""
        i = bisect_right(self.starts, n) - 1
        return self.stops[i] if i >= 0 and n < self.stops[i] else n

    def covers(self, start: int, stop: int) -> bool:
        return self.next_missing(start) >= stop

    def forget_below(self, n: int) -> None:
        """Drops whole runs that lie below `n`, and the youngest beyond `MAX`."""
        i = bisect_right(self.stops, n)
        del self.starts[:i], self.stops[:i]
        del self.starts[MAX:], self.stops[MAX:]
