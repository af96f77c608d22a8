from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.decode.refusals import MAX_RECORDS
from edged.records import NONE, Block, Receipt, Rows
from edged.stamp import KeyTable, Stamper
from edged.stamp.stamper import future_detail

SECOND = 10**9
NOW_UTC = 1_795_214_931 * SECOND
NOW = 5_000 * SECOND


def rows(count: int, time: list[int] | None = None, **more: Any) -> Rows:
    values = np.arange(count, dtype=np.float32)[:, None]
    return Rows(values, None if time is None else np.array(time, np.int64), **more)


def stamp(stamper: Stamper, given: Rows, now: int = NOW, ids: Any = None, receipts: Any = (NONE,), synced: bool = True) -> Any:
    return stamper.stamp(given, ids, receipts, now, NOW_UTC - NOW, now + NOW_UTC - NOW, synced)


def times(stamper: Stamper, given: Rows, now: int = NOW, ids: Any = None) -> list[int]:
    block, _ = stamp(stamper, given, now, ids)
    assert isinstance(block, Block)
    return list(block.time.tolist())


class TestOnArrival:
    def test_without_a_rate_all_have_the_arrival_time(self) -> None:
        block, rejects = stamp(Stamper(None, None, None), rows(3))
        assert block.time.tolist() == [NOW] * 3
        assert (block.offset, block.arrival, block.keys, block.receipts, rejects) == (NOW_UTC - NOW, NOW, 0, (NONE,), [])

    def test_the_last_has_the_arrival_time_and_earlier_ones_are_spaced(self) -> None:
        assert times(Stamper(None, 1000, None), rows(3)) == [NOW - 2_000_000, NOW - 1_000_000, NOW]

    def test_a_read_never_reaches_back_before_the_last_one(self) -> None:
        stamper = Stamper(None, 1000, None)
        first = times(stamper, rows(10))
        second = times(stamper, rows(100), NOW + 50_000_000)
        assert second[-1] == NOW + 50_000_000
        assert first[-1] < second[0]
        assert np.ptp(np.diff(second)) <= 1

    def test_each_key_is_spaced_by_itself(self) -> None:
        keys = KeyTable(4, None)
        given = rows(5, keys=[("a",), ("b",), ("a",), ("a",), ("b",)])
        ms = 1_000_000
        assert times(Stamper(None, 1000, keys), given) == [NOW - 2 * ms, NOW - ms, NOW - ms, NOW, NOW]

    def test_keys_that_come_once_have_the_arrival_time(self) -> None:
        assert times(Stamper(None, 10, KeyTable(4, None)), rows(3), ids=[2, 0, 1]) == [NOW] * 3

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 5_000_000), st.lists(st.integers(0, 3), min_size=1, max_size=12)), max_size=12))
    def test_the_times_of_a_key_never_decrease(self, reads: list[tuple[int, list[int]]]) -> None:
        stamper, now = Stamper(None, 1000, KeyTable(4, None)), NOW
        last = dict.fromkeys(range(4), 0)
        for pause, ids in reads:
            now += pause
            for key, time in zip(ids, times(stamper, rows(len(ids)), now, ids), strict=True):
                assert last[key] <= time <= now
                last[key] = time


