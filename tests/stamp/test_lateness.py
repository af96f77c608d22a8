"""Samples that wait to be put in order by their time: which leave when, and what a stamper makes of them."""

from __future__ import annotations

import numpy as np

from edged.records import NONE, Receipt, Rows
from edged.stamp import KeyTable, Lateness, Stamper
from edged.stamp.lateness import Waiting

S = 10**9
WAIT = 2 * S


class Hall:
    """Where they wait, and who is told."""

    def __init__(self, most: int = 100) -> None:
        self.alarms: list[int] = []
        self.alive: list[tuple[object, int]] = []
        self.lateness = Lateness(WAIT, most, lambda keys, arrival: self.alive.append((keys, arrival)))
        self.lateness.ask(self.alarms.append)

    def add(self, *times: float, key: int = 0, arrival: float = 0.0) -> list[float]:
        stamps = np.array([int(t * S) for t in times], np.int64)
        values = np.array([[t] for t in times], np.float32)
        return seconds(self.lateness.add(values, stamps, key, None, (NONE,), None, int(arrival * S)))


def seconds(left: list[Waiting]) -> list[float]:
    assert [one.values.tolist() for one in left] == [[np.float32(one.time / S)] for one in left]
    return [one.time / S for one in left]


def test_what_comes_within_the_time_is_put_before() -> None:
    hall = Hall()
    assert hall.add(10, arrival=0) == []
    assert hall.add(9, 12, arrival=1) == []
    assert hall.add(11, arrival=1.5) == []
    assert seconds(hall.lateness.due(2 * S - 1)) == []
    assert seconds(hall.lateness.due(2 * S)) == [9, 10], "9 came later, and leaves with 10"
    assert seconds(hall.lateness.due(3 * S)) == [11, 12], "11 leaves with 12, before its own time"
    assert seconds(hall.lateness.due(4 * S)) == []
    assert len(hall.lateness) == 0
    assert hall.alarms[0] == 2 * S
    assert hall.alive == [(0, 0), (0, S), (0, int(1.5 * S))]


def test_keys_do_not_wait_for_each_other() -> None:
    hall = Hall()
    hall.add(5, key=1, arrival=0)
    hall.add(1, key=2, arrival=1)
    assert seconds(hall.lateness.due(2 * S)) == [5]
    assert seconds(hall.lateness.due(3 * S)) == [1]


def test_it_does_not_matter_when_somebody_looks() -> None:
    punctual, tardy = Hall(), Hall()
    arrivals = [(3, 0.0), (1, 0.5), (2, 2.2), (5, 2.4), (4, 2.6), (6, 5.0)]
    first, second = [], []
    for time, arrival in arrivals:
        for at in np.arange(0, arrival, 0.1):
            first += seconds(punctual.lateness.due(int(at * S)))
        first += seconds(punctual.lateness.due(int(arrival * S))) + punctual.add(time, arrival=arrival)
        second += seconds(tardy.lateness.due(int(arrival * S))) + tardy.add(time, arrival=arrival)
    assert first + seconds(punctual.lateness.due(None)) == second + seconds(tardy.lateness.due(None)) == [1, 3, 2, 4, 5, 6]


def test_there_is_room_for_so_many_and_those_that_came_first_leave() -> None:
    hall = Hall(most=3)
    assert hall.add(4, 2, 3) == []
    assert hall.add(5, 6) == [2, 3, 4]
    assert hall.lateness.hurried == 3
    assert len(hall.lateness) == 2
    assert seconds(hall.lateness.due(None)) == [5, 6]


def test_a_stamper_keeps_the_order_and_what_is_later_still_is_late() -> None:
    hall = Hall()
    keys = KeyTable(4, None)
    stamper = Stamper("unix_ms", None, keys, None, hall.lateness)
    receipt = Receipt(1)

    def stamp(*times: int, arrival: int) -> tuple[list[tuple[float, int]], list[str]]:
        rows = Rows(np.array([[t] for t in times], np.float32), np.array(times, np.int64) * S, carried=[b"%d" % t for t in times])
        ids = [keys.id((str(t % 2),), arrival) for t in times]
        block, rejects = stamper.stamp(rows, ids, (receipt,), arrival * S, 0, 100 * S, True)
        return [] if block is None else list(zip(block.values[:, 0].tolist(), block.keys.tolist(), strict=True)), [  # type: ignore[union-attr]
            r.reason for r in rejects
        ]

    assert stamp(13, 12, 11, arrival=0) == ([], [])
    assert receipt.owed == 1, "nobody holds it: it is settled while it waits"
    assert stamp(15, arrival=2) == ([(11, 0), (12, 1), (13, 0)], [])
    assert stamp(9, 14, arrival=3) == ([], [])
    assert stamp(arrival=4) == ([(15, 0)], ["late"]), "9 came more than 2 s after 13, and left with 15"
    block, rejects = stamper.release(None)
    assert (block is not None and block.values.tolist(), block is not None and block.carried, rejects) == ([[14]], [b"14"], [])


def test_what_the_broker_sends_again_is_told_apart() -> None:
    hall = Hall()
    stamper = Stamper("unix_ms", None, None, None, hall.lateness)
    again = Receipt(2, is_again=True)
    for arrival, receipt in ((0, Receipt(1)), (3, again), (6, Receipt(3))):
        rows = Rows(np.array([[1]], np.float32), np.array([10 * S], np.int64))
        block, _ = stamper.stamp(rows, None, (receipt,), arrival * S, 0, 100 * S, True)
        if arrival == 6:
            assert block is not None
            assert block.seen is not None
            assert block.seen.tolist() == [True]


def test_what_waits_already_does_not_wait_twice() -> None:
    hall = Hall()
    hall.add(1, 2)
    times, values = np.array([2 * S, 3 * S], np.int64), np.array([[2], [3]], np.float32)
    hall.lateness.add(values, times, 0, None, (Receipt(7, is_again=True),), None, S)
    assert seconds(hall.lateness.due(None)) == [1, 2, 3]
