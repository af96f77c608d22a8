from __future__ import annotations

import numpy as np

from edged.pipeline.align.plan import FAR
from edged.pipeline.align.waiting import Rows, Waiting


def rows(*times: int) -> Rows:
    return Rows(np.array([[float(t)] for t in times]), np.array(times, np.int64), 0, None, arrival=max(times))


def test_rows_are_taken_in_order_with_their_values() -> None:
    waiting = Waiting(4, 1, np.float64)
    assert waiting.append(rows(1, 2, 3)) == 0
    taken = waiting.take(waiting.times <= 2)
    assert taken is not None
    assert taken.times.tolist() == [1, 2]
    assert taken.values is not None
    assert taken.values.tolist() == [[1.0], [2.0]]
    assert (waiting.times.tolist(), waiting.oldest, len(waiting)) == ([3], 3, 1)
    assert waiting.take(waiting.times > 100) is None


def test_the_oldest_give_way() -> None:
    waiting = Waiting(3, 1, np.float64)
    waiting.append(rows(1, 2))
    assert waiting.append(rows(3, 4)) == 1
    assert waiting.times.tolist() == [2, 3, 4]
    assert waiting.append(rows(*range(10, 15))) == 5
    assert waiting.times.tolist() == [12, 13, 14]


def test_it_never_grows() -> None:
    waiting = Waiting(3, 1, np.float64)
    before = waiting.nbytes
    for time in range(100):
        waiting.append(rows(time))
    assert waiting.times.tolist() == [97, 98, 99]
    assert waiting.nbytes == before


def test_a_clock_that_was_set_moves_what_waits() -> None:
    waiting = Waiting(3, 1, np.float64)
    waiting.move(5)
    assert waiting.oldest == FAR
    waiting.append(rows(1))
    waiting.move(5)
    assert (waiting.times.tolist(), waiting.oldest) == ([6], 6)
