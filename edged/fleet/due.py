"""What was announced for each model and is not handled yet: the newest at once, what failed again after a while."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from edged.clock.backoff import Backoff
from edged.clock.clock import Clock

RETRY_S = (2.0, 300.0)


class _Again(NamedTuple):
    """An announcement that is to be tried again, and when (monotonic ns)."""

    payload: bytes
    backoff: Backoff
    at: int


class Due:
    """`put` and `put_back` from anywhere on the loop; one task calls `next`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._news: dict[str, bytes] = {}
        self._again: dict[str, _Again] = {}
        self._has_news = asyncio.Event()

    def put(self, model: str, payload: bytes) -> None:
        """What was announced last counts; what waits to be tried again is forgotten."""
        self._again.pop(model, None)
        self._news[model] = payload
        self._has_news.set()

    def put_back(self, model: str, payload: bytes, backoff: Backoff) -> None:
        """Is tried again later, unless something else was announced."""
        if model not in self._news:
            self._again[model] = _Again(payload, backoff, self._clock.now() + int(backoff.next_s() * 1e9))

    def has_news(self, model: str) -> bool:
        return model in self._news

    async def next(self) -> tuple[str, bytes, Backoff]:
        """The model, its announcement, and how long to wait if that fails. Waits until there is one."""
        while True:
            if self._news:
                model = next(iter(self._news))
                return model, self._news.pop(model), Backoff(*RETRY_S, RETRY_S[0])
            model = min(self._again, key=lambda one: self._again[one].at, default="")
            wait_s = (self._again[model].at - self._clock.now()) / 1e9 if self._again else None
            if wait_s is not None and wait_s <= 0:
                payload, backoff, _ = self._again.pop(model)
                return model, payload, backoff
            self._has_news.clear()
            try:
                await asyncio.wait_for(self._has_news.wait(), wait_s)
            except (asyncio.TimeoutError, TimeoutError):
                continue