class TestUtc:
    def test_the_stamps_are_kept_as_they_are(self) -> None:
        block, _ = stamp(Stamper("unix_ms", 10, None), rows(2, [NOW_UTC - 5, NOW_UTC]))
        assert block.time.tolist() == [NOW_UTC - 5, NOW_UTC]
        assert block.offset == 0

    def test_older_than_the_last_of_its_key_is_late(self) -> None:
        stamper = Stamper("unix_ns", None, KeyTable(2, None))
        stamp(stamper, rows(2, [100, 50]), ids=[0, 1])
        block, rejects = stamp(stamper, rows(4, [99, 60, 101, 100]), ids=[0, 1, 0, 0])
        assert block.time.tolist() == [60, 101]
        assert block.keys.tolist() == [1, 0]
        assert block.values[:, 0].tolist() == [1, 2]
        assert [(r.reason, r.payload) for r in rejects] == [("late", 0), ("late", 3)]

    def test_equal_stamps_are_kept_and_spread_at_the_rate(self) -> None:
        stamper = Stamper("unix_s", 4, None)
        quarter = SECOND // 4
        assert times(stamper, rows(2, [SECOND, SECOND])) == [SECOND, SECOND + quarter]
        assert times(stamper, rows(3, [SECOND, SECOND, 2 * SECOND])) == [SECOND + 2 * quarter, SECOND + 3 * quarter, 2 * SECOND]
        assert times(stamper, rows(1, [2 * SECOND])) == [2 * SECOND + quarter]

    def test_more_of_them_than_the_rate_says_do_not_run_away(self) -> None:
        stamper, out = Stamper("unix_s", 4, None), []
        for second in range(50):
            out += times(stamper, rows(8, [second * SECOND] * 8))
        assert out == sorted(out)
        assert out[-1] <= 51 * SECOND

    def test_without_a_rate_equal_stamps_stay_equal(self) -> None:
        assert times(Stamper("unix_s", None, None), rows(3, [7, 7, 8])) == [7, 7, 8]

    def test_the_future_is_refused_with_the_unit_that_would_fit(self) -> None:
        keys = KeyTable(4, None)
        stamper = Stamper("unix_ms", None, keys)
        block, rejects = stamp(stamper, rows(2, [2 * NOW_UTC, NOW_UTC], keys=[("A", "17"), ("A", "18")]))
        assert block.time.tolist() == [NOW_UTC]
        assert [r.reason for r in rejects] == ["future"]
        assert rejects[0].detail.startswith("time of A/17 is in the year ")

    def test_the_text_of_a_wrong_unit(self) -> None:
        text = future_detail(1_795_214_931_000 * SECOND, "unix_s", NOW_UTC, "plant/A/17")
        assert text == (
            "time of plant/A/17 is in the year 58858: 1795214931000 read as unix_s; as unix_ms it is now: "
            'decode.time.format = "unix_ms"'
        )
        ahead = future_detail(NOW_UTC + 7200 * SECOND, "rfc3339", NOW_UTC)
        assert ahead == "time is 7200 s ahead of the clock, which is synchronized; is the clock of that sensor right?"

    def test_a_minute_ahead_is_no_future_and_an_unset_clock_cannot_tell(self) -> None:
        assert stamp(Stamper("unix_s", None, None), rows(1, [NOW_UTC + 60 * SECOND]))[1] == []
        assert stamp(Stamper("unix_s", None, None), rows(1, [2 * NOW_UTC]), synced=False)[1] == []

    def test_nothing_left_is_no_block(self) -> None:
        block, rejects = stamp(Stamper("unix_s", None, None), rows(2, [2 * NOW_UTC] * 2))
        assert block is None
        assert len(rejects) == 2

    @settings(max_examples=60)
    @given(
        st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=10), max_size=8),
        st.sampled_from([None, 0.5, 2.0, 3.0]),
    )
    def test_like_one_row_at_a_time(self, reads: list[list[tuple[int, int]]], rate: float | None) -> None:
        whole = Stamper("unix_s", rate, KeyTable(3, None))
        single = Stamper("unix_s", rate, KeyTable(3, None))
        for read in reads:
            ids, stamps = [k for k, _ in read], [t * SECOND for _, t in read]
            block, rejects = stamp(whole, rows(len(read), stamps), ids=ids)
            alone = [stamp(single, rows(1, [t]), ids=[k]) for k, t in zip(ids, stamps, strict=True)]
            assert ([] if block is None else block.time.tolist()) == [b.time[0] for b, _ in alone if b is not None]
            gone = [i for i, (b, _) in enumerate(alone) if b is None]
            assert [r.payload for r in rejects] == gone[: MAX_RECORDS + 1]
            assert sum(reject.times for reject in rejects) == len(gone)


