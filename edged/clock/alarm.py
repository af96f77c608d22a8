"""A call at a certain time, on the loop: for rows and results that wait for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edged.clock.clock import Clock


class Alarm:
    """Calls back at the earliest time (monotonic ns) that was asked for, once."""

    def __init__(self, callback: Callable[[], None], clock: Clock) -> None:
        self._callback = callback
        self._clock = clock
        self._due: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: int) -> None:
        """Calls back at `due`, unless that was to happen earlier already."""
        if self._due is not None and self._due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        delay = max(0.0, (due - self._clock.now()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._due = self._timer = None
        self._callback()
