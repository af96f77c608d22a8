"""The newest `size` samples of every key, shown each time `hop` new ones came.

Every key owns one run of `2 * size` rows, filled from the left. When it is full, the newest `size - 1` rows move back to
its start: one extra copy of a sample in all, and a window is always one contiguous piece. Blocks that hold whole windows by
themselves are not copied at all: their windows are views of the block. Nothing is allocated after construction but the
short-lived arrays of one call.

Knows no clock: times come with the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.records import Block, Flags, Times, Values

Emit = Callable[[Values, int, int, int, bool], None]
"""`emit(window [size, width], key, time_utc_ns, arrival, degraded)`; the window is valid only during the call."""

Keys = NDArray[Any]  # of numpy's index type, with which it gathers ten times faster than with int32

NEVER = 2**62
"""As the time of a key's last sample: no silence follows it. Negated, as the number of its last degraded one: never."""
FEW = 4
"""Rows a key, on average, from which on taking one key after the other is cheaper than scattering (4 us a call each)."""


class Saved(NamedTuple):
    """One key's part of a window: its newest rows, the samples since it started over, the number of the one that completes the
    next window, the time of the newest, the number of the newest degraded one."""

    rows: NDArray[Any]
    seen: int
    due: int
    last: int
    bad: int


class WindowStage:
    """Windows of one stream.

    Keys are 0 to `max_keys - 1`. A silence of more than `gap_ns` between two samples of a key starts its window over
    (None: never). Times of a key must not decrease within a block. `hop` may be larger than `size`: the samples
    between are skipped.
    """

    def __init__(
        self, size: int, hop: int, gap_ns: int | None, width: int, max_keys: int = 1, dtype: DTypeLike = np.float32
    ) -> None:
        self.size = size
        self.hop = hop
        self.gap_ns = gap_ns
        capacity = 2 * size
        self._rings: NDArray[Any] = np.empty((max_keys * capacity, width), dtype)
        self._rings.fill(0)  # written, so that its pages are resident from the start and the memory plan stays true
        self._state = np.zeros((6, max_keys), np.int64)
        self._rows = np.arange(max_keys)
        self._start = self._rows * capacity
        self._stop = self._start + capacity
        # By key: where its next row goes; samples since it started over; the number of the sample that completes the next
        # window; the time of the newest sample; the number of the newest degraded sample; how often it started over.
        self._end, self._seen, self._due, self._last, self._bad, self._stretch = self._state
        self._first_of = np.zeros(max_keys, np.int64)
        self._start_over(self._rows)

    @property
    def nbytes(self) -> int:
        by_key = (self._state, self._start, self._stop, self._first_of, self._rows)
        return self._rings.nbytes + sum(array.nbytes for array in by_key)

    def save(self, key: int) -> Saved | None:
        """What the next windows of `key` need of the samples before; None if there were none."""
        seen = int(self._seen[key])
        if not seen:
            return None
        end = int(self._end[key])
        rows = self._rings[end - min(seen, self.size - 1) : end].copy()
        return Saved(rows, seen, int(self._due[key]), int(self._last[key]), int(self._bad[key]))

    def restore(self, key: int, saved: Saved) -> None:
        """Goes on where `save` was called, of a stage of the same size, hop and width. Raises ValueError for another."""
        rows = saved.rows
        if rows.shape != (min(saved.seen, self.size - 1), self._rings.shape[1]) or not saved.seen < saved.due:
            raise ValueError(f"{rows.shape} after {saved.seen} samples are no part of windows of {self.size}")
        start = int(self._start[key])
        self._rings[start : start + len(rows)] = rows
        self._end[key] = start + len(rows)
        self._seen[key], self._due[key], self._last[key], self._bad[key] = saved[1:]

    def filled(self, key: int) -> int:
        """Samples of `key` in its window now, at most `size`."""
        return min(int(self._seen[key]), self.size)

    def taken(self, keys: NDArray[Any] | int) -> NDArray[np.int64]:
        """Samples of each key since its window started again."""
        return np.asarray(self._seen[keys])

    def stretch(self, key: int) -> int:
        """How often the window of `key` has started again: what a model remembers from before is then of no use."""
        return int(self._stretch[key])

    def reset_all(self) -> None:
        """No key goes on."""
        self._start_over(self._rows)

    def reset(self, key: int) -> None:
        """The window of `key` starts again."""
        self._start_over(key)

    def fitting(self, block: Block, most: int) -> int:
        """How many rows of `block`, from the first on, complete no more than `most` windows."""
        count = len(block)
        if isinstance(block.keys, int) and self.gap_ns is None and block.keys not in block.restarts:
            return min(count, self._due.item(block.keys) - self._seen.item(block.keys) - 1 + most * self.hop)
        keys = np.full(count, block.keys, np.intp) if isinstance(block.keys, int) else block.keys.astype(np.intp)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        begins = np.ones(count, np.bool_)  # the rows of a key, or those after a silence, in the order of keys
        np.not_equal(keys[1:], keys[:-1], out=begins[1:])
        starts_over = np.isin(keys, block.restarts) & begins
        if self.gap_ns is not None:
            times = block.time[order]
            before = np.where(begins, self._last[keys], np.concatenate((times[:1], times[:-1])))
            starts_over |= times - before > self.gap_ns
            begins |= starts_over
        first = np.flatnonzero(begins)
        rows = np.diff(first, append=count)
        is_anew = starts_over[first]
        left = np.where(is_anew, self.size, self._due[keys[first]] - self._seen[keys[first]])  # to the next window
        beyond = np.arange(1, count + 1) - np.repeat(first + left, rows)
        ends = np.sort(order[(beyond >= 0) & (beyond % self.hop == 0)])
        return count if len(ends) <= most else int(ends[most])

    def takes(self, key: int, row: NDArray[Any], time: int) -> bool:
        """Takes in one row of `key`, as `push` would, where it only goes behind the one before it: it completes no window, and
        none starts again. Else False, and nothing has happened."""
        seen, end = self._seen.item(key), self._end.item(key)
        if (
            seen + 1 >= self._due.item(key)
            or end >= self._stop.item(key)
            or (self.gap_ns is not None and time - self._last.item(key) > self.gap_ns)
        ):
            return False
        self._rings[end] = row
        self._end[key] = end + 1
        self._seen[key] = seen + 1
        self._last[key] = time
        return True

    def push(self, block: Block, emit: Emit) -> None:
        """Takes a block in; calls `emit` for every window that it completes, in order for each key."""
        for key in block.restarts:
            self._start_over(key)
        values, times, degraded, keys = block.values, block.time, block.degraded, block.keys
        if not len(values):
            return
        if isinstance(keys, int):
            self._push_one(keys, values, times, degraded, block, emit)
            return
        keys = keys.astype(np.intp)
        while (k := len(keys)) > FEW:
            rows = self._rows[:k] if k <= len(self._rows) else np.arange(k)
            self._first_of[keys] = rows  # of equal keys the last written stays
            if np.count_nonzero(self._first_of[keys] == rows) == k:
                self._push_distinct(keys, values, times, degraded, block, emit)
                return
            self._first_of[keys[::-1]] = rows[::-1]
            is_first = self._first_of[keys] == rows
            if np.count_nonzero(is_first) * FEW <= k:
                self._push_grouped(keys, values, times, degraded, block, emit)
                return
            first, rest = np.flatnonzero(is_first), np.flatnonzero(~is_first)
            flags = None if degraded is None else degraded[first]
            self._push_distinct(keys[first], values.take(first, 0), times[first], flags, block, emit)
            keys, values, times = keys[rest], values.take(rest, 0), times[rest]
            degraded = None if degraded is None else degraded[rest]
        for row, key in enumerate(keys.tolist()):
            flags = None if degraded is None else degraded[row : row + 1]
            self._push_one(key, values[row : row + 1], times[row : row + 1], flags, block, emit)

    def _push_grouped(self, keys: Keys, values: Values, times: Times, degraded: Flags | None, block: Block, emit: Emit) -> None:
        if np.count_nonzero(keys == keys[0]) == len(keys):
            self._push_one(keys.item(0), values, times, degraded, block, emit)
            return
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        cuts = [0, *(np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1).tolist(), len(keys)]
        for start, stop in pairwise(cuts):
            rows = order[start:stop]
            flags = None if degraded is None else degraded[rows]
            self._push_one(int(sorted_keys[start]), values[rows], times[rows], flags, block, emit)

    def _push_one(self, key: int, values: Values, times: Times, degraded: Flags | None, block: Block, emit: Emit) -> None:
        """Rows of one key."""
        if self.gap_ns is not None:
            first, last = times.item(0), times.item(-1)
            if first - self._last.item(key) > self.gap_ns:
                self._start_over(key)
            if last - first > self.gap_ns:
                self._push_pieces(key, values, times, degraded, block, emit)
                return
        self._extend(key, values, times, degraded, block, emit)

    def _push_pieces(self, key: int, values: Values, times: Times, degraded: Flags | None, block: Block, emit: Emit) -> None:
        assert self.gap_ns is not None
        cuts = [0, *(np.flatnonzero(times[1:] - times[:-1] > self.gap_ns) + 1).tolist(), len(values)]
        for start, stop in pairwise(cuts):
            if start:
                self._start_over(key)
            flags = None if degraded is None else degraded[start:stop]
            self._extend(key, values[start:stop], times[start:stop], flags, block, emit)

    def _extend(self, key: int, values: Values, times: Times, degraded: Flags | None, block: Block, emit: Emit) -> None:
        """Rows of one key without a gap. Windows that begin before this block are shown from the ring, others from the block."""
        size, k = self.size, len(values)
        seen, bad = self._seen.item(key), self._bad.item(key)
        row = self._due.item(key) - seen - 1  # the row that completes the next window
        base = end = self._end.item(key)
        head = min(k, size - 1)
        if k < size or row < head:
            base = end = self._make_room(key, head)
            end += head
            self._rings[base:end] = values[:head]
        if row < k:
            if k >= size:
                values = np.ascontiguousarray(values, self._rings.dtype)
            while row < k:
                oldest = row + 1 - size
                if row < head:
                    window = self._rings[base + oldest : base + row + 1]
                else:
                    window = values[oldest : row + 1]
                is_degraded = bad > seen + oldest
                if degraded is not None and not is_degraded:
                    is_degraded = bool(degraded[max(oldest, 0) : row + 1].any())
                emit(window, key, times.item(row) + block.offset, block.arrival, is_degraded)
                row += self.hop
            self._due[key] = seen + row + 1
        if k >= size:
            start = self._start.item(key)
            end = start + size - 1
            self._rings[start:end] = values[k - size + 1 :]
        self._end[key] = end
        self._seen[key] = seen + k
        self._last[key] = times[-1]
        if degraded is not None and len(flagged := np.flatnonzero(degraded)):
            self._bad[key] = seen + 1 + flagged[-1]

    def _push_distinct(self, keys: Keys, values: Values, times: Times, degraded: Flags | None, block: Block, emit: Emit) -> None:
        """One row of each of many keys, by scattering."""
        if self.gap_ns is not None:
            is_late = times - self._last[keys] > self.gap_ns
            if np.count_nonzero(is_late):
                self._start_over(keys[is_late])
        ends = self._end[keys]
        is_full = ends == self._stop[keys]
        if np.count_nonzero(is_full):
            for key in keys[is_full].tolist():
                self._make_room(key, 1)
            ends = self._end[keys]
        self._rings[ends] = values
        self._end[keys] = ends + 1
        seen = self._seen[keys] + 1
        self._seen[keys] = seen
        self._last[keys] = times
        if degraded is not None:
            self._bad[keys[degraded]] = seen[degraded]
        is_due = seen == self._due[keys]
        if not np.count_nonzero(is_due):
            return
        due_keys = keys[is_due]
        self._due[due_keys] += self.hop
        has_bad = (self._bad[due_keys] > seen[is_due] - self.size).tolist()
        newest = ends[is_due].tolist()
        for key, end, time, is_degraded in zip(due_keys.tolist(), newest, times[is_due].tolist(), has_bad, strict=True):
            emit(self._rings[end + 1 - self.size : end + 1], key, time + block.offset, block.arrival, is_degraded)

    def _make_room(self, key: int, rows: int) -> int:
        """Moves what later windows need to the start of the key's run if `rows` more do not fit; where the next row goes."""
        end = self._end.item(key)
        if end + rows > self._stop.item(key):
            start = self._start.item(key)
            kept = min(self._seen.item(key), self.size - 1)
            self._rings[start : start + kept] = self._rings[end - kept : end]
            self._end[key] = end = start + kept
        return end

    def _start_over(self, keys: int | NDArray[Any]) -> None:
        self._end[keys] = self._start[keys]
        self._seen[keys] = 0
        self._due[keys] = self.size
        self._last[keys] = NEVER
        self._bad[keys] = -NEVER
        self._stretch[keys] += 1
