"""Rows on their way to being whole, and the bounded buffer in which they wait for the other streams."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.pipeline.align.plan import FAR, Keys
from edged.records import Flags, Times, Values


class Rows(msgspec.Struct):
    """Rows on their way: of the pace stream or the grid before the join (`values` None for a grid), whole after it."""

    values: Values | None
    times: Times
    keys: Keys | int
    degraded: Flags | None
    arrival: int

    def where(self, mask: Flags | Keys) -> Rows:
        return Rows(
            None if self.values is None else self.values[mask],
            self.times[mask],
            self.keys if isinstance(self.keys, int) else self.keys[mask],
            None if self.degraded is None else self.degraded[mask],
            self.arrival,
        )


class Waiting:
    """Rows that wait for the others' next samples, in order of arrival; the oldest is dropped when `capacity` wait.

    They lie between `_first` and `_stop`, and move to the start when there is no room behind them.
    """

    def __init__(self, capacity: int, width: int, dtype: DTypeLike) -> None:
        rows = capacity + (capacity + 3) // 4  # so that moving costs a few copies a row at most, however full it is
        self._values: NDArray[Any] = np.empty((rows, width), dtype)
        self._times = np.empty(rows, np.int64)
        self._keys = np.empty(rows, np.intp)
        self._degraded = np.empty(rows, np.bool_)
        self._arrivals = np.empty(rows, np.int64)
        self._arrays = (self._values, self._times, self._keys, self._degraded, self._arrivals)
        for array in self._arrays:
            array.fill(0)
        self.capacity = capacity
        self.oldest = FAR  # no row is older, ns
        self._first = 0
        self._stop = 0

    def __len__(self) -> int:
        return self._stop - self._first

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    @property
    def times(self) -> Times:
        return self._times[self._first : self._stop]

    @property
    def keys(self) -> Keys:
        return self._keys[self._first : self._stop]

    def append(self, rows: Rows) -> int:
        """Returns how many old rows had to go."""
        k = len(rows.times)
        lost = max(0, len(self) + k - self.capacity)
        self._first = min(self._stop, self._first + lost)
        if k > self.capacity:
            rows = rows.where(np.arange(k - self.capacity, k))
            k = self.capacity
        if self._stop + k > len(self._times):
            self._keep(slice(self._first, self._stop), len(self))
        new = slice(self._stop, self._stop + k)
        if rows.values is not None:
            self._values[new] = rows.values
        self._times[new] = rows.times
        self._keys[new] = rows.keys
        self._degraded[new] = False if rows.degraded is None else rows.degraded
        self._arrivals[new] = rows.arrival
        self._stop = new.stop
        self.oldest = min(self.oldest, int(rows.times.min()))
        return lost

    def move(self, delta_ns: int) -> None:
        """The clock was set by so much."""
        self._times += delta_ns
        self.oldest += delta_ns if len(self) else 0

    def drop(self, is_dropped: Flags) -> None:
        kept = np.flatnonzero(~is_dropped)
        self._keep(self._first + kept, len(kept))
        self.oldest = int(self.times.min()) if len(kept) else FAR

    def take(self, is_taken: Flags) -> Rows | None:
        rows = self._first + np.flatnonzero(is_taken)
        if not len(rows):
            self.oldest = int(self.times.min())
            return None
        arrival = self._arrivals.item(rows[-1])
        taken = Rows(self._values[rows], self._times[rows], self._keys[rows], self._degraded[rows], arrival)
        self.drop(is_taken)
        return taken

    def _keep(self, rows: slice | Keys, count: int) -> None:
        for array in self._arrays:
            array[:count] = array[rows]
        self._first, self._stop = 0, count
