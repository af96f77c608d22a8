"""The rows that the local model answers instead of a remote one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from edged.clock.spent import HasSpent
from edged.model.remote.answers import named
from edged.model.remote.row import Row
from edged.records import Slot
from edged.results.heads.by import BY

Rows = dict[str, NDArray[Any]]


class Spill:
    """A feeder of the local model. It holds as many rows as may be under way: those that cannot be asked for are taken no faster
    than they go on here. `came_back` is told of each that is done."""

    priority = 0

    def __init__(self, came_back: Callable[[Row], None]) -> None:
        self._came_back = came_back
        self._rows: deque[Row] = deque()
        self._taken: dict[int, Row] = {}
        self._wake: Callable[[], None] = lambda: None
        self.by = ""

    def connect(self, name: str, wake: Callable[[], None]) -> None:
        """The local model."""
        self.by, self._wake = name, wake

    @property
    def counts(self) -> HasSpent:
        rows = self._rows or self._taken.values()
        return next(iter(rows)).taker.feeder.counts

    def __len__(self) -> int:
        return len(self._rows) + len(self._taken)

    def put(self, row: Row) -> None:
        self._rows.append(row)
        self._wake()

    def waiting(self) -> int:
        return len(self._rows)

    def take(self, limit: int, now: int) -> list[Slot]:
        taken = [self._rows.popleft() for _ in range(min(limit, len(self._rows)))]
        self._taken |= {id(row.slot): row for row in taken}
        return [row.slot for row in taken]

    def gather(self, slots: list[Slot], inputs: Rows, start: int) -> None:
        for i, slot in enumerate(slots):
            rows = self._taken[id(slot)].rows
            for name, x in inputs.items():
                if name in rows:
                    x[start + i] = rows[name][0]

    def finish(self, slots: list[Slot], outputs: Rows, inputs: Rows) -> None:
        for i, slot in enumerate(slots):
            row = self._taken.pop(id(slot))
            mine = {name: x[i : i + 1] for name, x in outputs.items()} | {BY: named(self.by)}
            row.taker.feeder.finish([slot], mine, {name: x[i : i + 1] for name, x in inputs.items()})
            self._came_back(row)

    def fail(self, slot: Slot, error: Exception) -> None:
        row = self._taken.pop(id(slot))
        row.taker.feeder.fail(slot, error)
        self._came_back(row)
