"""One joined stream: its latest samples of each key, searched for the value that was true at a row's time.

All times are UTC ns. Knows nothing of rows that wait, nor of the other streams.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.pipeline.align.plan import FAR, AlignSource, Keys
from edged.records import Flags, Times, Values

Index = NDArray[np.int64]


class Lag(msgspec.Struct):
    """How one joined stream kept up, since it was last asked for.

    `samples` came; `fresh` rows found a value, `stale` ones none that was near enough. Of these the least and the most
    that the stream's newest value was behind them; negative where it was ahead.
    """

    fresh: int = 0
    stale: int = 0
    samples: int = 0
    least_ns: int = FAR
    most_ns: int = -FAR


class Found(msgspec.Struct):
    """What a track said about k rows: masks, None where none is set."""

    is_missing: Flags | None = None
    is_stale: Flags | None = None
    is_degraded: Flags | None = None


class Track:
    """The latest samples of one joined stream, by key.

    Every key owns one run of `2 * history` rows, filled from the left; when it is full, the newest `history` move to its start.
    """

    def __init__(self, source: AlignSource, columns: slice, max_keys: int, dtype: DTypeLike, method: str) -> None:
        assert source.tolerance_ns is not None
        self.source = source
        self.columns = columns
        self.lag = Lag()
        self.is_monotonic = False
        self.tolerance_ns = source.tolerance_ns
        self._method = method
        keys = max_keys if source.is_keyed else 1
        self._capacity = 2 * source.history
        rows = keys * self._capacity
        self._values: NDArray[Any] = np.empty((rows, source.width), dtype)
        self._times = np.empty(rows, np.int64)
        self._flags = np.empty(rows, np.bool_)
        for array in (self._values, self._times, self._flags):
            array.fill(0)  # written, so that its pages are resident from the start and the memory plan stays true
        self._start = np.arange(keys) * self._capacity
        self._end = self._start.copy()

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self._values, self._times, self._flags, self._start, self._end))

    def known(self) -> Flags:
        """Which keys have a value, `[keys]`."""
        return np.asarray(self._end > self._start)

    def clear(self, key: int) -> None:
        self._end[key] = self._start[key]

    def move(self, delta_ns: int) -> None:
        """The clock was set by so much."""
        self._times += delta_ns

    def append(self, keys: Keys | int, values: Values, times: Times, degraded: Flags | None) -> None:
        """At most `history` rows."""
        self.lag.samples += len(values)
        if not self.source.is_keyed:
            self._append_one(0, values, times, degraded)
        elif isinstance(keys, int):
            self._append_one(keys, values, times, degraded)
        else:
            order = np.argsort(keys, kind="stable")
            grouped = keys[order]
            cuts = (np.flatnonzero(grouped[1:] != grouped[:-1]) + 1).tolist()
            if len(cuts) == len(keys) - 1:
                self._append_distinct(keys, values, times, degraded)
                return
            for start, stop in pairwise([0, *cuts, len(keys)]):
                rows = order[start:stop]
                self._append_one(int(grouped[start]), values[rows], times[rows], None if degraded is None else degraded[rows])

    def _append_distinct(self, keys: Keys, values: Values, times: Times, degraded: Flags | None) -> None:
        ends = self._end[keys]
        is_full = ends == self._start[keys] + self._capacity
        if np.count_nonzero(is_full):
            for key in keys[is_full].tolist():
                self._make_room(key)
            ends = self._end[keys]
        self._values[ends] = values
        self._times[ends] = times
        self._flags[ends] = False if degraded is None else degraded
        self._end[keys] = ends + 1

    def _append_one(self, key: int, values: Values, times: Times, degraded: Flags | None) -> None:
        k, end = len(values), self._end.item(key)
        if end + k > self._start.item(key) + self._capacity:
            end = self._make_room(key)
        self._values[end : end + k] = values
        self._times[end : end + k] = times
        self._flags[end : end + k] = False if degraded is None else degraded
        self._end[key] = end + k

    def _make_room(self, key: int) -> int:
        """Keeps the newest `history` samples of a key; where its next one goes."""
        start, end = self._start.item(key), self._end.item(key)
        kept = min(end - start, self.source.history)
        for array in (self._values, self._times, self._flags):
            array[start : start + kept] = array[end - kept : end]
        self._end[key] = start + kept
        return int(start + kept)

    def reaches(self, keys: Keys | int, times: Times) -> Flags:
        """Whether a sample at or after each row's time has come."""
        if not self.source.is_keyed:
            keys = 0
        end = self._end[keys]
        return np.asarray(np.where(end > self._start[keys], self._times[end - 1], -FAR) >= times)

    def fill(self, out: Values, keys: Keys | int, times: Times) -> Found:
        """Writes into `out [k, width]` this stream's value for rows of `keys` at `times`, which never fall if it is one key."""
        if isinstance(keys, int):
            first, last = times.item(0), times.item(-1)
        else:
            first, last = int(times.min()), int(times.max())
        if not self.source.is_keyed:
            keys = 0
        if isinstance(keys, int) and self._method == "previous":
            newest = self._end.item(keys) - 1
            if newest >= self._start.item(keys):
                time = self._times.item(newest)
                if time <= first and last - time <= self.tolerance_ns:  # no search: by far the most frequent case
                    out[:] = self._values[newest]
                    self.lag.fresh += len(times)
                    return Found(is_degraded=np.ones(len(times), np.bool_) if self._flags[newest] else None)
        return self._fill_searched(out, keys, times)

    def _fill_searched(self, out: Values, keys: Keys | int, times: Times) -> Found:
        start, end = self._start[keys], self._end[keys]
        before = self._before(keys, times)
        has_before = before >= start
        age = np.where(has_before, times - self._times[before], FAR)
        if self._method == "previous":
            at, distance, is_missing = before, age, ~has_before
        else:
            after = before + 1
            has_after = after < end
            ahead = np.where(has_after, self._times[np.where(has_after, after, 0)] - times, FAR)
            is_nearer = ahead < age
            at, distance = np.where(is_nearer, after, before), np.where(is_nearer, ahead, age)
            is_missing = distance == FAR
        at = np.where(is_missing, 0, at)
        out[:] = self._values[at]
        is_degraded = self._flags[at] & ~is_missing
        if self._method == "linear":
            rows = np.flatnonzero((age <= self.tolerance_ns) & (ahead <= self.tolerance_ns) & (age > 0))
            if len(rows):
                low, high = before[rows], after[rows]
                share = (age[rows] / (age[rows] + ahead[rows]))[:, None]
                out[rows] = self._values[low] * (1 - share) + self._values[high] * share
                is_degraded[rows] = self._flags[low] | self._flags[high]
        return self._judge(out, keys, times, distance, is_missing, is_degraded)

    def _judge(
        self, out: Values, keys: Keys | int, times: Times, distance: Index, is_missing: Flags, is_degraded: Flags
    ) -> Found:
        is_stale = (distance > self.tolerance_ns) & ~is_missing
        self.lag.fresh += len(times) - np.count_nonzero(is_stale | is_missing)
        self._note_lag(keys, times, is_stale | is_missing)
        if not np.count_nonzero(is_stale):
            return Found(is_missing, None, is_degraded)
        if self.source.on_bad == "drop":
            return Found(is_missing, is_stale, is_degraded)
        if self.source.on_bad == "pass":
            out[is_stale] = np.nan
        return Found(is_missing, None, is_degraded | is_stale)

    def _note_lag(self, keys: Keys | int, times: Times, is_unjoined: Flags) -> None:
        """Measured to the newest value of the key, so that a stream that is always ahead shows too."""
        start, end = self._start[keys], self._end[keys]
        lags = (times - self._times[np.maximum(end, 1) - 1])[is_unjoined & (end > start)]
        if len(lags):
            self.lag.stale += len(lags)
            self.lag.least_ns = min(self.lag.least_ns, int(lags.min()))
            self.lag.most_ns = max(self.lag.most_ns, int(lags.max()))

    def _before(self, keys: Keys | int, times: Times) -> Index:
        """Where the newest value not newer than each row is; one before the key's start if there is none."""
        if isinstance(keys, int):
            start, end = self._start.item(keys), self._end.item(keys)
            at: Index = np.searchsorted(self._times[start:end], times, "right") + (start - 1)
            return at
        at = self._end[keys] - 1
        is_newer = (self._times[at] > times) & (at >= self._start[keys])
        for row in np.flatnonzero(is_newer).tolist():  # few: values that came before a row older than they are
            at[row : row + 1] = self._before(int(keys[row]), times[row : row + 1])
        return at
