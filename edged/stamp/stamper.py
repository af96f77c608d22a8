"""Decoded rows become a block: each row gets its time and its key, each refused one a reason.

Knows no clock of its own; `arrival` (monotonic ns) and UTC come in as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edged.decode.refusals import Refusals
from edged.records import ON_ARRIVAL, Block, Carried, Receipt, Reject, Rows, Times
from edged.stamp.clocks import Arrival, Clock, Elapsed, Utc
from edged.stamp.keys import UNFIT, KeyTable
from edged.stamp.lateness import Lateness, Waiting
from edged.stamp.thinning import THINNED, Thinning

T = TypeVar("T")

FUTURE_NS = 60 * 10**9
"""A time further ahead of a synchronized clock is no time."""

TICKS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
SECONDS_PER_YEAR = 31_556_952


class Stamper:
    """Makes the blocks of one source.

    `time_format` is `decode.time.format`, None to stamp on arrival; `rate` the expected samples per second of one key.
    Rows with UTC stamps give a block in UTC (`offset` 0). All others are on the monotonic clock, with the offset to UTC:
    stamped on arrival, or by the sensor's own counter, anchored at the arrival of its first samples. `thinning` leaves out rows,
    `lateness` makes them wait.
    """

    def __init__(
        self,
        time_format: str | None,
        rate: float | None,
        keys: KeyTable | None,
        thinning: Thinning | None = None,
        lateness: Lateness | None = None,
    ) -> None:
        self.lateness = lateness
        self._thinning = thinning
        self._format = time_format
        self._keys = keys
        size = keys.max_keys if keys is not None else 1
        period = 1e9 / rate if rate else None
        self._is_utc = time_format is not None and not time_format.startswith("elapsed_")
        self._clock: Clock
        self._arrival: Arrival | None = None  # the same clock, where nothing but the arrival matters
        if time_format is None:
            arrival = self._clock = Arrival(period, size)
            self._arrival = arrival if thinning is None else None
        elif self._is_utc:
            self._clock = Utc(period, size)
        else:
            self._clock = Elapsed(TICKS_NS[time_format.removeprefix("elapsed_")], size)

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

        `key_ids`: one a row (None, UNFIT: the table refused it) or one for all; None: from `rows.keys`, if the stream is keyed.
        `receipts`: one a payload, or one for all; the block has one a row, or that one for all.
        """
        refusals = Refusals(is_one=len(receipts) == 1)
        batch = _Batch(rows, now_utc if self._is_utc else None)
        keys: NDArray[np.int32] | int = 0
        if batch.count and self._keys is not None:
            keys = self._ids(batch, key_ids, arrival, refusals)
            self._take_recycled()
        if batch.count and self._is_utc and is_synced:
            keys = self._drop_future(batch, keys, now_utc, refusals)
        if self.lateness is not None:
            return self._wait(self.lateness, batch, keys, rows.carried, receipts, arrival, refusals)
        return self._made(batch, keys, rows.carried, receipts, arrival, utc_offset, refusals)

    def release(self, now: int | None) -> tuple[Block | None, list[Reject]]:
        """The block of the samples that have waited until now (None: of all that wait), and the rows refused here."""
        assert self.lateness is not None
        return self._left(self.lateness.due(now), Refusals(is_one=False))

    def _wait(
        self,
        lateness: Lateness,
        batch: _Batch,
        keys: NDArray[np.int32] | int,
        carried: Carried | None,
        receipts: Sequence[Receipt],
        arrival: int,
        refusals: Refusals,
    ) -> tuple[Block | None, list[Reject]]:
        """The block of what was due before these rows came; they wait."""
        left = lateness.due(arrival)
        if batch.count:
            assert batch.time is not None
            texts = None if carried is None else batch.of_each(carried)
            texts = [*texts] * batch.count if texts is not None and len(texts) != batch.count else texts
            left += lateness.add(batch.values, batch.time, keys, batch.degraded, batch.of_each(receipts), texts, arrival)
        return self._left(left, refusals)

    def _left(self, left: Sequence[Waiting], refusals: Refusals) -> tuple[Block | None, list[Reject]]:
        if not left:
            return None, refusals.records
        flags = np.array([one.degraded for one in left])
        rows = Rows(
            np.array([one.values for one in left]),
            np.array([one.time for one in left], np.int64),
            degraded=flags if flags.any() else None,
        )
        keys: NDArray[np.int32] | int = 0 if self._keys is None else np.array([one.key for one in left], np.int32)
        carried = [one.carried for one in left] if any(one.carried is not None for one in left) else None
        receipts = [one.receipt for one in left]
        oldest = min(one.arrival for one in left)  # no result says that it is younger than it is
        return self._made(_Batch(rows, None), keys, carried, receipts, oldest, 0, refusals)

    def _made(
        self,
        batch: _Batch,
        keys: NDArray[np.int32] | int,
        of_payloads: Carried | None,
        receipts: Sequence[Receipt],
        arrival: int,
        utc_offset: int,
        refusals: Refusals,
    ) -> tuple[Block | None, list[Reject]]:
        """The block of rows whose keys are known, and of which none is in the future."""
        if not batch.count:
            return None, refusals.records
        times, kept, seen = self._times(batch, keys, receipts, arrival)
        if kept is not None:
            self._refuse(batch, np.flatnonzero(~kept), "late", lambda i: self._late(keys, i), refusals)
            batch.keep(kept)
            times, keys = times[kept], _of_kept(keys, kept)
            seen = None if seen is None else seen[kept]
            if not batch.count:
                return None, refusals.records
        if self._thinning is not None:
            taken = self._thinning.kept(times, keys)
            if not taken.all():
                self._thinning.on_thinned(_of_kept(keys, ~taken), arrival)
            self._refuse(batch, np.flatnonzero(~taken), THINNED, lambda row: "", refusals)
            batch.keep(taken)
            times, keys = times[taken], _of_kept(keys, taken)
            seen = None if seen is None else seen[taken]
            if not batch.count:
                return None, refusals.records
        restarts: tuple[int, ...] = ()
        if self._clock.restarts:  # also of earlier calls, all of whose rows were refused
            restarts = tuple(dict.fromkeys(self._clock.restarts))
            self._clock.restarts.clear()
        offset = 0 if self._is_utc else utc_offset
        receipts, carried = batch.of_each(receipts), None
        if of_payloads is not None:
            carried = batch.of_each(of_payloads)
            carried = carried if len(carried) == batch.count else [*carried] * batch.count
        return Block(
            batch.values, times, offset, arrival, keys, receipts, batch.degraded, restarts, carried, seen
        ), refusals.records

    def stamp_plain(
        self,
        rows: Rows,
        key_ids: int | Sequence[int | None] | None,
        receipts: Sequence[Receipt],
        arrival: int,
        utc_offset: int,
    ) -> Block | None:
        """The same for rows that are stamped on arrival, where nothing is to be refused and no key starts again; else None, and
        nothing has happened."""
        if self._arrival is None or self._arrival.restarts or rows.payload is not None:
            return None
        keys: NDArray[np.int32] | int = 0
        if self._keys is not None:
            if self._keys.recycled or not isinstance(key_ids, list) or None in key_ids or UNFIT in key_ids:
                return None
            keys = key_ids[0] if len(key_ids) == 1 else np.array(key_ids, np.int32)
        stamps = self._arrival.stamps(len(rows.values), keys, arrival)
        return Block(rows.values, stamps, utc_offset, arrival, keys, receipts, rows.degraded, (), rows.carried)

    def _times(
        self, batch: _Batch, keys: NDArray[np.int32] | int, receipts: Sequence[Receipt], arrival: int
    ) -> tuple[Times, NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
        """The time of each row, which rows may stay, and which were seen before (None: all, none). The clock hears only of
        rows that were not."""
        if batch.time is not None and any(receipt.is_again for receipt in receipts):
            again = np.array([receipt.is_again for receipt in batch.of_each(receipts)])
            found = self._clock.seen(batch.time, keys)
            if found is not None and (seen := again & found[0]).any():
                times, kept, new = found[1].copy(), np.ones(batch.count, np.bool_), ~seen
                if count := int(np.count_nonzero(new)):
                    times[new], fit = self._clock.times(batch.time[new], count, _of_kept(keys, new), arrival)
                    kept[new] = True if fit is None else fit
                return times, None if kept.all() else kept, seen
        return *self._clock.times(batch.time, batch.count, keys, arrival), None

    def reset(self) -> None:
        """The port was opened again: counters of the sensor may have started again."""
        self._clock.forget_all()

    def _take_recycled(self) -> None:
        assert self._keys is not None
        for key in self._keys.recycled:
            self._clock.forget(key)
            if self._thinning is not None:
                self._thinning.forget(key)
        # Each once: while all rows are refused no block takes them along, and there are no more than keys.
        self._clock.restarts += [key for key in self._keys.recycled if key not in self._clock.restarts]
        self._keys.recycled.clear()

    def _ids(
        self, batch: _Batch, key_ids: int | Sequence[int | None] | None, arrival: int, refusals: Refusals
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
        if None not in key_ids and UNFIT not in key_ids:
            return np.array(key_ids, np.int32)
        is_taken = np.array([key is not None and key != UNFIT for key in key_ids])

        def shown(row: int) -> str:
            return "" if names is None else " " + repr("/".join(names[row])[:64])

        too_many = np.array([i for i, key in enumerate(key_ids) if key is None], np.intp)
        unfit = np.array([i for i, key in enumerate(key_ids) if key == UNFIT], np.intp)
        self._refuse(batch, too_many, "too_many_keys", lambda row: self._too_many(shown(row)), refusals)
        self._refuse(batch, unfit, "bad_key", lambda row: _unfit(shown(row)), refusals)
        batch.keep(is_taken)
        return np.array([key for key, taken in zip(key_ids, is_taken.tolist(), strict=True) if taken], np.int32)

    @staticmethod
    def _refuse(batch: _Batch, rows: NDArray[np.intp], reason: str, detail: Callable[[int], str], refusals: Refusals) -> None:
        def words(i: int) -> Reject:
            row = rows.item(i)
            return Reject(reason, detail(row), payload=batch.payload_of(row))

        refusals.add_all([batch.payload_of(row) for row in rows.tolist()], words)

    def _too_many(self, shown: str) -> str:
        assert self._keys is not None
        return f"new key{shown}: all {self._keys.max_keys} keys are in use and none is stale: raise max_keys"

    def _drop_future(
        self, batch: _Batch, keys: NDArray[np.int32] | int, now_utc: int, refusals: Refusals
    ) -> NDArray[np.int32] | int:
        assert batch.time is not None
        limit = now_utc + FUTURE_NS
        if int(batch.time.max()) <= limit:
            return keys
        kept = batch.time <= limit
        times, format = batch.time, self._format or ""

        def detail(row: int) -> str:
            return future_detail(times.item(row), format, now_utc, self._name(keys, row))

        self._refuse(batch, np.flatnonzero(~kept), "future", detail, refusals)
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


def _unfit(shown: str) -> str:
    return f"key{shown}: a control character or a non-character cannot stand in a topic: brokers end the connection over it"


def future_detail(time: int, time_format: str, now_utc: int, key: str = "") -> str:
    """Why a time (UTC ns, as read in `time_format`) is no time; names the unit in which it would be now, within a day."""
    whose = f"time of {key}" if key else "time"
    year, this_year = (1970 + ns // 10**9 // SECONDS_PER_YEAR for ns in (time, now_utc))
    if year > this_year:
        text = f"{whose} is in the year {year}"
    else:
        text = f"{whose} is {(time - now_utc) // 10**9} s ahead of the clock, which is synchronized"
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

    __slots__ = ("_payload", "count", "degraded", "keys", "time", "values")

    def __init__(self, rows: Rows, now_utc: int | None) -> None:
        self.values = rows.values
        self.count = len(rows.values)
        self.time = rows.time
        if rows.time is not None and now_utc is not None and (unknown := rows.time == ON_ARRIVAL).any():
            self.time = np.where(unknown, now_utc, rows.time)
        self.keys = rows.keys
        self.degraded = rows.degraded
        self._payload = rows.payload

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

    def of_each(self, of_payloads: Sequence[T]) -> Sequence[T]:
        """What belongs to the payload of each row; one for all stays one."""
        if self._payload is None or len(of_payloads) == 1:
            return of_payloads
        return [of_payloads[i] for i in self._payload.tolist()]


def _of_kept(keys: NDArray[np.int32] | int, kept: NDArray[np.bool_]) -> NDArray[np.int32] | int:
    return keys if isinstance(keys, int) else keys[kept]
