"""Decoded rows become a block: each row gets its time and its key, each refused one a reason.

Owns what must be remembered for that: which key has which id, and the last time of each. Knows no clock; `arrival`
(monotonic ns) and UTC come in as arguments. The times of one key never decrease, within a block and between blocks, until
it restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edged.records import Block, Receipt, Reject, Rows, Times

FUTURE_NS = 60 * 10**9
"""A time further ahead of a synchronised clock is no time."""
WRAP_SLACK_NS = 60 * 10**9
"""How much longer than by our clock a sensor's time may have run across a wrap; a reboot near the wrap exceeds it."""

TICKS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
SECONDS_PER_YEAR = 31_556_952


class KeyTable:
    """The keys of one stream as small ids, `0..max_keys-1`.

    When it is full, the key silent longest gives way if it was silent for `stale_ns` (None: never); its id is then appended
    to `recycled`, which the `Stamper` empties into the `restarts` of its next block.
    """

    def __init__(self, max_keys: int, stale_ns: int | None) -> None:
        self.max_keys = max_keys
        self.stale_ns = stale_ns
        self.recycled: list[int] = []
        self._ids: dict[tuple[str, ...], int] = {}
        self._names: list[tuple[str, ...]] = []
        self._seen: list[int] = []
        self._full_until = 0

    def __len__(self) -> int:
        return len(self._names)

    def names(self, key: int) -> tuple[str, ...]:
        return self._names[key]

    def id(self, names: tuple[str, ...], now: int) -> int | None:
        """The id of a key seen now (monotonic ns); None: all ids are taken and none is stale."""
        key = self._ids.get(names)
        if key is not None:
            self._seen[key] = now
            return key
        if len(self._names) < self.max_keys:
            key = len(self._names)
            self._names.append(names)
            self._seen.append(now)
        else:
            key = self._stalest(now)
            if key is None:
                return None
            del self._ids[self._names[key]]
            self._names[key] = names
            self._seen[key] = now
            self.recycled.append(key)
        self._ids[names] = key
        return key

    def _stalest(self, now: int) -> int | None:
        # Nothing can be stale before `_full_until`, so that a flood of new keys does not search the table each time.
        if self.stale_ns is None or now < self._full_until:
            return None
        seen = min(self._seen)
        if now - seen < self.stale_ns:
            self._full_until = seen + self.stale_ns
            return None
        return self._seen.index(seen)


