"""Rows that wait for one instance of a behaviour: bounded, and counted where they are lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from edged.behaviours.face import Row

Lose = Callable[[int], None]


class Inbox:
    """One stream of one instance. A row is settled when it is in here. Before it is read for the first time nobody misses what
    is lost; from then on `lose` is told. `latest_only`: of each key the newest waits."""

    __slots__ = ("_lose", "_lost", "_rows", "_waiter", "is_latest_only", "latest", "size")

    def __init__(self, size: int, is_latest_only: bool, lose: Lose) -> None:
        self.size = size
        self.is_latest_only = is_latest_only
        self.latest: Row | None = None
        self._rows: deque[Row] | dict[str, Row] = {} if is_latest_only else deque()
        self._lose = lose
        self._lost: int | None = 0  # None: it is read, and what is lost is told at once
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def missed_at_the_end(self) -> int:
        """Rows that somebody would have read."""
        return len(self._rows) if self._lost is None else 0

    def put(self, row: Row) -> None:
        self.latest = row
        rows = self._rows
        if isinstance(rows, dict):
            if rows.pop(row.key, None) is not None:
                self._miss()
            elif len(rows) >= self.size:
                del rows[next(iter(rows))]
                self._miss()
            rows[row.key] = row
        else:
            if len(rows) >= self.size:
                rows.popleft()
                self._miss()
            rows.append(row)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def read(self) -> Inbox:
        """Somebody reads it from now on."""
        if self._lost:
            self._lose(self._lost)
        self._lost = None
        return self

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> Row:
        while not self._rows:
            if self._waiter is not None and not self._waiter.done():
                raise RuntimeError("two tasks of a behaviour read one stream; let one read it, and tell the other")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        rows = self._rows
        return rows.pop(next(iter(rows))) if isinstance(rows, dict) else rows.popleft()

    def _miss(self) -> None:
        if self._lost is None:
            self._lose(1)
        else:
            self._lost += 1
