"""What decides when a model's next run begins, and whose rows are in it: feeders share a batch, and a batch waits for more rows.

Knows no session, and has no clock of its own: the model hands in its `Loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from edged.model.records import Feeder


class Loop(NamedTuple):
    """What a model needs of the loop. `later` takes seconds, `now` is the monotonic clock in ns."""

    soon: Callable[..., Any]
    later: Callable[..., Any] | None
    now: Callable[[], int]


class Share(msgspec.Struct, eq=False):
    """A feeder, and what it is owed from full batches: in rows, times the number of feeders they were dealt among."""

    feeder: Feeder
    credit: int = 0


class Patience:
    """How long a run that would be no full batch waits for more rows: `delay_ns` from the first of them on."""

    def __init__(self, loop: Loop, ring: Callable[[], None]) -> None:
        self.delay_ns = 0
        self._loop = loop
        self._ring = ring
        self._first_came = 0  # of what waits, with `delay_ns`; 0: nothing does
        self._has_timer = False

    def begin(self) -> None:
        """A row came."""
        if self.delay_ns and not self._first_came:
            self._first_came = self._loop.now()

    def take(self, now: int, count_waiting: Callable[[], int]) -> None:
        """Rows were taken; what waits still came later."""
        if self._first_came:
            self._first_came = now if count_waiting() else 0

    def waits(self, count_waiting: Callable[[], int], batch_max: int) -> bool:
        """Whether what waits is no full batch yet, and has waited for less than `delay_ns`."""
        if not self.delay_ns:
            return False
        left = self._first_came + self.delay_ns - self._loop.now()
        if left <= 0 or self._loop.later is None or not 0 < count_waiting() < batch_max:
            return False
        if not self._has_timer:
            self._has_timer = True
            self._loop.later(left / 1e9, self._on_timer)
        return True

    def _on_timer(self) -> None:
        self._has_timer = False
        self._ring()


class Lone:
    """Rows that may run by themselves, at the end of the wake-up that brought them."""

    __slots__ = ("give_up", "idle_since", "last_rows")

    def __init__(self) -> None:
        self.give_up: Callable[[], object] | None = None
        """Who claimed a run, until it begins."""
        self.last_rows = 1
        """Of the run before, which ended at `idle_since`."""
        self.idle_since = 0


def deal(shares: list[Share], limit: int) -> list[tuple[Feeder, int]]:
    """How many rows each feeder may hand in now: by priority, then in equal parts.

    `shares` are sorted by priority. Among those who must leave rows behind, whoever got fewer than the others has the
    difference as `credit` and comes first next time; whoever left nothing behind is owed nothing.
    """
    due: list[tuple[Feeder, int]] = []
    at = 0
    while at < len(shares) and limit > 0:
        level = shares[at].feeder.priority
        group = [s for s in shares[at:] if s.feeder.priority == level]
        at += len(group)
        limit -= _deal_equals(group, limit, due)
    return due


def _deal_equals(group: list[Share], limit: int, due: list[tuple[Feeder, int]]) -> int:
    waiting = {id(s): s.feeder.waiting() for s in group}
    hungry = sorted((s for s in group if waiting[id(s)]), key=lambda s: -s.credit)
    given = dict.fromkeys(map(id, hungry), 0)
    left = limit
    while left and hungry:
        part = max(1, left // len(hungry))
        for share in hungry:
            more = min(part, waiting[id(share)] - given[id(share)], left)
            given[id(share)] += more
            left -= more
        hungry = [s for s in hungry if given[id(s)] < waiting[id(s)]]
    cut = [s for s in group if given.get(id(s), 0) < waiting[id(s)]]
    total = sum(given[id(s)] for s in cut)
    for share in group:
        if count := given.get(id(share), 0):
            due.append((share.feeder, count))
        share.credit = share.credit + total - count * len(cut) if share in cut else 0
    return limit - left
