"""The three ways in which a row gets its time: by arrival, by its own UTC stamp, by the sensor's own counter.

Each remembers by key id what it needs of the samples before. The times of one key never decrease, within a block and
between blocks, until it restarts. `arrival` is monotonic ns.

Only rows that a broker sent again (DUP) may go back: those not newer than the last of their key are `seen`, keep the time
that they came with, and change nothing here. Whether they are wanted twice is for the pipelines to say: a window must not
have them twice, an input without one is answered again, and only a row that comes for the first time can be late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edged.records import Times

WRAP_SLACK_NS = 60 * 10**9
"""How much longer than by our clock a sensor's time may have run across a wrap; a reboot near the wrap exceeds it."""


LEAP_NS = 86_400 * 10**9
"""A stamp that is so much further ahead than time has passed may be wrong, and is not believed against the next ones."""
NEVER = -(2**63)


class Clock(Protocol):
    """What gives rows their times. `restarts` collects the keys that start again, until a block takes them along."""

    restarts: list[int]

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        """The time of each row, and which rows may stay (None: all)."""

    def seen(self, time: Times, keys: NDArray[np.int32] | int) -> tuple[NDArray[np.bool_], Times] | None:
        """Of rows that may have come before: which are not newer than the last of their key, and those rows' times, without
        remembering any; None: times on arrival do not tell."""

    def forget(self, key: int) -> None: ...

    def forget_all(self) -> None: ...


class Arrival:
    """The last sample of a read has the arrival time, earlier ones of its key are spaced by the period.

    Where that would reach back before the key's last read, they are spread evenly over the time since then.
    """

    def __init__(self, period: float | None, size: int) -> None:
        self.restarts: list[int] = []
        self._period = period
        self._last = np.zeros(size, np.int64)  # monotonic ns: nothing arrived before 0

    def seen(self, time: Times, keys: NDArray[np.int32] | int) -> None:
        return None

    def forget(self, key: int) -> None:
        self._last[key] = 0

    def forget_all(self) -> None:
        self._last[:] = 0

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        stamps = self.stamps(count, keys, arrival)
        return np.full(count, stamps, np.int64) if isinstance(stamps, int) else stamps, None

    def stamps(self, count: int, keys: NDArray[np.int32] | int, arrival: int) -> Times | int:
        """The time of each row, or of all."""
        if self._period is None or count == 1:
            if self._period is not None:
                self._last[keys] = arrival
            return arrival
        if isinstance(keys, int):
            step = min(self._period, (arrival - int(self._last[keys])) / count)
            self._last[keys] = arrival
            return arrival - (np.arange(count - 1, -1, -1) * step).astype(np.int64)
        of_key = np.bincount(keys)
        if int(of_key.max()) == 1:
            self._last[keys] = arrival
            return arrival
        step_of_key = np.minimum(self._period, (arrival - self._last[: len(of_key)]) / np.maximum(of_key, 1))
        back = np.empty(count, np.int64)  # how many rows of the same key follow in this block
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum(of_key)
        back[order] = (ends - 1)[keys[order]] - np.arange(count)
        self._last[keys] = arrival
        return arrival - (back * step_of_key[keys]).astype(np.int64)


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


def _of_rows(by_key: list[int], keys: NDArray[np.int32] | int, count: int) -> Times:
    return np.array([by_key[key] for key in ([keys] * count if isinstance(keys, int) else keys.tolist())], np.int64)


class Utc:
    """The sample's own UTC stamp. Older than the last of its key: late. Equal ones are spread by the period, if known.

    One stamp of 2094 would make all that follow late. So the last one may turn out to have been wrong: it leapt ahead, and the
    next one goes on from before the leap. The key starts again with that.
    """

    def __init__(self, period: float | None, size: int) -> None:
        self.restarts: list[int] = []
        self._period = period
        self._size = size
        self.forget_all()

    def forget(self, key: int) -> None:
        self._last[key] = self._out[key] = NEVER
        self._equal[key] = 0
        self._before[key] = None

    def forget_all(self) -> None:
        self._last = [NEVER] * self._size  # stamp of the last sample, as it came
        self._out = [NEVER] * self._size  # and as it went
        self._equal = [0] * self._size  # samples with that very stamp before it
        self._arrival = [0] * self._size  # when it came
        self._before: list[int | None] = [None] * self._size  # where it leapt ahead: the stamp before it

    def seen(self, time: Times, keys: NDArray[np.int32] | int) -> tuple[NDArray[np.bool_], Times]:
        return time <= _of_rows(self._last, keys, len(time)), time

    def times(
        self, time: Times | None, count: int, keys: NDArray[np.int32] | int, arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None]:
        assert time is not None
        return _by_key(time, keys, lambda k, t: self._of_one(k, t, arrival), lambda k, t: self._of_row(k, t, arrival))

    def _take_back(self, key: int, time: int) -> int:
        """The last stamp of a key, or none where the next one shows that it was wrong."""
        before, last = self._before[key], self._last[key]
        if before is not None and before <= time < last - LEAP_NS:
            self.forget(key)
            self.restarts.append(key)
            return NEVER
        return last

    def _go_on(self, key: int, stamps: Times, last: int, arrival: int) -> None:
        self._remember(key, int(stamps[-2]) if len(stamps) > 1 else last, int(stamps[-1]), arrival)

    def _remember(self, key: int, last: int, time: int, arrival: int) -> None:
        """`time` is the newest stamp of a key now, and `last` was before it."""
        leap = time - last - (arrival - self._arrival[key])
        self._before[key] = last if leap > LEAP_NS and last != NEVER else None
        self._arrival[key] = arrival

    def _of_row(self, key: int, time: int, arrival: int) -> int | None:
        last = self._take_back(key, time)
        if time > last:
            self._last[key] = time
            self._equal[key] = 0
            self._remember(key, last, time, arrival)
        elif time < last:
            return None
        elif self._period is not None:
            self._equal[key] += 1
            time += round(self._equal[key] * self._period)
        out = self._out[key] = max(time, self._out[key])
        return out

    def _of_one(self, key: int, time: Times, arrival: int) -> tuple[Times, NDArray[np.bool_] | None]:
        last = self._take_back(key, int(time[0]))
        if int(time[0]) > last and (time[1:] > time[:-1]).all() and int(time[0]) >= self._out[key]:
            self._last[key] = self._out[key] = int(time[-1])
            self._equal[key] = 0
            self._go_on(key, time, last, arrival)
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
        if self._last[key] > last:
            self._go_on(key, stamps, last, arrival)
        if kept.all():
            return out, None
        spread = time.copy()
        spread[kept] = out
        return spread, kept


class Elapsed:
    """The sensor's own counter, unwrapped at 2^32 of its unit and anchored so that its first samples arrived when they did.

    A jump back that is no wrap is a sensor that started over: it is anchored again, and its key restarts. Rows before the
    jump in the same read go: a block can begin a key again only at its beginning.
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

    def seen(self, time: Times, keys: NDArray[np.int32] | int) -> tuple[NDArray[np.bool_], Times]:
        last = _of_rows([-1 if t is None else t for t in self._last], keys, len(time))
        behind = (last - time) % self._wrap  # of a row from before a wrap as well
        return (last >= 0) & (behind < self._wrap // 2), last - behind + _of_rows(self._base, keys, len(time))

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
