"""`every`: of each interval of a key the first sample is taken, the others are left out, whatever they hold.

Knows no clock: the time of each sample comes in. The intervals of a key are a grid that lies around its first sample, so that a
sensor whose pace is `every`, give or take, has one sample in each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edged.records import Keys, Times

THINNED = "thinned"
_NEVER = -1


class Thinning:
    """Keys are 0 to `max_keys - 1`. `on_thinned(keys, arrival)` is told of what is left out: its sensor lives."""

    def __init__(self, every_ns: int, max_keys: int, on_thinned: Callable[[Keys | int, int], None]) -> None:
        self._every = every_ns
        self._start = [0] * max_keys
        """Where the grid of each key begins."""
        self._taken = [_NEVER] * max_keys
        """The interval in which each key had its last sample."""
        self.on_thinned = on_thinned

    def is_due(self, key: int, time: int) -> bool:
        """Whether a sample of now would be taken. A time before the last interval is another clock, which begins again."""
        taken = self._taken[key]
        ahead = (time - self._start[key]) // self._every - taken
        return taken == _NEVER or ahead > 0 or ahead < -1

    def take(self, key: int, time: int) -> None:
        """A sample of a key was taken."""
        interval = (time - self._start[key]) // self._every
        if self._taken[key] == _NEVER or interval < self._taken[key] - 1:
            self._start[key], interval = time - self._every // 2, 0
        self._taken[key] = interval

    def kept(self, times: Times, keys: Keys | int) -> NDArray[np.bool_]:
        """Which of these samples are taken."""
        kept = np.zeros(len(times), np.bool_)
        each = [keys] * len(times) if isinstance(keys, int) else keys.tolist()
        for row, (key, time) in enumerate(zip(each, times.tolist(), strict=True)):
            if self.is_due(key, time):
                self.take(key, time)
                kept[row] = True
        return kept

    def forget(self, key: int) -> None:
        """Another sensor has its number now."""
        self._taken[key] = _NEVER