class Stamper:
    """Makes the blocks of one source.

    `time_format` is `decode.time.format`, None to stamp on arrival; `rate` the expected samples a second of one key.
    Rows with UTC stamps give a block in UTC (`offset` 0). All others are on the monotonic clock, with the offset to UTC:
    stamped on arrival, or by the sensor's own counter, anchored at the arrival of its first samples.
    """

    def __init__(self, time_format: str | None, rate: float | None, keys: KeyTable | None) -> None:
        self._format = time_format
        self._keys = keys
        size = keys.max_keys if keys is not None else 1
        period = 1e9 / rate if rate else None
        self._is_utc = time_format is not None and not time_format.startswith("elapsed_")
        self._clock: _Clock
        if time_format is None:
            self._clock = _Arrival(period, size)
        elif self._is_utc:
            self._clock = _Utc(period, size)
        else:
            self._clock = _Elapsed(TICKS_NS[time_format.removeprefix("elapsed_")], size)

    def stamp(
        self,
        rows: Rows,
        key_ids: int | Sequence[int | None] | None,
        receipts: Sequence[Receipt],
        arrival: int,
        utc_offset: int,
        now_utc: int,
        is_synced: bool,
    ) -> tuple[Block | None, list[Reject]]:
        """The block of what came in at `arrival`, and the rows refused here (`rows.rejects` are the caller's).

        `key_ids`: one a row (None: the table refused it) or one for all; None: from `rows.keys`, if the stream is keyed.
        `receipts`: one a payload, or one for all; the block has one a row, or that one for all.
        """
        rejects: list[Reject] = []
        batch = _Batch(rows, receipts)
        keys: NDArray[np.int32] | int = 0
        if batch.count and self._keys is not None:
            keys = self._ids(batch, key_ids, arrival, rejects)
            self._take_recycled()
        if batch.count and self._is_utc and is_synced:
            keys = self._drop_future(batch, keys, now_utc, rejects)
        if not batch.count:
            return None, rejects
        times, kept = self._clock.times(batch.time, batch.count, keys, arrival)
        if kept is not None:
            gone = np.flatnonzero(~kept).tolist()
            rejects += [Reject("late", self._late(keys, i), payload=batch.payload_of(i)) for i in gone]
            batch.keep(kept)
            times, keys = times[kept], _of_kept(keys, kept)
            if not batch.count:
                return None, rejects
        restarts: tuple[int, ...] = ()
        if self._clock.restarts:  # also of earlier calls, all of whose rows were refused
            restarts = tuple(dict.fromkeys(self._clock.restarts))
            self._clock.restarts.clear()
        offset = 0 if self._is_utc else utc_offset
        receipt_of_each = batch.receipt_of_each()
        return Block(batch.values, times, offset, arrival, keys, receipt_of_each, batch.degraded, restarts), rejects

    def reset(self) -> None:
        """The port was opened anew: counters of the sensor may have begun anew."""
        self._clock.forget_all()

    def _take_recycled(self) -> None:
        assert self._keys is not None
        for key in self._keys.recycled:
            self._clock.forget(key)
        self._clock.restarts += self._keys.recycled
        self._keys.recycled.clear()

    def _ids(
        self, batch: _Batch, key_ids: int | Sequence[int | None] | None, arrival: int, rejects: list[Reject]
    ) -> NDArray[np.int32] | int:
        """The key ids of the rows; drops those that have none from the batch."""
        assert self._keys is not None
        if isinstance(key_ids, int):
            return key_ids
        names = batch.keys
        if key_ids is None:
            if names is None:
                return 0
            key_ids = [self._keys.id(n, arrival) for n in names]
        if None not in key_ids:
            return np.array(key_ids, np.int32)
        for i, key in enumerate(key_ids):
            if key is None:
                rejects.append(self._refused(names[i] if names is not None else None, batch.payload_of(i)))
        batch.keep(np.array([key is not None for key in key_ids]))
        return np.array([key for key in key_ids if key is not None], np.int32)

    def _refused(self, names: tuple[str, ...] | None, payload: int) -> Reject:
        assert self._keys is not None
        shown = "" if names is None else " " + repr("/".join(names)[:64])
        detail = f"new key{shown}: all {self._keys.max_keys} keys are in use and none is stale: raise max_keys"
        return Reject("too_many_keys", detail, payload=payload)

    def _drop_future(
        self, batch: _Batch, keys: NDArray[np.int32] | int, now_utc: int, rejects: list[Reject]
    ) -> NDArray[np.int32] | int:
        assert batch.time is not None
        limit = now_utc + FUTURE_NS
        if int(batch.time.max()) <= limit:
            return keys
        kept = batch.time <= limit
        for i in np.flatnonzero(~kept).tolist():
            detail = future_detail(int(batch.time[i]), self._format or "", now_utc, self._name(keys, i))
            rejects.append(Reject("future", detail, payload=batch.payload_of(i)))
        batch.keep(kept)
        return _of_kept(keys, kept)

    def _late(self, keys: NDArray[np.int32] | int, row: int) -> str:
        whose = self._name(keys, row)
        of = f" of {whose}" if whose else ""
        if not self._is_utc:
            return f"taken{of} before its time started over in the same read"
        return f"time{of} is before that of its last sample; is the clock of that sensor right (decode.time)?"

    def _name(self, keys: NDArray[np.int32] | int, row: int) -> str:
        if self._keys is None or not len(self._keys):
            return ""
        return "/".join(self._keys.names(keys if isinstance(keys, int) else int(keys[row])))


