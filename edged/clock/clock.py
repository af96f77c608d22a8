"""Time, injected: the monotonic clock for every interval, UTC only for what people read."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

STA_UNSYNC = 0x0040  # linux/timex.h


ASK_EVERY_NS = 10 * 10**9


class Clock:
    """`now()` is monotonic ns, `utc()` is UTC ns. Pure code gets their values, never the clock itself."""

    now: Callable[[], int] = staticmethod(time.monotonic_ns)
    utc: Callable[[], int] = staticmethod(time.time_ns)

    def __init__(self) -> None:
        self._is_synced = True
        self._asked = -ASK_EVERY_NS

    def now_s(self) -> float:
        """`now` in seconds."""
        return self.now() / 1e9

    def offset(self) -> int:
        """What to add to monotonic ns to get UTC ns, at this moment."""
        return self.utc() - self.now()

    def is_synced(self) -> bool:
        """Whether the kernel believes that its clock is set; asked again every 10 s."""
        now = self.now()
        if now - self._asked >= ASK_EVERY_NS:
            self._asked = now
            self._is_synced = _kernel_is_synced()
        return self._is_synced


def _kernel_is_synced() -> bool:
    """adjtimex(2) without the flag STA_UNSYNC."""
    timex = (ctypes.c_long * 64)()  # struct timex is 208 bytes; modes = 0 only reads
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        return True  # a sandbox may forbid the question; that says nothing about the clock
    status = ctypes.cast(timex, ctypes.POINTER(ctypes.c_int))[10]  # modes, pad, offset, freq, maxerror, esterror, status
    return not status & STA_UNSYNC
