from __future__ import annotations

from typing import Any

import numpy as np

from edged.model.scheduling import Share, deal


class Waiting:
    """A feeder of which only the number of its rows counts."""

    def __init__(self, priority: int = 0, rows: int = 0) -> None:
        self.priority = priority
        self.rows = rows

    def waiting(self) -> int:
        return self.rows


def share(feeder: Any) -> Share:
    return Share(feeder)


def test_dealing_never_exceeds_what_waits_or_fits() -> None:
    rng = np.random.default_rng(2)
    feeders = [Waiting(priority) for priority in (2, 1, 1, 0)]
    shares = [share(feeder) for feeder in feeders]
    for _ in range(500):
        for feeder in feeders:
            feeder.rows = int(rng.integers(0, 9))
        limit = int(rng.integers(1, 20))
        due = deal(shares, limit)
        assert sum(n for _, n in due) == min(limit, sum(feeder.rows for feeder in feeders))
        assert all(0 < n <= feeder.waiting() for feeder, n in due)


def test_whoever_got_fewer_rows_comes_first_next_time() -> None:
    first, second = Waiting(rows=9), Waiting(rows=9)
    shares = [share(first), share(second)]
    got = {id(first): 0, id(second): 0}
    for turn in range(1, 7):
        [(feeder, count)] = deal(shares, 1)
        got[id(feeder)] += count
        assert abs(got[id(first)] - got[id(second)]) == turn % 2
