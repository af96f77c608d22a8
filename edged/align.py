"""Joins several streams into rows of one: a row for each sample of the pace stream, or on a regular grid.

The samples of every joined stream are kept for a while (`_Track`), so that a row finds the value that was true at its
time, whichever arrived first. With "previous" a row is joined at once. With "nearest" and "linear" it may wait for the
others' next samples, in a bounded buffer, at most as long as the largest tolerance. Grid points are rows with no values
of their own, made when time passes them.

All times here are UTC ns. Streams stamped on arrival come on the monotonic clock with an offset; when the machine's clock
is set, what is kept of them is moved along, so that a leap of the clock tears nothing apart. Knows no clock itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, starmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.records import Block, Flags, Times, Values

Keys = NDArray[Any]  # of numpy's index type
Index = NDArray[np.int64]

FAR = 2**62
"""As a time: longer ago than anything. As a distance: out of reach."""
STEP_NS = 1_000_000
"""A change of the offset by less than this is jitter between two readings of two clocks, not a set clock."""


@dataclass(frozen=True, slots=True)
class AlignSource:
    """One stream of the join. `on_bad` is "drop", "hold" or "pass", for a value older than `tolerance_ns`.

    `tolerance_ns` is None for the pace stream only. `history` samples of each key are kept at least: as many as come
    while a row of the pace stream is on its way.
    """

    name: str
    width: int
    tolerance_ns: int | None
    on_bad: str = "drop"
    is_keyed: bool = False
    history: int = 64


@dataclass(frozen=True, slots=True)
class AlignPlan:
    """What is joined and how. `to` is the index of the pace stream, or None with `period_ns` for a grid.

    `method` is "previous", "nearest" or "linear". Key ids mean the same key in every keyed stream. Columns of a
    joined row are the streams' in their order. `max_waiting` rows wait for the others' next samples at most.
    """

    sources: tuple[AlignSource, ...]
    to: int | None = 0
    period_ns: int | None = None
    method: str = "previous"
    max_keys: int = 1
    max_waiting: int = 1024
    dtype: DTypeLike = np.float32

    @property
    def width(self) -> int:
        return sum(source.width for source in self.sources)

    @property
    def is_keyed(self) -> bool:
        return any(source.is_keyed for source in self.sources)


@dataclass(slots=True)
class Lag:
    """How one joined stream kept up, since it was last asked for.

    `samples` came; `fresh` rows found a value, `stale` ones none that was near enough. Of these the least and the most
    that the stream's newest value was behind them; negative where it was ahead.
    """

    fresh: int = 0
    stale: int = 0
    samples: int = 0
    least_ns: int = FAR
    most_ns: int = -FAR


@dataclass(slots=True)
class _Found:
    """What a track said about k rows: masks, None where none is set."""

    is_missing: Flags | None = None
    is_stale: Flags | None = None
    is_degraded: Flags | None = None


class _Track:
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

    def fill(self, out: Values, keys: Keys | int, times: Times) -> _Found:
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
                    return _Found(is_degraded=np.ones(len(times), np.bool_) if self._flags[newest] else None)
        return self._fill_searched(out, keys, times)

    def _fill_searched(self, out: Values, keys: Keys | int, times: Times) -> _Found:
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
    ) -> _Found:
        is_stale = (distance > self.tolerance_ns) & ~is_missing
        self.lag.fresh += len(times) - np.count_nonzero(is_stale | is_missing)
        self._note_lag(keys, times, is_stale | is_missing)
        if not np.count_nonzero(is_stale):
            return _Found(is_missing, None, is_degraded)
        if self.source.on_bad == "drop":
            return _Found(is_missing, is_stale, is_degraded)
        if self.source.on_bad == "pass":
            out[is_stale] = np.nan
        return _Found(is_missing, None, is_degraded | is_stale)

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


class _Waiting:
    """Rows that wait for the others' next samples, in order of arrival; the oldest gives way when `capacity` wait.

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

    def append(self, rows: _Rows) -> int:
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

    def take(self, is_taken: Flags) -> _Rows | None:
        rows = self._first + np.flatnonzero(is_taken)
        if not len(rows):
            self.oldest = int(self.times.min())
            return None
        arrival = self._arrivals.item(rows[-1])
        taken = _Rows(self._values[rows], self._times[rows], self._keys[rows], self._degraded[rows], arrival)
        self.drop(is_taken)
        return taken

    def _keep(self, rows: slice | Keys, count: int) -> None:
        for array in self._arrays:
            array[:count] = array[rows]
        self._first, self._stop = 0, count


@dataclass(slots=True)
class _Rows:
    """Rows on their way: of the pace stream or the grid before the join (`values` None for a grid), whole after it."""

    values: Values | None
    times: Times
    keys: Keys | int
    degraded: Flags | None
    arrival: int

    def where(self, mask: Flags | Keys) -> _Rows:
        return _Rows(
            None if self.values is None else self.values[mask],
            self.times[mask],
            self.keys if isinstance(self.keys, int) else self.keys[mask],
            None if self.degraded is None else self.degraded[mask],
            self.arrival,
        )


class Aligner:
    """Joins blocks of several streams. `dropped` counts by reason the rows that never came to be:

    stale_join: a stream's value was older than its tolerance; no_value: a stream had said nothing yet;
    overflow: more rows waited, or grid points were due, than may; restart: a key began anew while its rows waited.
    """

    def __init__(self, plan: AlignPlan) -> None:
        self.plan = plan
        self.dropped = {"stale_join": 0, "no_value": 0, "overflow": 0, "restart": 0}
        self._tracks: list[_Track | None] = []
        column = 0
        for index, source in enumerate(plan.sources):
            columns = slice(column, column + source.width)
            column = columns.stop
            if index == plan.to:
                self._pace_columns = columns
                self._tracks.append(None)
            else:
                self._tracks.append(_Track(source, columns, plan.max_keys, plan.dtype, plan.method))
        self._joined = [track for track in self._tracks if track is not None]
        self._fans_out = plan.is_keyed and (plan.to is None or not plan.sources[plan.to].is_keyed)
        self._wait_ns = max((track.tolerance_ns for track in self._joined), default=0)
        waits = plan.method != "previous"
        pace_width = 0 if plan.to is None else plan.sources[plan.to].width
        self._waiting = _Waiting(plan.max_waiting if waits else 0, pace_width, plan.dtype)
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
            rows = _Rows(block.values, times, keys, block.degraded, block.arrival)
            return self._pack(self._admit(rows) if len(block) else [], block.arrival)
        track.is_monotonic = bool(block.offset)
        self._is_monotonic |= bool(block.offset) and self.plan.to is None
        parts: list[_Rows] = []
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

    def _admit(self, rows: _Rows) -> list[_Rows]:
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

    def _fan_out(self, rows: _Rows) -> _Rows | None:
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

    def _release(self) -> list[_Rows]:
        rows = self._waiting.take(self._is_ready(self._waiting.keys, self._waiting.times))
        return [] if rows is None else self._join(rows)

    def _expire(self, now_utc: int) -> list[_Rows]:
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

    def _tick(self, until: int, arrival: int) -> list[_Rows]:
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
        return self._admit(_Rows(None, times, 0, None, arrival))

    def _join(self, rows: _Rows) -> list[_Rows]:
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

    def _pack(self, parts: list[_Rows], arrival: int) -> Block | None:
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
