"""The rows of one pipeline that wait for its model: the bound of its queue, and the policy when it is full.

Owns the preallocated arrays (`rows[input][slot, *shape]`), the free list and the order of arrival. Knows nothing of
models, windows or results. Every removal keeps the order of what stays, so each key stays in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.records import Carried, Receipt, Slot
from edged.telemetry import Drops


class Slots:
    """`count` rows for each model input. `put` takes one for a window, `put_many` for the rows of a block.

    `overflow` is `drop_oldest`, `drop_newest`, `latest_only` or `block`; under `block` the caller asks `free` first and
    never puts more.
    """

    def __init__(self, count: int, inputs: Mapping[str, tuple[tuple[int, ...], DTypeLike]], overflow: str, drops: Drops) -> None:
        # Written, not only allocated: untouched pages are not resident, and the plan charges them.
        self.rows: dict[str, NDArray[Any]] = {name: np.full((count, *shape), 0, dtype) for name, (shape, dtype) in inputs.items()}
        self.count = count
        self.peak = 0
        self._overflow = overflow
        self._drops = drops
        self._free = list(range(count - 1, -1, -1))
        self._fifo: deque[Slot] = deque()

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.rows.values())

    @property
    def free(self) -> int:
        return len(self._free)

    def __len__(self) -> int:
        return len(self._fifo)

    def put(
        self, key: int, time: int, arrival: int, receipt: Receipt, degraded: bool, carried: bytes | None = None
    ) -> int | None:
        """Takes a row and returns its index for the caller to fill, or None when the policy refused the newcomer."""
        if self._free:
            row = self._free.pop()
        else:
            self._drops.add("overflow")
            if self._overflow == "drop_newest":
                return None
            if self._overflow == "latest_only" and (slot := self._waiting(key)) is not None:
                slot.receipt.done()
                receipt.hold()
                slot.time, slot.arrival, slot.receipt, slot.degraded, slot.carried = time, arrival, receipt, degraded, carried
                return slot.row
            loser = self._fifo.popleft()
            loser.receipt.done()
            row = loser.row
        receipt.hold()
        self._fifo.append(Slot(row, key, time, arrival, receipt, degraded, carried))
        if len(self._fifo) > self.peak:
            self.peak = len(self._fifo)
        return row

    def put_many(
        self,
        keys: Sequence[int],
        times: Sequence[int],
        arrival: int,
        receipts: Sequence[Receipt],
        degraded: Sequence[bool] | None,
        carried: Carried | None = None,
    ) -> Sequence[int | None]:
        """`put` for every row of a block: one index a row, None where the policy refused it. An index may come twice
        when a later row of the same block pushed an earlier one out; the later one is the right one."""
        free, count = self._free, len(keys)
        if len(free) < count:
            return [
                self.put(
                    keys[i],
                    times[i],
                    arrival,
                    receipts[i],
                    bool(degraded[i]) if degraded is not None else False,
                    carried[i] if carried is not None else None,
                )
                for i in range(count)
            ]
        taken = free[: -count - 1 : -1]
        del free[-count:]
        append = self._fifo.append
        for i, row in enumerate(taken):
            receipt = receipts[i]
            receipt.hold()
            is_degraded = degraded is not None and bool(degraded[i])
            append(Slot(row, keys[i], times[i], arrival, receipt, is_degraded, carried[i] if carried is not None else None))
        if len(self._fifo) > self.peak:
            self.peak = len(self._fifo)
        return taken

    def _waiting(self, key: int) -> Slot | None:
        """The newest slot of a key: what takes the place of an older one would overtake it."""
        return next((slot for slot in reversed(self._fifo) if slot.key == key), None)

    def take(self, limit: int) -> list[Slot]:
        """The oldest `limit` slots, which now wait no more; their rows stay theirs until `gather`."""
        fifo = self._fifo
        if len(fifo) <= limit:
            taken = list(fifo)
            fifo.clear()
            return taken
        popleft = fifo.popleft
        return [popleft() for _ in range(limit)]

    def take_fresh(self, limit: int, since: int) -> list[Slot]:
        """As `take`, without what arrived before `since` (monotonic ns): that is dropped on the way, as `expired`."""
        fifo, taken, late = self._fifo, list[Slot](), 0
        while fifo and len(taken) < limit:
            slot = fifo.popleft()
            if slot.arrival >= since:
                taken.append(slot)
                continue
            slot.receipt.done()
            self._free.append(slot.row)
            late += 1
        if late:
            self._drops.add("expired", late)
        return taken

    def gather(self, slots: Sequence[Slot], inputs: Mapping[str, NDArray[Any]], start: int) -> None:
        """Copies the rows of `slots` into `inputs[name][start : start + len(slots)]` and frees them."""
        indices = [slot.row for slot in slots]
        self._free.extend(indices)
        if len(indices) == 1:
            for name, rows in self.rows.items():
                inputs[name][start] = rows[indices[0]]
            return
        stop = start + len(indices)
        for name, rows in self.rows.items():
            np.take(rows, indices, axis=0, out=inputs[name][start:stop], mode="clip")  # "raise" would buffer the output

    def drop_key(self, key: int) -> None:
        """Lets the waiting slots of a key go, whose id now means another sensor."""
        kept = deque(slot for slot in self._fifo if slot.key != key)
        if len(kept) < len(self._fifo):
            self._drops.add("restart", len(self._fifo) - len(kept))
            for slot in self._fifo:
                if slot.key == key:
                    slot.receipt.done()
                    self._free.append(slot.row)
            self._fifo = kept

    def drop_row(self, row: int) -> None:
        """Lets the waiting slot of a row go that could not be filled."""
        slot = next(slot for slot in reversed(self._fifo) if slot.row == row)
        self._fifo.remove(slot)
        slot.receipt.done()
        self._free.append(row)

    def supersede(self, receipts: AbstractSet[Receipt]) -> int:
        """Lets the waiting slots of these inputs go, since the inputs come again; returns how many there were."""
        kept = deque(slot for slot in self._fifo if slot.receipt not in receipts)
        lost = len(self._fifo) - len(kept)
        if lost:
            self._free.extend(slot.row for slot in self._fifo if slot.receipt in receipts)
            self._fifo = kept
        return lost

    def forget(self, settles: bool = True) -> int:
        """Lets every waiting slot go, and its receipt if it `settles` them; returns how many there were."""
        lost = len(self._fifo)
        for slot in self._fifo:
            if settles:
                slot.receipt.done()
            self._free.append(slot.row)
        self._fifo.clear()
        return lost
