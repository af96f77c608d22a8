import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.pipeline.slots import Slots
from edged.records import NONE, Receipt
from edged.telemetry import Drops


def make(count: int = 3, overflow: str = "drop_oldest") -> tuple[Slots, Drops]:
    drops = Drops("test")
    return Slots(count, {"x": ((2,), np.float32)}, overflow, drops), drops


def put(slots: Slots, value: float, key: int = 0, receipt: Receipt = NONE) -> int | None:
    row = slots.put(key, int(value), int(value), receipt, False)
    if row is not None:
        slots.rows["x"][row] = value
    return row


def waiting(slots: Slots) -> list[float]:
    """Takes all that wait and gives their values, in order."""
    inputs = {"x": np.zeros((slots.count, 2), np.float32)}
    taken = slots.take(slots.count)
    slots.gather(taken, inputs, 0)
    return [float(v) for v in inputs["x"][: len(taken), 0]]


def undecided(slots: Slots, value: float, key: int = 0, receipt: Receipt = NONE) -> None:
    row = slots.put(key, int(value), int(value), receipt, False, is_open=False)
    if row is not None:
        slots.rows["x"][row] = value


def test_what_is_undecided_is_not_taken_and_keeps_its_place() -> None:
    slots, drops = make(5)
    receipts = [Receipt(i) for i in range(3)]
    for i, receipt in enumerate(receipts):
        undecided(slots, i + 1, key=i, receipt=receipt)
        receipt.done()
    put(slots, 4, key=3)
    assert (len(slots), slots.ready, slots.oldest, waiting(slots)) == (4, 1, 1, [4])
    assert slots.judge(lambda slot: None if slot.key == 2 else slot.key == 0, 3) == (1, 1)
    assert (len(slots), slots.ready, slots.free) == (2, 1, 3)
    assert [r.owed for r in receipts] == [1, 0, 1]
    assert slots.judge(lambda _: True, 2) == (0, 0)  # it came later
    assert slots.judge(lambda _: True, 3) == (1, 0)
    assert waiting(slots) == [1, 3]
    assert (slots.ready, slots.oldest, drops.total) == (0, None, 0)


@pytest.mark.parametrize(
    ("overflow", "left"),
    [("drop_oldest", [2, 3, 4]), ("drop_newest", [1, 2, 3]), ("latest_only", [2, 3, 4])],
)
def test_what_is_undecided_gives_way_as_the_rest_does(overflow: str, left: list[float]) -> None:
    slots, drops = make(overflow=overflow)
    put(slots, 1)
    undecided(slots, 2, key=1)
    undecided(slots, 3, key=2)
    undecided(slots, 4)  # it may yet be refused, so it takes the place of none of its key that may run
    slots.judge(lambda _: True, 9)
    assert waiting(slots) == left
    assert drops.by_reason == {"overflow": 1}


def test_the_newest_that_is_undecided_takes_the_place_of_an_older_one() -> None:
    slots, _ = make(overflow="latest_only")
    for value, key in ((1, 0), (2, 1), (3, 2), (4, 0)):
        undecided(slots, value, key=key)
    assert slots.judge(lambda slot: slot.arrival == 4, 9) == (1, 2)
    assert waiting(slots) == [4]


@pytest.mark.parametrize(
    ("overflow", "left"),
    [("drop_oldest", [3, 4, 5]), ("drop_newest", [1, 2, 3]), ("latest_only", [3, 4, 5])],
)
def test_what_gives_way_when_full(overflow: str, left: list[float]) -> None:
    slots, drops = make(overflow=overflow)
    receipts = [Receipt(i) for i in range(5)]
    for i, receipt in enumerate(receipts):
        put(slots, i + 1, key=i, receipt=receipt)
        receipt.done()  # the giver's own
    assert drops.by_reason == {"overflow": 2}
    assert (len(slots), slots.free, slots.peak) == (3, 0, 3)
    assert [r.owed for r in receipts] == [1 if i + 1 in left else 0 for i in range(5)]
    assert waiting(slots) == left
    assert slots.free == 3


def test_latest_only_rewrites_the_waiting_slot_of_its_key() -> None:
    slots, drops = make(overflow="latest_only")
    receipts = [Receipt(i) for i in range(4)]
    for value, key in ((1, 7), (2, 8), (3, 9), (4, 8)):
        put(slots, value, key, receipts[value - 1])
    assert [r.owed for r in receipts] == [2, 1, 2, 2]
    assert drops.total == 1
    assert waiting(slots) == [1, 4, 3]  # in the place of the one it replaces


def test_a_block_takes_rows_at_once_or_by_the_policy() -> None:
    slots, drops = make(4)
    receipt = Receipt(1)
    taken = slots.put_many([0, 0, 0], [1, 2, 3], 9, [receipt] * 3, [False, True, False])
    assert sorted(row for row in taken if row is not None) == sorted(set(taken), key=lambda r: r or 0)
    assert receipt.owed == 4
    more = slots.put_many([0, 0, 0], [4, 5, 6], 9, [receipt] * 3, None)
    assert drops.by_reason == {"overflow": 2}
    assert receipt.owed == 1 + 4
    assert all(row is not None for row in more)
    slot = slots.take(1)[0]
    assert (slot.time, slot.arrival, slot.degraded) == (3, 9, False)


def test_a_block_without_rows_takes_none() -> None:
    slots, _ = make(4)
    assert slots.put_many([], [], 9, [], None) == []
    assert (slots.free, len(slots)) == (4, 0)


