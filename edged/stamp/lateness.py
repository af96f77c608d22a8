"""`lateness`: samples wait for those that are on their way, and leave in the order of their times.

Each waits equally long, from its arrival on. Then it leaves, and with it what is of its key and not newer. So what comes at most
`lateness` after a newer sample is put before it, and nothing waits longer. Knows no clock: `now` comes in, and what is due by
then leaves first, so that what comes out depends on times and arrivals alone, and not on when somebody looked.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.records import NONE, Keys, Receipt, Times


class Waiting(NamedTuple):
    """One sample. `order` tells those of one time apart. `receipt` has been settled: it only says whether the broker sent it
    again, or had kept it."""

    time: int
    order: int
    key: int
    values: NDArray[np.float32] | NDArray[np.float64]
    degraded: bool
    receipt: Receipt
    carried: bytes | None
    arrival: int


class Lateness:
    """Holds at most `most` samples: with more, those that came first leave before their time, and `hurried` counts them.
    `on_waiting(keys, arrival)` is told of what waits: its sensor lives."""

    def __init__(
        self,
        wait_ns: int,
        most: int,
        on_waiting: Callable[[Keys | int, int], object],
    ) -> None:
        self.hurried = 0
        self._wait = wait_ns
        self._most = most
        self._alarm: Callable[[int], object] | None = None
        self._on_waiting = on_waiting
        self._order = 0
        self._by_key: dict[int, list[Waiting]] = {}
        self._due: deque[tuple[int, int, int]] = deque()
        """When, which key, and up to what time: in the order of arrival. What left with another is still in it."""

    def ask(self, alarm: Callable[[int], object]) -> None:
        """`alarm(due)` asks to be looked at then. Without one, as of a recording on its own clock, who brings samples looks."""
        self._alarm = alarm

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def add(
        self,
        values: NDArray[np.float32] | NDArray[np.float64],
        times: Times,
        keys: NDArray[np.int32] | int,
        degraded: NDArray[np.bool_] | None,
        receipts: Sequence[Receipt],
        carried: Sequence[bytes | None] | None,
        arrival: int,
    ) -> list[Waiting]:
        """Takes samples that came at `arrival`; those that there is no more room for leave, in order."""
        self._on_waiting(keys, arrival)
        each = [keys] * len(times) if isinstance(keys, int) else keys.tolist()
        hurried: list[Waiting] = []
        for i, (key, time) in enumerate(zip(each, times.tolist(), strict=True)):
            while len(self._due) >= self._most:
                _, oldest, until = self._due.popleft()
                hurried += self._leave({oldest: until})
            receipt = receipts[i] if len(receipts) > 1 else receipts[0]
            if receipt.is_again and any(one.time == time for one in self._by_key.get(key, ())):
                continue  # the broker sent it again, and it waits here already
            text = None if carried is None else carried[i]
            self._order += 1
            one = Waiting(
                time,
                self._order,
                key,
                values[i].copy(),
                degraded is not None and bool(degraded[i]),
                _settled(receipt),
                text,
                arrival,
            )
            heapq.heappush(self._by_key.setdefault(key, []), one)
            self._due.append((arrival + self._wait, key, time))
        self.hurried += len(hurried)
        self._set_alarm()
        return hurried

    def due(self, now: int | None) -> list[Waiting]:
        """What has waited long enough, in order; None: all of it."""
        until: dict[int, int] = {}
        while self._due and (now is None or self._due[0][0] <= now):
            _, key, time = self._due.popleft()
            until[key] = max(time, until.get(key, time))
        self._set_alarm()
        return self._leave(until)

    def _set_alarm(self) -> None:
        if self._due and self._alarm is not None:
            self._alarm(self._due[0][0])

    def _leave(self, until: dict[int, int]) -> list[Waiting]:
        found: list[Waiting] = []
        for key, time in until.items():
            waiting = self._by_key.get(key, [])
            while waiting and waiting[0].time <= time:
                found.append(heapq.heappop(waiting))
            if not waiting:
                self._by_key.pop(key, None)
        return sorted(found, key=lambda one: (one.time, one.order))


def _settled(receipt: Receipt) -> Receipt:
    """What is still to be known of an input that is acknowledged while it waits."""
    if not receipt.is_again and not receipt.is_kept:
        return NONE
    marks = type(NONE)(0, receipt.is_again)
    marks.is_kept = receipt.is_kept
    return marks