class TestElapsed:
    MS = 10**6

    def test_the_first_read_is_anchored_at_its_arrival(self) -> None:
        block, _ = stamp(Stamper("elapsed_ms", None, None), rows(3, [0, 10 * self.MS, 20 * self.MS]))
        assert block.time.tolist() == [NOW - 20 * self.MS, NOW - 10 * self.MS, NOW]
        assert (block.offset, block.restarts) == (NOW_UTC - NOW, ())

    def test_later_reads_follow_the_counter_not_the_arrival(self) -> None:
        stamper = Stamper("elapsed_ms", None, None)
        times(stamper, rows(1, [0]))
        assert times(stamper, rows(2, [100 * self.MS, 200 * self.MS]), NOW + 777 * self.MS) == [
            NOW + 100 * self.MS,
            NOW + 200 * self.MS,
        ]

    @pytest.mark.parametrize("split", [1, 2, 3])
    def test_a_wrap_goes_on(self, split: int) -> None:
        stamper = Stamper("elapsed_ms", None, None)
        counter = [(2**32 - 2) * self.MS, (2**32 - 1) * self.MS, 0, 1 * self.MS]
        times(stamper, rows(1, [(2**32 - 3) * self.MS]))
        out = times(stamper, rows(split, counter[:split]), NOW + self.MS)
        block, _ = stamp(stamper, rows(4 - split, counter[split:]), NOW + 2 * self.MS)
        assert out + block.time.tolist() == [NOW + i * self.MS for i in (1, 2, 3, 4)]
        assert block.restarts == ()

    def test_a_jump_back_starts_over(self) -> None:
        stamper = Stamper("elapsed_ms", None, KeyTable(2, None))
        stamp(stamper, rows(2, [500 * self.MS, 900 * self.MS]), ids=[0, 1])
        later = NOW + 3 * SECOND
        block, rejects = stamp(stamper, rows(2, [501 * self.MS, 5 * self.MS]), later, ids=[0, 1])
        assert (block.time.tolist(), block.restarts, rejects) == ([NOW + self.MS, later], (1,), [])

    def test_a_reboot_after_weeks_is_no_wrap(self) -> None:
        stamper = Stamper("elapsed_ms", None, None)
        times(stamper, rows(1, [2**31 * self.MS + self.MS]))
        block, _ = stamp(stamper, rows(1, [3 * self.MS]), NOW + SECOND)
        assert (block.time.tolist(), block.restarts) == ([NOW + SECOND], (0,))

    def test_rows_before_a_jump_in_the_same_read_go(self) -> None:
        stamper = Stamper("elapsed_ms", None, None)
        times(stamper, rows(1, [100 * self.MS]))
        block, rejects = stamp(stamper, rows(4, [m * self.MS for m in (101, 102, 0, 1)]), NOW + SECOND)
        assert block.time.tolist() == [NOW + SECOND - self.MS, NOW + SECOND]
        assert (block.restarts, [(r.reason, r.payload) for r in rejects]) == ((0,), [("late", 0), ("late", 1)])

    def test_after_a_reset_the_counter_is_anchored_anew(self) -> None:
        stamper = Stamper("elapsed_us", None, None)
        times(stamper, rows(1, [5]))
        stamper.reset()
        assert times(stamper, rows(1, [1_000_005]), NOW + SECOND) == [NOW + SECOND]


