"""Joins several streams into rows of one: a row for each sample of the pace stream, or on a regular grid.

The samples of every joined stream are kept for a while (`track`), so that a row finds the value that was true at its
time, whichever arrived first. With "previous" a row is joined at once. With "nearest" and "linear" it may wait for the
others' next samples, in a bounded buffer, at most as long as the largest tolerance. Grid points are rows with no values
of their own, made when time passes them.

All times here are UTC ns. Streams stamped on arrival come on the monotonic clock with an offset; when the machine's clock
is set, what is kept of them is moved along, so that a leap of the clock tears nothing apart. Knows no clock itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, starmap

import numpy as np

from edged.pipeline.align.plan import FAR, AlignPlan, Keys
from edged.pipeline.align.track import Lag, Track
from edged.pipeline.align.waiting import Rows, Waiting
from edged.records import Block, Flags, Times

STEP_NS = 1_000_000
"""A change of the offset by less than this is jitter between two readings of two clocks, not a set clock."""


class Aligner:
    """Joins blocks of several streams. `dropped` counts by reason the rows that never came to be:

    stale_join: a stream's value was older than its tolerance; no_value: a stream had said nothing yet;
    overflow: more rows waited, or grid points were due, than may; restart: a key started again while its rows waited.
    """

    def __init__(self, plan: AlignPlan) -> None:
        self.plan = plan
        self.dropped = {"stale_join": 0, "no_value": 0, "overflow": 0, "restart": 0}
        self._tracks: list[Track | None] = []
        column = 0
        for index, source in enumerate(plan.sources):
            columns = slice(column, column + source.width)
            column = columns.stop
            if index == plan.to:
                self._pace_columns = columns
                self._tracks.append(None)
            else:
                self._tracks.append(Track(source, columns, plan.max_keys, plan.dtype, plan.method))
        self._joined = [track for track in self._tracks if track is not None]
        self._fans_out = plan.is_keyed and (plan.to is None or not plan.sources[plan.to].is_keyed)
        self._wait_ns = max((track.tolerance_ns for track in self._joined), default=0)
        waits = plan.method != "previous"
        pace_width = 0 if plan.to is None else plan.sources[plan.to].width
        self._waiting = Waiting(plan.max_waiting if waits else 0, pace_width, plan.dtype)
        self._grid: int | None = None  # the next grid point, once there was any sample
        self._newest = -FAR  # the newest time that rows have reached
        self._offset = 0  # UTC less monotonic, as of the last stream that was stamped on arrival
        self._is_monotonic = False  # whether rows go out with times on the monotonic clock
        self._restarts: set[int] = set()

    @property
    def nbytes(self) -> int:
        return self._waiting.nbytes + sum(track.nbytes for track in self._joined)

    @property
    def waiting(self) -> int:
        """Rows that wait now."""
        return len(self._waiting)

    @property
    def next_due(self) -> int | None:
        """When `flush` will have something to do, UTC ns."""
        due = self._waiting.oldest + self._wait_ns if len(self._waiting) else FAR
        if self._grid is not None:
            due = min(due, self._grid)
        return None if due == FAR else due

    def push(self, index: int, block: Block) -> Block | None:
        """Takes a block of stream `index` in; the rows that it made whole, if any. They carry no receipts."""
        if block.offset:
            self._set_offset(block.offset)
        for key in block.restarts:
            self._restart(index, key)
        times = block.time + self._offset if block.offset else block.time
        keys = block.keys if isinstance(block.keys, int) else block.keys.astype(np.intp)
        track = self._tracks[index]
        if track is None:
            self._is_monotonic = bool(block.offset)
            rows = Rows(block.values, times, keys, block.degraded, block.arrival)
            return self._pack(self._admit(rows) if len(block) else [], block.arrival)
        track.is_monotonic = bool(block.offset)
        self._is_monotonic |= bool(block.offset) and self.plan.to is None
        parts: list[Rows] = []
        for piece in self._pieces(times, track.source.history):
            if self.plan.to is None:
                parts += self._tick(times.item(piece.start) - 1, block.arrival)  # a point is over when a later sample comes
            flags = None if block.degraded is None else block.degraded[piece]
            track.append(keys if isinstance(keys, int) else keys[piece], block.values[piece], times[piece], flags)
            if len(self._waiting):
                parts += self._release()
        return self._pack(parts, block.arrival)

    def flush(self, now_utc: int, now: int) -> Block | None:
        """Rows whose wait is over at `now_utc`, and grid points up to it; `now` is the same moment, monotonic."""
        parts = [] if self._grid is None else self._tick(now_utc, now)
        if len(self._waiting) and self._waiting.oldest + self._wait_ns <= now_utc:
            parts += self._expire(now_utc)
        return self._pack(parts, now)

    def diagnose(self) -> list[str]:
        """A sentence for each stream whose samples come but never fit, since the last call."""
        pace = "the grid" if self.plan.to is None else self.plan.sources[self.plan.to].name
        found = []
        for track in self._joined:
            lag, track.lag = track.lag, Lag()
            if lag.fresh or not lag.stale or not lag.samples:
                continue
            is_ahead = lag.most_ns < 0
            distance_s = round((-lag.most_ns if is_ahead else max(0, lag.least_ns)) / 1e9, 3)
            found.append(
                f"{track.source.name} is always {distance_s:.9g} s {'ahead of' if is_ahead else 'behind'} {pace}, "
                f"tolerance is {track.tolerance_ns / 1e9:.9g} s: no row can be joined; "
                "is the clock of that sensor right (decode.time)?"
            )
        return found

    def _restart(self, index: int, key: int) -> None:
        """A key that means something new now must not be joined to what it meant before."""
        for other, track in enumerate(self._tracks):
            if track is not None and (other == index or (track.source.is_keyed and self.plan.sources[index].is_keyed)):
                track.clear(key if track.source.is_keyed else 0)
        if index != self.plan.to and not (self.plan.to is None and (index == 0 or self.plan.sources[index].is_keyed)):
            return
        names = self._known().tolist() if self._fans_out and not self.plan.sources[index].is_keyed else [key]
        self._restarts.update(names)
        if len(self._waiting):
            is_over = np.isin(self._waiting.keys, names)
            self.dropped["restart"] += int(np.count_nonzero(is_over))
            self._waiting.drop(is_over)

    def _set_offset(self, offset: int) -> None:
        delta = offset - self._offset
        if self._offset and abs(delta) < STEP_NS:
            return
        if self._offset:
            for track in self._joined:
                if track.is_monotonic:
                    track.move(delta)
            if self._is_monotonic:
                self._waiting.move(delta)
                self._newest += delta
                if self._grid is not None and self.plan.period_ns:
                    self._grid = _ceil(self._grid + delta, self.plan.period_ns)
        self._offset = offset

    def _admit(self, rows: Rows) -> list[Rows]:
        """Rows of the pace stream or the grid: joined now, or left waiting."""
        if self._fans_out:
            fanned = self._fan_out(rows)
            if fanned is None:
                return []
            rows = fanned
        if not self._waiting.capacity:
            return self._join(rows)
        self._newest = max(self._newest, int(rows.times.max()))
        is_ready = self._is_ready(rows.keys, rows.times)
        parts = self._join(rows.where(is_ready)) if np.count_nonzero(is_ready) else []
        if np.count_nonzero(is_ready) < len(rows.times):
            self.dropped["overflow"] += self._waiting.append(rows.where(~is_ready))
        if len(self._waiting) and self._waiting.oldest + self._wait_ns <= self._newest:
            parts += self._expire(self._newest)
        return parts

    def _fan_out(self, rows: Rows) -> Rows | None:
        """An unkeyed pace joins to all keys: each row once for every key that has said something."""
        known = self._known()
        if not len(known):
            if rows.values is not None:
                self.dropped["no_value"] += len(rows.times)
            return None
        row = np.repeat(np.arange(len(rows.times)), len(known))
        spread = rows.where(row)
        spread.keys = np.tile(known, len(rows.times))
        return spread

    def _known(self) -> Keys:
        """The keys that a keyed stream has said something of."""
        return np.flatnonzero(np.logical_or.reduce([track.known() for track in self._joined if track.source.is_keyed]))

    def _is_ready(self, keys: Keys | int, times: Times) -> Flags:
        is_ready = np.ones(len(times), np.bool_)
        for track in self._joined:
            is_ready &= track.reaches(keys, times)
        return is_ready

    def _release(self) -> list[Rows]:
        rows = self._waiting.take(self._is_ready(self._waiting.keys, self._waiting.times))
        return [] if rows is None else self._join(rows)

    def _expire(self, now_utc: int) -> list[Rows]:
        rows = self._waiting.take(self._waiting.times + self._wait_ns <= now_utc)
        return [] if rows is None else self._join(rows)

    def _pieces(self, times: Times, longest: int) -> Iterator[slice]:
        """Cuts a block of a joined stream: not longer than its history, and at every grid point that it crosses."""
        k, period = len(times), self.plan.period_ns
        cuts = set(range(0, k, longest))
        if period and k:
            if self._grid is None:
                self._grid = _ceil(times.item(0), period)
            passed = (np.maximum.accumulate(times) - 1) // period
            cuts.update((np.flatnonzero(passed[1:] != passed[:-1]) + 1).tolist())
        yield from starmap(slice, pairwise([*sorted(cuts), k]))

    def _tick(self, until: int, arrival: int) -> list[Rows]:
        """The grid points that are due up to `until`, which is one of them or not."""
        period = self.plan.period_ns
        assert period is not None
        assert self._grid is not None
        points = (until - self._grid) // period + 1
        if points <= 0:
            return []
        most = max(1, self.plan.max_waiting // max(1, len(self._known()) if self._fans_out else 1))
        if points > most:  # the clock leapt, or a recording has a hole: the oldest are not worth making
            self.dropped["overflow"] += points - most
            self._grid += (points - most) * period
            points = most
        times = self._grid + period * np.arange(points)
        self._grid += points * period
        return self._admit(Rows(None, times, 0, None, arrival))

    def _join(self, rows: Rows) -> list[Rows]:
        """Whole rows, less those that a stream has no good value for."""
        k = len(rows.times)
        out = np.empty((k, self.plan.width), self.plan.dtype)
        if rows.values is not None and self.plan.to is not None:
            out[:, self._pace_columns] = rows.values
        is_missing: Flags | None = None
        is_stale: Flags | None = None
        for track in self._joined:
            found = track.fill(out[:, track.columns], rows.keys, rows.times)
            is_missing = _either(is_missing, found.is_missing)
            is_stale = _either(is_stale, found.is_stale)
            rows.degraded = _either(rows.degraded, found.is_degraded)
        rows.values = out
        if (is_lost := _either(is_missing, is_stale)) is None or not (lost := int(np.count_nonzero(is_lost))):
            return [rows]
        missing = 0 if is_missing is None else int(np.count_nonzero(is_missing))
        self.dropped["no_value"] += missing
        self.dropped["stale_join"] += lost - missing
        return [rows.where(~is_lost)] if lost < k else []

    def _pack(self, parts: list[Rows], arrival: int) -> Block | None:
        if not parts:
            return None
        offset = self._offset if self._is_monotonic else 0
        if len(parts) == 1:
            [rows] = parts
            values, times, keys, degraded = rows.values, rows.times, rows.keys, rows.degraded
            arrival = rows.arrival
        else:
            values = np.concatenate([part.values for part in parts if part.values is not None])
            times = np.concatenate([part.times for part in parts])
            keys = np.concatenate([np.broadcast_to(part.keys, len(part.times)) for part in parts])
            flags = [np.zeros(len(part.times), np.bool_) if part.degraded is None else part.degraded for part in parts]
            degraded = np.concatenate(flags)
            arrival = parts[-1].arrival
        if degraded is not None and not np.count_nonzero(degraded):
            degraded = None
        restarts = tuple(self._restarts)
        self._restarts.clear()
        assert values is not None
        block_keys = keys if isinstance(keys, int) else keys.astype(np.int32)
        return Block(values, times - offset, offset, arrival, block_keys, degraded=degraded, restarts=restarts)


def _either(one: Flags | None, other: Flags | None) -> Flags | None:
    if one is None or other is None:
        return other if one is None else one
    return np.asarray(one | other)


def _ceil(time: int, period: int) -> int:
    """The first multiple of `period` that is not before `time`."""
    return -(-time // period) * period
