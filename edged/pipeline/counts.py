"""What one pipeline counts, and how a fault of ours in one of its stages is kept to the rows that show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from typing import Any

from edged.clock.spent import Spent
from edged.pipeline.preprocess import StepError
from edged.records import Block
from edged.telemetry import INTERNAL_ERROR, Drops, Histogram, whereabouts


class PipelineCounts:
    """The pipeline ledger, in windows (or rows, without a window): `due == published + filtered + gated + dropped + waiting`."""

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is monotonic, in seconds."""
        self.due = 0
        self.published = 0
        self.filtered = 0
        self.hollow = 0
        """Of the results those of raw outputs in which nothing is finite."""
        self.gated = 0
        self.last_gated = 0
        self.running = 0
        self.drops = Drops(name, now, lambda: self.published + self.filtered - self.hollow)
        self.age = Histogram()
        self.last_result = 0
        self.next_seq = 1
        self.spent: Spent = {"prepare": 0, "run": 0, "results": 0}

    def balance(self, waiting: int) -> int:
        """Zero, always."""
        return self.due - self.published - self.filtered - self.gated - self.drops.total - waiting - self.running


class Guard:
    """Calls stages. A fault of ours costs the rows that show it, and neither whoever called nor the rows that come next."""

    def __init__(self, counts: PipelineCounts, waiting: Sized) -> None:
        self._counts = counts
        self._waiting = waiting

    def __call__(self, work: Callable[..., object], *what: Any) -> None:
        """Calls `work`. After a fault, what was due and is nowhere any more is counted."""
        owed = self._counts.balance(len(self._waiting))
        try:
            work(*what)
        except Exception as error:
            self.settle(error, owed)

    def settle(self, error: Exception, owed: int = 0) -> None:
        """After a fault: counts what was due and is nowhere any more. `owed`: the balance before."""
        lost = self._counts.balance(len(self._waiting)) - owed
        if lost < 1:
            self._counts.due += 1 - lost
        self._counts.drops.add(INTERNAL_ERROR, max(1, lost), detail=whereabouts(error))

    def one_by_one(self, block: Block, error: Exception, take: Callable[[Block], None]) -> None:
        """After a fault: the rows that are not to blame, each alone; one that is goes, and is counted."""
        if len(block) == 1:
            self._counts.due += 1
            self.refuse(error)
            return
        for i in range(len(block)):
            take(block.part(i, i + 1))

    def refuse(self, error: Exception) -> None:
        """Counts a row or window that a stage could not take."""
        is_step = isinstance(error, StepError)
        reason, detail = ("preprocess", str(error)) if is_step else (INTERNAL_ERROR, whereabouts(error))
        self._counts.drops.add(reason, detail=detail)

    def lose(self, error: Exception) -> None:
        """Counts a fault of somebody who takes what is made here: a row that was due, and came to nothing."""
        self._counts.due += 1
        self._counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))
