from __future__ import annotations

import numpy as np
import pytest

from edged.records import Receipt, Rows
from edged.sources.counts import SourceCounts, stamped
from edged.stamp import KeyTable, Stamper, Thinning

S = 10**9


def thinning(every_ns: int = S, keys: int = 2) -> tuple[Thinning, list[tuple[list[int], int]]]:
    alive: list[tuple[list[int], int]] = []
    return Thinning(every_ns, keys, lambda found, arrival: alive.append((np.atleast_1d(found).tolist(), arrival))), alive


def kept(one: Thinning, times_s: list[float], keys: int | list[int] = 0) -> list[float]:
    times = np.array([round(t * S) for t in times_s], np.int64)
    flags = one.kept(times, keys if isinstance(keys, int) else np.array(keys, np.int32))
    return [t for t, is_kept in zip(times_s, flags.tolist(), strict=True) if is_kept]


def test_the_first_of_each_interval_is_taken() -> None:
    one, _ = thinning()
    assert kept(one, [0.0, 0.1, 0.4, 0.6, 0.9, 1.4, 1.6, 5.0, 5.2]) == [0.0, 0.6, 1.6, 5.0]


@pytest.mark.parametrize("jitter", [-0.3, 0.0, 0.3])
def test_a_sensor_of_that_pace_loses_nothing(jitter: float) -> None:
    """However its samples come a little early and late by turns."""
    one, _ = thinning()
    times = [t + jitter * (t % 2) for t in range(100)]
    assert kept(one, [float(t) for t in times]) == times


def test_each_key_has_intervals_of_its_own() -> None:
    one, _ = thinning()
    assert kept(one, [0.0, 0.2, 0.3, 0.4, 0.8, 0.9], [0, 1, 0, 1, 0, 1]) == [0.0, 0.2, 0.8, 0.9]
    one.forget(1)
    assert kept(one, [1.0, 1.1], [1, 1]) == [1.0]


def test_a_clock_that_is_set_back_does_not_end_it() -> None:
    one, _ = thinning()
    assert kept(one, [1000.0, 1001.0]) == [1000.0, 1001.0]
    assert kept(one, [3.0, 3.1, 4.0]) == [3.0, 4.0]


def test_what_is_left_out_is_counted_and_its_sensor_lives() -> None:
    one, alive = thinning(keys=3)
    keys = KeyTable(3, None)
    stamper = Stamper("unix_s", None, keys, one)
    rows = Rows(np.arange(4.0).reshape(4, 1), np.array([10 * S, 10 * S, 11 * S, 11 * S]), [("a",), ("a",), ("a",), ("b",)])
    receipts = [Receipt(i) for i in range(4)]
    block, rejects = stamper.stamp(rows, None, receipts, 5, 0, 5, False)
    assert block is not None
    assert block.values[:, 0].tolist() == [0.0, 2.0, 3.0]
    assert [receipt.mid for receipt in block.receipts] == [0, 2, 3]
    assert [(r.reason, r.payload) for r in rejects] == [("thinned", 1)]
    assert alive == [([0], 5)]


def test_of_samples_that_come_alone_and_are_stamped_on_arrival_one_of_each_interval_is_taken() -> None:
    """As those of most serial sensors."""
    one, _ = thinning()
    counts, stamper = SourceCounts("s"), Stamper(None, None, None, one)
    blocks = [stamped(Rows(np.ones((1, 1))), stamper, counts, 100 * S + i * S // 10, 0, False) for i in range(20)]
    assert [i for i, block in enumerate(blocks) if block is not None] == [0, 5, 15]
    assert (counts.rows, counts.drops.by_reason, counts.balance()) == (3, {"thinned": 17}, 0)
