"""Something that is waited for, but not for ever.

`asyncio.wait_for` would do, were it not that before Python 3.12 it loses a cancellation that comes as it ends.
"""

from __future__ import annotations

import asyncio


class TimedEvent:
    """Set, or not yet; one waits for it at a time."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def clear(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        self._wake()

    async def wait(self, limit_s: float) -> bool:
        """Whether it is set, as soon as it is, and after `limit_s` at the latest."""
        if not self._is_set and limit_s > 0:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(limit_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._is_set

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
