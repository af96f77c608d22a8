"""Which sensors of a source are alive: when each last sent a good sample, and whether its values still change.

Sees every block before the pipelines do, and marks the rows of frozen sensors as degraded. Knows no clock: silence counts
from `Block.arrival` (monotonic ns), frozen values by the times of the samples, so that a recording gives the same results
every time. A pace that is learned changes states only, and no result.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.records import Block, Flags, Keys
from edged.sources.pace import NEVER, Paces


class Freshness:
    """Keys are 0 to `max_keys - 1`. `stale_ns` without a good sample: a key is silent (None: never, or, if it `learns`, as the
    pace of each tells). `frozen_ns` of time with the same values, bit by bit: it is frozen (None: never). `width` numbers of
    `dtype` are a row.

    A row in which a value was held or passed (`degraded`) is no good sample, and one that a broker had kept (`kept`) is no
    sign of life.
    """

    def __init__(
        self, stale_ns: int | None, frozen_ns: int | None, width: int, max_keys: int, dtype: DTypeLike, learns: bool = False
    ) -> None:
        self.stale_ns = stale_ns
        self.frozen_ns = frozen_ns
        self._last_good = array("q", [0]) * max_keys  # one number is sooner put into it than into numpy's
        self.last_good = np.frombuffer(self._last_good, np.int64)
        """Arrival of the last good sample of each key, 0 before the first."""
        self.is_frozen = np.zeros(max_keys, np.bool_)
        self.is_expected = np.zeros(max_keys, np.bool_)
        """Keys that must be there, heard or not: those that the configuration names."""
        self.renewed: set[int] = set()
        """Keys that started again, which may mean that they are other sensors now; emptied by whoever asks."""
        self._paces = Paces(max_keys) if learns else None
        self._has_seen = False
        kept = max_keys if frozen_ns is not None else 0
        self._bits = f"i{np.dtype(dtype).itemsize}"
        self._last = np.full((kept, width), 0, self._bits)  # written, so that its pages are resident from the start
        self._changed_at = np.zeros(kept, np.int64)
        self._is_known = np.zeros(kept, np.bool_)

    def expect(self, key: int) -> None:
        """A key that must be there."""
        self.is_expected[key] = True

    @property
    def nbytes(self) -> int:
        arrays = (self.last_good, self.is_frozen, self.is_expected, self._last, self._changed_at, self._is_known)
        return sum(array.nbytes for array in arrays) + (self._paces.nbytes if self._paces is not None else 0)

    @property
    def limit(self) -> int | None:
        """How long the source as a whole may be silent, ns: as configured, or as long as the slowest key of a known pace."""
        if self._paces is None:
            return self.stale_ns
        return self._paces.longest if self._paces.longest < NEVER else None

    @property
    def is_judged(self) -> Flags:
        """Of which keys it can be told that they are silent or frozen."""
        if self._paces is not None and self.frozen_ns is None:
            return self._paces.limits < NEVER
        return np.full(len(self.last_good), True)

    def see(self, block: Block) -> None:
        """Takes a block in; marks those of its rows that repeat old values."""
        self._has_seen = True
        for key in block.restarts:
            self._forget(key)
        keys, degraded = block.keys, block.degraded
        if degraded is None and block.kept is None and isinstance(keys, int):
            self._last_good[keys] = block.arrival
            if self._paces is not None:
                self._paces.see(keys, block.arrival)
        else:
            self._see_signs(block)
        if self.frozen_ns is not None:
            is_frozen = self._frozen(block, self.frozen_ns)
            if is_frozen is not None:
                block.degraded = is_frozen if degraded is None else degraded | is_frozen

    def _see_signs(self, block: Block) -> None:
        """The same for several keys, or where some rows are no sign that their sensor lives."""
        keys, degraded = block.keys, block.degraded
        no_sign = degraded if block.kept is None else block.kept if degraded is None else degraded | block.kept
        if self._paces is not None:
            self._learn(self._paces, keys, no_sign, block.arrival)
        if no_sign is None:
            self.last_good[keys] = block.arrival
        elif not isinstance(keys, int):
            self.last_good[keys[~no_sign]] = block.arrival
        elif not no_sign.all():
            self.last_good[keys] = block.arrival

    def is_online(self, now: int) -> Flags:
        """Which keys are neither silent nor frozen; those that never sent anything good are not."""
        online = (self.last_good > 0) & ~self.is_frozen
        if self.stale_ns is not None:
            online &= now - self.last_good <= self.stale_ns
        elif self._paces is not None:
            online &= now - self.last_good <= self._paces.limits
        return online

    def state(self, now: int, heard: int = 0, opened: int = 0) -> tuple[str, str]:
        """`running`, `silent`, `bad values` or `frozen`, with a reason, for a source that something comes from: what holds for
        all of its keys. `heard`: when anything last came from it, good or bad; `opened`: since when it could."""
        if len(self.last_good) == 1 and self._is_well(now):
            return "running", ""
        known = self.last_good > 0
        if not known.any():
            return ("bad values", "no good sample yet") if self._has_seen else ("running", "")
        limit = self.limit
        if limit is not None and self._paces is not None and heard and (quiet := now - max(heard, opened)) > limit:
            learned = f"its learned pace allows {limit / 1e9:.3g} s at most"
            return "silent", f"nothing has come in for {quiet / 1e9:.0f} s, and {learned}"
        quiet = now - max(int(self.last_good.max()), opened)
        if limit is not None and quiet > limit:
            return "bad values", f"no good sample for {quiet / 1e9:.0f} s: see its drop counts"
        count, online = int(np.count_nonzero(known | self.is_expected)), int(np.count_nonzero(self.is_online(now)))
        if not online and (known & self.is_frozen).any():
            frozen = f"for more than {(self.frozen_ns or 0) / 1e9:g} s"
            return "frozen", f"the same values {frozen}" + (f" from all {count} keys" if count > 1 else "")
        return "running", f"{count - online} of {count} keys are silent or frozen" if online < count else ""

    def _is_well(self, now: int) -> bool:
        """Whether the only key is online: each source of one sensor is asked each second, and arrays take ten times as long."""
        last, limit = self.last_good.item(0), self.limit
        return last > 0 and not self.is_frozen.item(0) and (limit is None or now - last <= limit)

    def touch(self, keys: Keys | int, arrival: int) -> None:
        """Samples that were left out undecoded, since there were enough: their sensors live."""
        self._has_seen = True
        self.last_good[keys] = arrival
        if self._paces is not None:
            self._learn(self._paces, keys, None, arrival)

    @staticmethod
    def _learn(paces: Paces, keys: Keys | int, no_sign: Flags | None, arrival: int) -> None:
        if isinstance(keys, int):
            if no_sign is None or not no_sign.all():
                paces.see(keys, arrival)
            return
        for key in set((keys if no_sign is None else keys[~no_sign]).tolist()):
            paces.see(key, arrival)

    def _forget(self, key: int) -> None:
        self.renewed.add(key)
        if self._paces is not None:
            self._paces.forget(key)
        self.last_good[key] = 0
        self.is_frozen[key] = False
        if self.frozen_ns is not None:
            self._is_known[key] = False

    def _frozen(self, block: Block, limit: int) -> Flags | None:
        """Which rows came when their key's values had been the same for longer than `limit`; None if none did."""
        count = len(block)
        rows: NDArray[np.intp] = np.arange(count)
        order, keys = rows, np.full(count, block.keys) if isinstance(block.keys, int) else block.keys
        if not isinstance(block.keys, int):
            order = np.argsort(keys, kind="stable")
        keys, times = keys[order], block.time[order]
        values = np.ascontiguousarray(block.values[order]).view(self._bits)
        is_first = np.ones(count, np.bool_)  # row of its key in this block
        is_first[1:] = keys[1:] != keys[:-1]
        before = np.empty_like(values)
        before[1:] = values[:-1]
        before[is_first] = self._last[keys[is_first]]
        is_new = (values != before).any(axis=1) | (is_first & ~self._is_known[keys])
        # The row that each row's key last changed with, else its first one here, which knows since when.
        latest = np.maximum.accumulate(np.where(is_new | is_first, rows, 0))
        changed_at = np.where(is_new, times, self._changed_at[keys])[latest]
        is_frozen = times - changed_at > limit
        is_last = np.ones(count, np.bool_)
        is_last[:-1] = is_first[1:]
        ends = keys[is_last]
        self._last[ends] = values[is_last]
        self._changed_at[ends] = changed_at[is_last]
        self._is_known[ends] = True
        self.is_frozen[ends] = is_frozen[is_last]
        if not is_frozen.any():
            return None
        found = np.empty(count, np.bool_)
        found[order] = is_frozen
        return found
