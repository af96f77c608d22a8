"""The rows of one pipeline that wait for its model: the bound of its queue, and the policy when it is full.

Owns the preallocated arrays (`rows[input][slot, *shape]`), the free list and the order of arrival. Knows nothing of
models, windows or results. Every removal keeps the order of what stays, so each key stays in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.records import Carried, Receipt, Slot
from edged.telemetry import Drops

GAVE_WAY = "newer input evicted it: more comes in than the model can take"
TOO_OLD = "it is older than the deadline of its pipeline"
GATED = "the gate of its pipeline is closed"


class Slots:
    """`count` rows for each model input. `put` takes one for a window, `put_many` for the rows of a block.

    `overflow` is `drop_oldest`, `drop_newest`, `latest_only` or `block`; under `block` the caller asks `free` first and
    never puts more. `is_by_key`: a batch has at most one slot of a key, since the next one needs what becomes of it.
    """

    def __init__(
        self,
        count: int,
        inputs: Mapping[str, tuple[tuple[int, ...], DTypeLike]],
        overflow: str,
        drops: Drops,
        is_by_key: bool = False,
    ) -> None:
        # Written, not only allocated: untouched pages are not resident, and the plan charges them.
        self.rows: dict[str, NDArray[Any]] = {name: np.full((count, *shape), 0, dtype) for name, (shape, dtype) in inputs.items()}
        self.count = count
        self.peak = 0
        self._overflow = overflow
        self._drops = drops
        self._free = list(range(count - 1, -1, -1))
        self.waiting: deque[Slot] = deque()
        """What is known of the rows that wait, in their order: to be looked at."""
        self._is_by_key = is_by_key
        self._in_batch: set[int] = set()  # keys taken since the last `gather`
        self._has_undecided = False  # whether some of what waits may not be taken yet: its gate has to speak first

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.rows.values())

    def close(self) -> None:
        """Nothing waits here any more, and nothing comes: lets go of the arrays."""
        self.rows = {}

    @property
    def free(self) -> int:
        return len(self._free)

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def ready(self) -> int:
        """Those of them that may be taken."""
        return sum(slot.is_open for slot in self.waiting) if self._has_undecided else len(self.waiting)

    @property
    def oldest(self) -> int | None:
        """Arrival of the oldest that waits. (`latest_only` puts newer ones into the places of older ones.)"""
        return min((slot.arrival for slot in self.waiting), default=None)

    def put(
        self,
        key: int,
        time: int,
        arrival: int,
        receipt: Receipt,
        degraded: bool,
        carried: bytes | None = None,
        stretch: int = 0,
        is_open: bool = True,
    ) -> int | None:
        """Takes a row and returns its index for the caller to fill, or None when the policy refused the newcomer. Not `is_open`:
        it is not to be taken before `judge` says so."""
        self._has_undecided |= not is_open
        if self._free:
            row = self._free.pop()
        else:
            self._drops.add("overflow")
            if self._overflow == "drop_newest":
                return None
            if self._overflow == "latest_only" and (slot := self._newest_of(key, is_open)) is not None:
                slot.receipt.fail("overflow", GAVE_WAY)
                slot.receipt.done()
                receipt.hold()
                slot.time, slot.arrival, slot.receipt, slot.degraded, slot.carried = time, arrival, receipt, degraded, carried
                slot.stretch = stretch
                return slot.row
            loser = self.waiting.popleft()
            loser.receipt.fail("overflow", GAVE_WAY)
            loser.receipt.done()
            row = loser.row
        receipt.hold()
        self.waiting.append(Slot(row, key, time, arrival, receipt, degraded, carried, stretch, is_open))
        if len(self.waiting) > self.peak:
            self.peak = len(self.waiting)
        return row

    def put_many(
        self,
        keys: Sequence[int],
        times: Sequence[int],
        arrival: int,
        receipts: Sequence[Receipt],
        degraded: Sequence[bool] | None,
        carried: Carried | None = None,
        stretches: Sequence[int] | None = None,
        are_open: Sequence[bool] | None = None,
    ) -> Sequence[int | None]:
        """`put` for every row of a block: one index a row, None where the policy refused it. An index may come twice
        when a later row of the same block pushed an earlier one out; the later one is the right one."""
        free, count = self._free, len(keys)
        if len(free) < count or are_open is not None:
            return [
                self.put(
                    keys[i],
                    times[i],
                    arrival,
                    receipts[i],
                    bool(degraded[i]) if degraded is not None else False,
                    carried[i] if carried is not None else None,
                    stretches[i] if stretches is not None else 0,
                    are_open[i] if are_open is not None else True,
                )
                for i in range(count)
            ]
        taken = free[: -count - 1 : -1]
        del free[len(free) - count :]
        append = self.waiting.append
        for i, row in enumerate(taken):
            receipt = receipts[i]
            receipt.hold()
            is_degraded = degraded is not None and bool(degraded[i])
            slot = Slot(row, keys[i], times[i], arrival, receipt, is_degraded, carried[i] if carried is not None else None)
            if stretches is not None:
                slot.stretch = stretches[i]
            append(slot)
        if len(self.waiting) > self.peak:
            self.peak = len(self.waiting)
        return taken

    def _newest_of(self, key: int, is_open: bool) -> Slot | None:
        """The newest slot of a key: what takes the place of an older one would overtake it. What may yet be refused takes the
        place of none that may run."""
        newest = next((slot for slot in reversed(self.waiting) if slot.key == key), None)
        return newest if newest is None or newest.is_open is is_open else None

    def judge(self, verdict: Callable[[Slot], bool | None], until: int) -> tuple[int, int]:
        """Asks of every slot that is undecided and came no later than `until` whether it may be taken (None: not known yet); lets
        those go that may not. Returns how many were opened, and how many went."""
        opened, refused, is_left = 0, list[Slot](), False
        for slot in self.waiting if self._has_undecided else ():
            if slot.is_open:
                continue
            answer = verdict(slot) if slot.arrival <= until else None
            if answer is None:
                is_left = True
            elif answer:
                slot.is_open = True
                opened += 1
            else:
                refused.append(slot)
        self._has_undecided = is_left
        if refused:
            gone = set(map(id, refused))
            self.waiting = deque(slot for slot in self.waiting if id(slot) not in gone)
            self._free.extend(slot.row for slot in refused)
            for slot in refused:
                slot.receipt.fail("gated", GATED)
                slot.receipt.done()
        return opened, len(refused)

    def take(self, limit: int) -> list[Slot]:
        """The oldest `limit` slots, which now wait no more; their rows stay theirs until `gather`."""
        fifo = self.waiting
        if self._is_by_key or self._has_undecided:
            return self._take_some(limit)
        if len(fifo) <= limit:
            taken = list(fifo)
            fifo.clear()
            return taken
        popleft = fifo.popleft
        return [popleft() for _ in range(limit)]

    def take_fresh(self, limit: int, since: int) -> list[Slot]:
        """As `take`, without what arrived before `since` (monotonic ns): that is dropped on the way, as `expired`."""
        if self._is_by_key or self._has_undecided:
            return self._take_some(limit, since)
        fifo, taken, late = self.waiting, list[Slot](), 0
        while fifo and len(taken) < limit:
            slot = fifo.popleft()
            if slot.arrival >= since:
                taken.append(slot)
                continue
            self._expire(slot)
            late += 1
        if late:
            self._drops.add("expired", late)
        return taken

    def _take_some(self, limit: int, since: int = 0) -> list[Slot]:
        """Those that may be taken, by key only the oldest of each that is not in the batch yet; the others, and all that came
        after them of their keys, stay in their order."""
        fifo, keys, taken, passed, late = self.waiting, self._in_batch, list[Slot](), list[Slot](), 0
        held: set[int] = set()
        while fifo and len(taken) < limit:
            slot = fifo.popleft()
            if slot.arrival < since:
                self._expire(slot)
                late += 1
            elif not slot.is_open or slot.key in held or (self._is_by_key and slot.key in keys):
                passed.append(slot)
                held.add(slot.key)
            else:
                keys.add(slot.key)
                taken.append(slot)
        fifo.extendleft(reversed(passed))
        if late:
            self._drops.add("expired", late)
        return taken

    def _expire(self, slot: Slot) -> None:
        slot.receipt.fail("expired", TOO_OLD)
        slot.receipt.done()
        self._free.append(slot.row)

    def gather(self, slots: Sequence[Slot], inputs: Mapping[str, NDArray[Any]], start: int) -> None:
        """Copies the rows of `slots` into `inputs[name][start : start + len(slots)]` and frees them."""
        indices = [slot.row for slot in slots]
        self._free.extend(indices)
        self._in_batch.clear()
        if len(indices) == 1:
            for name, rows in self.rows.items():
                inputs[name][start] = rows[indices[0]]
            return
        stop = start + len(indices)
        for name, rows in self.rows.items():
            np.take(rows, indices, axis=0, out=inputs[name][start:stop], mode="clip")  # "raise" would buffer the output

    def drop_key(self, key: int) -> None:
        """Lets the waiting slots of a key go, whose id now means another sensor."""
        kept = deque(slot for slot in self.waiting if slot.key != key)
        if len(kept) < len(self.waiting):
            self._drops.add("restart", len(self.waiting) - len(kept))
            for slot in self.waiting:
                if slot.key == key:
                    slot.receipt.fail("restart", "another sensor took the place of its key")
                    slot.receipt.done()
                    self._free.append(slot.row)
            self.waiting = kept

    def drop_row(self, row: int) -> None:
        """Lets the waiting slot of a row go that could not be filled."""
        slot = next(slot for slot in reversed(self.waiting) if slot.row == row)
        self.waiting.remove(slot)
        slot.receipt.done()
        self._free.append(row)

    def supersede(self, receipts: AbstractSet[Receipt]) -> int:
        """Lets the waiting slots of these inputs go, since the inputs come again; returns how many there were."""
        kept = deque(slot for slot in self.waiting if slot.receipt not in receipts)
        lost = len(self.waiting) - len(kept)
        if lost:
            self._free.extend(slot.row for slot in self.waiting if slot.receipt in receipts)
            self.waiting = kept
        return lost

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        """Drops the waiting slots of these inputs: nobody wants their results any more."""
        late = [slot.receipt for slot in self.waiting if slot.receipt in receipts]
        if late:
            self._drops.add("expired", self.supersede(receipts))
        for receipt in late:
            receipt.done()

    def forget(self, settles: bool = True) -> int:
        """Lets every waiting slot go, and its receipt if it `settles` them; returns how many there were."""
        lost = len(self.waiting)
        for slot in self.waiting:
            if settles:
                slot.receipt.fail("memory", "memory is over the budget")
                slot.receipt.done()
            else:
                slot.receipt.fail("shutdown", "edged was stopped")
            self._free.append(slot.row)
        self.waiting.clear()
        return lost