class TestKeysAndReceipts:
    def test_each_row_has_the_receipt_of_its_payload(self) -> None:
        receipts = [Receipt(mid) for mid in range(3)]
        given = rows(4, payload=np.array([0, 2, 2, 1], np.int32))
        block, _ = stamp(Stamper(None, None, KeyTable(2, None)), given, ids=[0, None, 1, 0], receipts=receipts)
        assert [r.mid for r in block.receipts] == [0, 2, 1]
        assert block.keys.tolist() == [0, 1, 0]
        assert block.values[:, 0].tolist() == [0, 2, 3]

    def test_a_key_that_cannot_stand_in_a_topic_costs_its_row_only(self) -> None:
        given = rows(3, keys=[("a",), ("b\x01",), ("a",)])
        block, rejects = stamp(Stamper(None, None, KeyTable(1, None)), given, receipts=[Receipt(m) for m in range(3)])
        assert block.keys.tolist() == [0, 0]
        assert [r.mid for r in block.receipts] == [0, 2]
        assert [(r.reason, r.payload) for r in rejects] == [("bad_key", 1)]

    def test_a_refused_key_costs_its_row_only(self) -> None:
        degraded = np.array([False, True, True])
        given = rows(3, keys=[("a",), ("b",), ("a",)], degraded=degraded)
        block, rejects = stamp(Stamper(None, None, KeyTable(1, None)), given, receipts=[Receipt(m) for m in range(3)])
        assert [r.mid for r in block.receipts] == [0, 2]
        assert block.degraded.tolist() == [False, True]
        assert [(r.reason, r.payload) for r in rejects] == [("too_many_keys", 1)]
        assert "'b'" in rejects[0].detail

    def test_a_recycled_id_restarts_with_the_next_block_and_forgets_its_times(self) -> None:
        keys = KeyTable(1, SECOND)
        stamper = Stamper("unix_ns", None, keys)
        stamp(stamper, rows(1, [500], keys=[("a",)]))
        assert stamp(stamper, rows(0), NOW + SECOND, ids=[])[0] is None
        block, rejects = stamp(stamper, rows(1, [400], keys=[("b",)]), NOW + 2 * SECOND)
        assert (block.restarts, rejects) == ((0,), [])
        assert stamp(stamper, rows(1, [401], keys=[("b",)]), NOW + 2 * SECOND)[0].restarts == ()

    def test_a_restart_waits_until_there_is_a_block(self) -> None:
        keys = KeyTable(1, SECOND)
        stamper = Stamper("unix_ns", None, keys)
        stamp(stamper, rows(1, [500], keys=[("a",)]))
        assert stamp(stamper, rows(1, [2 * NOW_UTC], keys=[("b",)]), NOW + SECOND)[0] is None
        assert stamp(stamper, rows(1, [1], keys=[("b",)]), NOW + SECOND)[0].restarts == (0,)


def again(*mids: int) -> list[Receipt]:
    return [Receipt(mid, is_again=True) for mid in mids]


def test_what_a_broker_sends_again_is_seen_and_not_late() -> None:
    stamper = Stamper("unix_ms", None, None)
    stamp = partial(stamper.stamp, key_ids=None, arrival=100, utc_offset=0, now_utc=0, is_synced=False)
    first, _ = stamp(Rows(np.ones((3, 1)), np.array([1, 2, 3])), receipts=[Receipt(i) for i in range(3)])
    assert first is not None
    assert first.seen is None
    block, rejects = stamp(Rows(np.ones((5, 1)), np.array([1, 2, 3, 4, 5])), receipts=[*again(1, 2, 3, 4), Receipt(5)])
    assert block is not None
    assert (block.time.tolist(), rejects) == ([1, 2, 3, 4, 5], [])
    assert block.seen is not None
    assert block.seen.tolist() == [True, True, True, False, False]
    assert block.unseen().time.tolist() == [4, 5]
    late, rejects = stamp(Rows(np.ones((2, 1)), np.array([2, 5])), receipts=[Receipt(6), Receipt(7)])
    assert late is not None
    assert (late.time.tolist(), [r.reason for r in rejects]) == ([5], ["late"])  # equal times are no sign of a duplicate


def test_what_is_sent_again_does_not_make_a_counter_start_over() -> None:
    stamper = Stamper("elapsed_ms", None, None)
    stamp = partial(stamper.stamp, key_ids=None, utc_offset=0, now_utc=0, is_synced=False)
    ms, top = 10**6, 2**32
    first, _ = stamp(Rows(np.ones((3, 1)), np.array([top - 2, top - 1, 1]) * ms), receipts=[Receipt(1)], arrival=100 * ms)
    block, _ = stamp(Rows(np.ones((4, 1)), np.array([top - 2, top - 1, 1, 2]) * ms), receipts=again(1), arrival=200 * ms)
    assert first is not None
    assert block is not None
    assert block.seen is not None
    assert block.seen.tolist() == [True, True, True, False]
    assert block.time[:3].tolist() == first.time.tolist()
    assert (np.diff(block.time) > 0).all()
    assert block.restarts == ()


def test_stamped_on_arrival_nothing_tells_what_was_seen() -> None:
    block, _ = Stamper(None, None, None).stamp(Rows(np.ones((1, 1))), None, again(1), 100, 0, 0, False)
    assert block is not None
    assert block.seen is None
