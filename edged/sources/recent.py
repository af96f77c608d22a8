"""What came in of a source lately, as it came: so that an input is still there when its result turns out to be worth a look.

Bounded in bytes. Pure: it is told of everything, and asked for what belongs to a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

from edged.sources.counts import Arrival

OVERHEAD = 300
"""Bytes of an entry beside its data: objects, its topic, its place in the queue."""


class _Entry(NamedTuple):
    """`rows`: how many the source had decoded before it came."""

    arrival: Arrival
    rows: int

    @property
    def size(self) -> int:
        return len(self.arrival.data) + OVERHEAD


class Recent:
    """`rows` counts what the source has decoded so far."""

    def __init__(self, max_bytes: int, rows: Callable[[], int]) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._rows = rows
        self._entries: deque[_Entry] = deque()

    def take(self, one: Arrival) -> None:
        entry = _Entry(one, self._rows())
        self._entries.append(entry)
        self.bytes += entry.size
        while self.bytes > self.max_bytes:
            self.bytes -= self._entries.popleft().size

    def clip(self, rows: int, until: int, key: Sequence[tuple[int, str]] | None) -> list[Arrival] | None:
        """What the newest `rows` samples came in that had arrived by then, and maybe some more; None if not all of it is here.

        `key`: which captures of the topic tell that a message is of the sensor, empty where all are of one; None where only
        the data tell: then all that is here."""
        entries = list(takewhile(lambda entry: entry.arrival.time <= until, self._entries))
        if not entries:
            return None
        if key is None:
            return [entry.arrival for entry in entries]
        if key:
            mine = [entry.arrival for entry in entries if all(entry.arrival.captures[at] == name for at, name in key)]
            return _together(mine, rows)
        after = self._entries[len(entries)].rows if len(entries) < len(self._entries) else self._rows()
        start = max(0, entries[-1].rows + 1 - rows)  # they end with any of the samples of the last read
        if entries[0].rows > start or rows > after:
            return None
        # a line may have begun in the read that ended the one before it; a message holds its samples alone
        before = start if not entries[0].arrival.topic else start + 1
        first = max((i for i, entry in enumerate(entries) if entry.rows < before), default=0)
        return [entry.arrival for entry in entries[first:]]


def _together(mine: list[Arrival], count: int) -> list[Arrival] | None:
    """The newest so many messages, with those that came in the same read as the first of them."""
    if len(mine) < count:
        return None
    since = mine[-count].time
    return [one for one in mine if one.time >= since]
