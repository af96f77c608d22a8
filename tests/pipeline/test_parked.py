from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edged.pipeline.parked import Parked
from edged.records import NONE, Block, Receipt


class Counted(Receipt):
    """A receipt that knows how often it was touched."""

    __slots__ = ("touched",)

    def __init__(self, mid: int) -> None:
        super().__init__(mid)
        self.touched = 0

    def hold(self) -> None:
        self.touched += 1
        super().hold()

    def done(self) -> None:
        self.touched += 1
        super().done()


def block_of(receipts: Sequence[Receipt], rows: int) -> Block:
    return Block(np.arange(rows, dtype=np.float32).reshape(-1, 1), np.arange(rows), 0, 7, 0, list(receipts))


def test_each_message_is_held_once_and_let_go_after_its_last_row() -> None:
    receipts = [Counted(i) for i in range(3)]
    parked = Parked(1, block_of([receipts[0]] * 4 + [receipts[1]] + [receipts[2]] * 3, 8))
    assert (len(parked), parked.arrival, parked.source) == (8, 7, 1)
    assert [r.owed for r in receipts] == [2, 2, 2]
    assert parked.take(3).values.ravel().tolist() == [0, 1, 2]
    parked.settle()
    assert [r.owed for r in receipts] == [2, 2, 2]
    assert parked.receipts == set(receipts)
    assert parked.first(2).values.ravel().tolist() == [3, 4]
    assert parked.take(2).values.ravel().tolist() == [3, 4]
    assert [r.owed for r in receipts] == [2, 2, 2]  # not before they are where they belong
    parked.settle()
    assert [r.owed for r in receipts] == [1, 1, 2]
    assert (len(parked), parked.receipts) == (3, {receipts[2]})
    assert parked.take(100).values.ravel().tolist() == [5, 6, 7]
    parked.settle()
    assert not parked
    assert [(r.owed, r.touched) for r in receipts] == [(1, 2)] * 3


def test_one_receipt_for_all_rows() -> None:
    one = Counted(1)
    parked = Parked(None, block_of([one], 5))
    parked.take(4)
    parked.settle()
    assert one.owed == 2
    parked.take(1)
    parked.settle()
    assert (one.owed, one.touched) == (1, 2)
    assert Parked(None, block_of([NONE], 5)).receipts == {NONE}