def test_keys_are_let_go_and_order_is_kept() -> None:
    slots, drops = make(4)
    receipts = [Receipt(i) for i in range(4)]
    for value, key in ((1, 0), (2, 1), (3, 0), (4, 2)):
        put(slots, value, key, receipts[value - 1])
    slots.drop_key(0)
    slots.drop_key(5)
    assert drops.by_reason == {"restart": 2}
    assert [r.owed for r in receipts] == [1, 2, 1, 2]
    assert slots.free == 2
    assert slots.forget() == 2
    assert [r.owed for r in receipts] == [1, 1, 1, 1]
    assert (slots.free, len(slots)) == (4, 0)


def test_rows_are_copied_behind_those_of_others_and_freed() -> None:
    slots, _ = make()
    put(slots, 1)
    put(slots, 2)
    inputs = {"x": np.full((4, 2), -1, np.float32)}
    taken = slots.take(1)
    slots.gather(taken, inputs, 2)
    assert inputs["x"][:, 0].tolist() == [-1, -1, 1, -1]
    assert (len(slots), slots.free) == (1, 2)
    assert slots.nbytes == 3 * 2 * 4


def test_only_what_is_fresh_is_taken() -> None:
    slots, drops = make(4)
    receipts = [Receipt(i) for i in range(4)]
    for value, receipt in zip((10, 20, 15, 30), receipts, strict=True):  # arrivals fall where a slot was written anew
        put(slots, value, receipt=receipt)
    assert [s.arrival for s in slots.take_fresh(2, 16)] == [20, 30]
    assert drops.by_reason == {"expired": 2}
    assert [r.owed for r in receipts] == [1, 2, 1, 2]
    assert (len(slots), slots.free) == (0, 2)  # the rows of the two that were taken are theirs until `gather`
    assert slots.take_fresh(2, 16) == []


@given(
    count=st.integers(1, 5),
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "latest_only"]),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2))),
)
def test_nothing_is_lost_twice_and_no_row_is_given_twice(count: int, overflow: str, steps: list[tuple[int, int]]) -> None:
    """Whatever comes and goes: come in == taken + dropped + waiting, every receipt ends, and each key stays in order."""
    slots, drops = make(count, overflow)
    receipts: list[Receipt] = []
    seen: dict[int, list[int]] = {}
    taken = 0
    for kind, key in steps:
        if kind < 5:
            receipts.append(Receipt(len(receipts)))
            put(slots, len(receipts), key, receipts[-1])
            receipts[-1].done()
        else:
            some = slots.take(kind - 4)
            slots.gather(some, {"x": np.zeros((count, 2), np.float32)}, 0)
            for slot in some:
                seen.setdefault(slot.key, []).append(slot.time)
                slot.receipt.done()
            taken += len(some)
        assert len(receipts) == taken + drops.total + len(slots)
        assert slots.free + len(slots) == count
    slots.forget()
    assert all(r.owed == 0 for r in receipts)
    assert all(times == sorted(times) for times in seen.values())


def by_key(count: int = 8) -> Slots:
    return Slots(count, {"x": ((2,), np.float32)}, "drop_oldest", Drops("test"), is_by_key=True)


def test_a_key_is_once_in_a_batch_and_stays_in_order() -> None:
    slots, inputs = by_key(), {"x": np.zeros((8, 2), np.float32)}
    for value, key in ((1, 7), (2, 7), (3, 8), (4, 7), (5, 8), (6, 9)):
        put(slots, value, key)
    first, more = slots.take(2), slots.take(2)  # of one batch, taken in two parts
    assert [[s.time for s in part] for part in (first, more)] == [[1, 3], [6]]
    slots.gather(first, inputs, 0)
    slots.gather(more, inputs, 2)
    assert waiting(slots) == [2, 5]
    assert waiting(slots) == [4]


def test_what_is_too_old_does_not_keep_its_key_from_a_batch() -> None:
    slots = by_key()
    for value, key in ((1, 7), (2, 8), (5, 7), (6, 7), (7, 8)):
        put(slots, value, key)
    assert [s.time for s in slots.take_fresh(8, since=5)] == [5, 7]
    assert (len(slots), slots.free) == (1, 8 - 3)


def test_a_slot_says_of_which_stretch_it_is() -> None:
    slots = Slots(2, {}, "latest_only", Drops("test"))
    slots.put(1, 0, 0, NONE, False, None, 4)
    slots.put_many([2, 1, 2], [0] * 3, 0, [NONE] * 3, None, None, [6, 5, 7])
    assert [(s.key, s.stretch) for s in slots.take(2)] == [(1, 5), (2, 7)]
    more = by_key()
    more.put_many([2, 1], [0] * 2, 0, [NONE] * 2, None, None, [6, 5])
    assert [(s.key, s.stretch) for s in more.take(2)] == [(2, 6), (1, 5)]


def test_what_nobody_waits_for_any_more_is_dropped() -> None:
    slots, drops = make(count=4)
    receipts = [Receipt(i) for i in range(4)]
    for i, receipt in enumerate(receipts):
        put(slots, i + 1, receipt=receipt)
        receipt.done()
    slots.expire({receipts[0], receipts[2], Receipt(9)})
    assert [r.owed for r in receipts] == [0, 1, 0, 1]
    assert drops.by_reason == {"expired": 2}
    assert slots.free == 2
    assert waiting(slots) == [2, 4]
