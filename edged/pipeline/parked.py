"""What is left of a block that waits in front of the rings, until there is room for what it completes.

It is taken in parts, and each part costs what it is: nothing is done once a row that is done once a message, or again for the
rows that stay.
"""

from __future__ import annotations

from collections import deque

from edged.records import Block, Receipt


class Parked:
    """A block of a pipeline's `source`-th source; None: rows that have come as far as the rings. Its receipts are held, one a
    message, and each is let go by the first `settle` after its last row was taken."""

    __slots__ = ("_block", "_owed", "_start", "source")

    def __init__(self, source: int | None, block: Block) -> None:
        self.source = source
        self._block = block
        self._start = 0
        self._owed: deque[tuple[Receipt, int]] = deque()  # of each message the row after its last
        last: Receipt | None = None
        for row, receipt in enumerate(block.receipts):
            if receipt is not last:
                if last is not None:
                    self._owed.append((last, row))
                receipt.hold()
                last = receipt
        if last is not None:
            self._owed.append((last, len(block)))

    def __len__(self) -> int:
        return len(self._block) - self._start

    @property
    def arrival(self) -> int:
        return self._block.arrival

    @property
    def receipts(self) -> set[Receipt]:
        """Of what is left."""
        return {receipt for receipt, _ in self._owed}

    def first(self, count: int) -> Block:
        """The next `count` rows, or all that are left."""
        return self._block.part(self._start, min(self._start + count, len(self._block)))

    def take(self, count: int) -> Block:
        """The same, which are then gone from here."""
        taken = self.first(count)
        self._start += len(taken)
        return taken

    def settle(self) -> None:
        """What was taken is where it belongs."""
        while self._owed and self._owed[0][1] <= self._start:
            self._owed.popleft()[0].done()