def future_detail(time: int, time_format: str, now_utc: int, key: str = "") -> str:
    """Why a time (UTC ns, as read in `time_format`) is no time; names the unit in which it would be now, within a day."""
    whose = f"time of {key}" if key else "time"
    year, this_year = (1970 + ns // 10**9 // SECONDS_PER_YEAR for ns in (time, now_utc))
    if year > this_year:
        text = f"{whose} is in the year {year}"
    else:
        text = f"{whose} is {(time - now_utc) // 10**9} s ahead of the clock, which is synchronised"
    if not time_format.startswith("unix_"):
        return f"{text}; is the clock of that sensor right?"
    raw = time // TICKS_NS[time_format.removeprefix("unix_")]
    for unit, tick in TICKS_NS.items():
        if abs(raw * tick - now_utc) < 86_400 * 10**9:
            other = f"unix_{unit}"
            return f'{text}: {raw} read as {time_format}; as {other} it is now: decode.time.format = "{other}"'
    return f"{text}: {raw} read as {time_format}; is the clock of that sensor right?"


class _Batch:
    """The columns of the rows that are still in."""

    __slots__ = ("_payload", "_receipts", "count", "degraded", "keys", "time", "values")

    def __init__(self, rows: Rows, receipts: Sequence[Receipt]) -> None:
        self.values = rows.values
        self.count = len(rows.values)
        self.time = rows.time
        self.keys = rows.keys
        self.degraded = rows.degraded
        self._payload = rows.payload
        self._receipts = receipts

    def keep(self, kept: NDArray[np.bool_]) -> None:
        self.values = self.values[kept]
        self.count = len(self.values)
        self._payload = np.flatnonzero(kept).astype(np.int32) if self._payload is None else self._payload[kept]
        if self.time is not None:
            self.time = self.time[kept]
        if self.degraded is not None:
            self.degraded = self.degraded[kept]

    def payload_of(self, row: int) -> int:
        return row if self._payload is None else int(self._payload[row])

    def receipt_of_each(self) -> Sequence[Receipt]:
        receipts = self._receipts
        if self._payload is None or len(receipts) == 1:
            return receipts
        return [receipts[i] for i in self._payload.tolist()]


class _Clock(Protocol):
    """What gives rows their times. `restarts` collects the keys that begin anew, until a block takes them along."""

    restarts: list[int]

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        """The time of each row, and which rows may stay (None: all)."""

    def forget(self, key: int) -> None: ...

    def forget_all(self) -> None: ...


class _Arrival:
    """The last sample of a read has the arrival time, earlier ones of its key are spaced by the period.

    Where that would reach back before the key's last read, they are spread evenly over the time since then.
    """

    def __init__(self, period: float | None, size: int) -> None:
        self.restarts: list[int] = []
        self._period = period
        self._last = np.zeros(size, np.int64)  # monotonic ns: nothing arrived before 0

    def forget(self, key: int) -> None:
        self._last[key] = 0

    def forget_all(self) -> None:
        self._last[:] = 0

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        if self._period is None or count == 1:
            self._last[keys] = arrival
            return np.array([arrival] * count, np.int64), None  # a tenth of np.full's cost for one row
        if isinstance(keys, int):
            step = min(self._period, (arrival - int(self._last[keys])) / count)
            self._last[keys] = arrival
            return arrival - (np.arange(count - 1, -1, -1) * step).astype(np.int64), None
        of_key = np.bincount(keys)
        if int(of_key.max()) == 1:
            self._last[keys] = arrival
            return np.full(count, arrival, np.int64), None
        step_of_key = np.minimum(self._period, (arrival - self._last[: len(of_key)]) / np.maximum(of_key, 1))
        back = np.empty(count, np.int64)  # how many rows of the same key follow in this block
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum(of_key)
        back[order] = (ends - 1)[keys[order]] - np.arange(count)
        self._last[keys] = arrival
        return arrival - (back * step_of_key[keys]).astype(np.int64), None


def _by_key(
    time: Times,
    keys: NDArray[np.int32] | int,
    of_one: Callable[[int, Times], tuple[Times, NDArray[np.bool_] | None]],
    of_row: Callable[[int, int], int | None],
) -> tuple[Times, NDArray[np.bool_] | None]:
    """Runs one key's rule over its rows: `of_one` on an array, `of_row` where each key came once (None: the row must go)."""
    if isinstance(keys, int):
        if len(time) > 1:
            return of_one(keys, time)
        keys = np.array([keys], np.int32)
    ids = keys.tolist()
    if len(set(ids)) == len(ids):
        rows = [of_row(key, t) for key, t in zip(ids, time.tolist(), strict=True)]
        if None not in rows:
            return np.array(rows, np.int64), None
        return np.array([t or 0 for t in rows], np.int64), np.array([t is not None for t in rows])
    out = np.empty_like(time)
    kept = np.ones(len(time), np.bool_)
    order = np.argsort(keys, kind="stable")
    for rows_of_key in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        out[rows_of_key], ok = of_one(int(keys[rows_of_key[0]]), time[rows_of_key])
        if ok is not None:
            kept[rows_of_key] = ok
    return out, None if kept.all() else kept


class _Utc:
    """The sample's own UTC stamp. Older than the last of its key: late. Equal ones are spread by the period, if known."""

    def __init__(self, period: float | None, size: int) -> None:
        self.restarts: list[int] = []
        self._period = period
        self._size = size
        self.forget_all()

    def forget(self, key: int) -> None:
        self._last[key] = self._out[key] = -(2**63)
        self._equal[key] = 0

    def forget_all(self) -> None:
        self._last = [-(2**63)] * self._size  # stamp of the last sample, as it came
        self._out = [-(2**63)] * self._size  # and as it went
        self._equal = [0] * self._size  # samples with that very stamp before it

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        assert time is not None
        return _by_key(time, keys, self._of_one, self._of_row)

    def _of_row(self, key: int, time: int) -> int | None:
        last = self._last[key]
        if time > last:
            self._last[key] = time
            self._equal[key] = 0
        elif time < last:
            return None
        elif self._period is not None:
            self._equal[key] += 1
            time += round(self._equal[key] * self._period)
        out = self._out[key] = max(time, self._out[key])
        return out

    def _of_one(self, key: int, time: Times) -> tuple[Times, NDArray[np.bool_] | None]:
        last = self._last[key]
        if int(time[0]) > last and (time[1:] > time[:-1]).all() and int(time[0]) >= self._out[key]:
            self._last[key] = self._out[key] = int(time[-1])
            self._equal[key] = 0
            return time, None
        newest = np.maximum(np.maximum.accumulate(time), last)
        kept = time >= newest
        stamps = time[kept]
        if not len(stamps):
            return time, kept
        out = stamps
        if self._period is not None:
            index = np.arange(len(stamps))
            is_first = np.concatenate(([True], stamps[1:] > stamps[:-1]))
            equal = index - np.maximum.accumulate(np.where(is_first, index, 0))
            if int(stamps[0]) == last:
                equal[stamps == last] += self._equal[key] + 1
            out = stamps + np.rint(equal * self._period).astype(np.int64)
            self._equal[key] = int(equal[-1])
        out = np.maximum(np.maximum.accumulate(out), self._out[key])
        self._last[key], self._out[key] = int(stamps[-1]), int(out[-1])
        if kept.all():
            return out, None
        spread = time.copy()
        spread[kept] = out
        return spread, kept


class _Elapsed:
    """The sensor's own counter, unwrapped at 2^32 of its unit and anchored so that its first samples arrived when they did.

    A jump back that is no wrap is a sensor that started over: it is anchored anew, and its key restarts. Rows before the
    jump in the same read go: a block can begin a key anew only at its beginning.
    """

    def __init__(self, tick: int, size: int) -> None:
        self.restarts: list[int] = []
        self._wrap = 2**32 * tick
        self._size = size
        self.forget_all()

    def forget(self, key: int) -> None:
        self._last[key] = None

    def forget_all(self) -> None:
        self._last: list[int | None] = [None] * self._size  # the counter of the last sample, as it came
        self._base = [0] * self._size  # what makes of it monotonic ns, wraps included
        self._arrival = [0] * self._size

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        assert time is not None
        return _by_key(time, keys, lambda k, t: self._of_one(k, t, arrival), lambda k, t: self._of_row(k, t, arrival))

    def _is_wrap(self, key: int, step: int, arrival: int) -> bool:
        return 0 <= step + self._wrap <= arrival - self._arrival[key] + WRAP_SLACK_NS

    def _of_row(self, key: int, time: int, arrival: int) -> int:
        last = self._last[key]
        if last is None:
            self._base[key] = arrival - time
        elif time < last:
            if self._is_wrap(key, time - last, arrival):
                self._base[key] += self._wrap
            else:
                self._base[key] = arrival - time
                self.restarts.append(key)
        self._last[key] = time
        self._arrival[key] = arrival
        return time + self._base[key]

    def _of_one(self, key: int, time: Times, arrival: int) -> tuple[Times, NDArray[np.bool_] | None]:
        last = self._last[key]
        if last is None:
            self._arrival[key] = arrival
        steps = np.diff(time, prepend=time[0] if last is None else last)
        begin = -1
        wraps = np.zeros(len(time), np.int64)
        for i in np.flatnonzero(steps < 0).tolist():
            if self._is_wrap(key, int(steps[i]), arrival):
                wraps[i] = self._wrap
            else:
                begin = i
                wraps[: i + 1] = 0
        counter = time + np.cumsum(wraps)
        if last is None or begin >= 0:
            self._base[key] = arrival - int(counter[-1])
        if begin >= 0:
            self.restarts.append(key)
        out = counter + self._base[key]
        self._base[key] += int(wraps.sum())
        self._last[key] = int(time[-1])
        self._arrival[key] = arrival
        if begin <= 0:
            return out, None
        return out, np.arange(len(time)) >= begin


def _of_kept(keys: NDArray[np.int32] | int, kept: NDArray[np.bool_]) -> NDArray[np.int32] | int:
    return keys if isinstance(keys, int) else keys[kept]
