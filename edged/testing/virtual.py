"""Virtual time: an event loop on which waiting takes no time, and the clock that belongs to it.

Where asyncio would sleep until its next timer, the loop moves its own time there instead. While another thread works, a picture
that is decoded for example, it waits for that as usual, and its time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from edged.clock.clock import Clock

T = TypeVar("T")

BEGIN_UTC_NS = 1_767_225_600 * 10**9
"""2026-01-01T00:00:00Z: when every test begins, so that what it says of times is always the same."""
BEGIN_NS = 10**12
"""Where the monotonic clock stands then: 0 means "never" to many a part."""
PATIENCE_S = 0.01  # between two looks at the threads


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_ns = BEGIN_NS
        self._others = set(threading.enumerate())

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or not self._others.issuperset(threading.enumerate()):
            return super().select(PATIENCE_S)
        self.now_ns += max(1, round(timeout * 1e9))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio whose time goes on by itself, and only where it would wait."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_ns / 1e9

    def now_ns(self) -> int:
        return self._virtual.now_ns


class VirtualClock(Clock):
    """The clock of a loop: both kinds of time go on together, and are right."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.now = loop.now_ns
        self.utc = lambda: loop.now_ns() - BEGIN_NS + BEGIN_UTC_NS

    def is_synced(self) -> bool:
        return True


def in_virtual_time(work: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Runs a coroutine to its end on the loop, and closes that."""
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
