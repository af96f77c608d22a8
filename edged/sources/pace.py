"""Learns how often each sensor of a source speaks, so that its silence is noticed where nobody said how long it may last.

50 gaps whose spread (standard deviation) is below half their mean are a pace: a silence of ten such gaps, and at least 30 s, is
no chance. A door contact has no pace, and is never silent. Twice in a row silent for longer, without 50 regular gaps between:
the sensor has another pace now, or none, and what was learned is forgotten.

Knows no clock: times are given, monotonic ns. Bounded: a few numbers a key, made at the start.
"""

from __future__ import annotations

from array import array

import numpy as np

GAPS = 50
SPREAD = 0.5
SILENT_GAPS = 10
MIN_SILENCE_NS = 30 * 10**9
AT_ONCE_NS = 10**6
"""What comes within so little time came at once."""
SOON_NS = MIN_SILENCE_NS // 1000
"""The same once a pace is known: nothing finer can matter then, and a fast sensor costs less."""
NEVER = 2**62
"""As a limit: no pace is known."""
KEY_BYTES = 5 * 8 + 1


class Paces:
    """Keys are 0 to `max_keys - 1`. `limits` has of each how long it may be silent, `NEVER` where that is not known."""

    def __init__(self, max_keys: int) -> None:
        # One number at a time is five times faster out of these arrays than out of numpy's.
        self._limits = array("q", [NEVER]) * max_keys
        self.limits = np.frombuffer(self._limits, np.int64)
        self.longest = NEVER
        """The longest limit of a key that has one."""
        self._last = array("q", [0]) * max_keys
        self._count = array("q", [0]) * max_keys
        self._sum = array("d", [0]) * max_keys
        self._squares = array("d", [0]) * max_keys
        self._strikes = array("b", [0]) * max_keys

    @property
    def nbytes(self) -> int:
        arrays = (self._limits, self._last, self._count, self._sum, self._squares, self._strikes)
        return sum(len(one) * one.itemsize for one in arrays)

    def see(self, key: int, now: int) -> None:
        """A good sample of `key` came at `now`."""
        last, limit = self._last[key], self._limits[key]
        gap = now - last
        if gap < (AT_ONCE_NS if limit == NEVER else SOON_NS):
            return
        self._last[key] = now
        if not last:
            return
        if gap > limit:
            return self._end_silence(key)
        gap_s = gap / 1e9
        self._count[key] = count = self._count[key] + 1
        self._sum[key] += gap_s
        self._squares[key] += gap_s * gap_s
        if count == GAPS:
            self._judge(key)

    def forget(self, key: int) -> None:
        """`key` starts again, which may mean that it is another sensor now."""
        self._last[key] = self._strikes[key] = 0
        self._start_over(key)
        self._limit(key, NEVER)

    def _judge(self, key: int) -> None:
        mean = self._sum[key] / GAPS
        variance = max(0.0, self._squares[key] / GAPS - mean * mean)
        self._start_over(key)
        if variance < (SPREAD * mean) ** 2:
            self._strikes[key] = 0
            self._limit(key, max(MIN_SILENCE_NS, int(SILENT_GAPS * mean * 1e9)))

    def _end_silence(self, key: int) -> None:
        self._start_over(key)
        self._strikes[key] += 1
        if self._strikes[key] > 1:
            self._strikes[key] = 0
            self._limit(key, NEVER)

    def _start_over(self, key: int) -> None:
        self._count[key] = 0
        self._sum[key] = self._squares[key] = 0.0

    def _limit(self, key: int, limit: int) -> None:
        if self._limits[key] != limit:
            self._limits[key] = limit
            known = self.limits[self.limits < NEVER]
            self.longest = int(known.max()) if len(known) else NEVER
