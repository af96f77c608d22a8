from __future__ import annotations

import gc
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.pipeline.align import AlignPlan, AlignSource
from edged.pipeline.align.aligner import Aligner
from edged.records import Block

S = 10**9
Event = tuple[int, int, int, float, bool]
"""Stream, key, time, value, degraded."""


class Naive:
    """What Aligner promises, with lists and a sample at a time. Every stream has one column."""

    def __init__(self, plan: AlignPlan) -> None:
        self.plan = plan
        self.joined = [i for i in range(len(plan.sources)) if i != plan.to]
        self.kept: dict[tuple[int, int], list[tuple[int, float, bool]]] = {}
        self.waiting: list[tuple[int, int, list[float], bool]] = []
        self.wait = max(plan.sources[i].tolerance_ns or 0 for i in self.joined)
        self.fans_out = plan.is_keyed and (plan.to is None or not plan.sources[plan.to].is_keyed)
        self.grid: int | None = None
        self.newest = -(10**30)
        self.out: list[tuple[int, int, list[float], bool]] = []
        self.dropped = {"stale_join": 0, "no_value": 0, "overflow": 0, "restart": 0}

    def of(self, index: int, key: int) -> list[tuple[int, float, bool]]:
        return self.kept.setdefault((index, key if self.plan.sources[index].is_keyed else 0), [])

    def push(self, event: Event) -> None:
        index, key, time, value, bad = event
        if index == self.plan.to:
            self.admit(key, time, [value], bad)
            return
        if self.plan.period_ns:
            if self.grid is None:
                self.grid = -(-time // self.plan.period_ns) * self.plan.period_ns
            self.tick(time - 1)
        self.of(index, key).append((time, value, bad))
        self.settle(-(10**30))

    def tick(self, until: int) -> None:
        while self.grid is not None and self.plan.period_ns and self.grid <= until:
            point, self.grid = self.grid, self.grid + self.plan.period_ns
            self.admit(0, point, [], False)

    def flush(self, now: int) -> None:
        self.tick(now)
        self.settle(now)

    def admit(self, key: int, time: int, values: list[float], bad: bool) -> None:
        keys = [key]
        if self.fans_out:
            keys = sorted({k for (i, k), kept in self.kept.items() if self.plan.sources[i].is_keyed and kept})
            if not keys and self.plan.to is not None:
                self.dropped["no_value"] += 1
        self.waiting += [(k, time, values, bad) for k in keys]
        if keys:
            self.newest = max(self.newest, time)
        self.settle(self.newest)

    def settle(self, now: int) -> None:
        still = []
        for row in self.waiting:
            key, time = row[:2]
            newest = [kept[-1][0] if (kept := self.of(i, key)) else -1 for i in self.joined]
            if self.plan.method == "previous" or min(newest) >= time or time + self.wait <= now:
                self.join(row)
            else:
                still.append(row)
        self.waiting = still

    def join(self, row: tuple[int, int, list[float], bool]) -> None:
        key, time, values, bad = row
        columns, verdicts = [], set()
        for index, source in enumerate(self.plan.sources):
            if index == self.plan.to:
                columns += values
                continue
            value, is_bad, verdict = self.look(source, self.of(index, key), time)
            columns.append(value)
            bad |= is_bad
            verdicts.add(verdict)
        for reason in ("no_value", "stale_join"):
            if reason in verdicts:
                self.dropped[reason] += 1
                return
        self.out.append((key, time, columns, bad))

    def look(self, source: AlignSource, kept: list[tuple[int, float, bool]], time: int) -> tuple[float, bool, str]:
        tolerance = source.tolerance_ns or 0
        old = [s for s in kept if s[0] <= time][-1:]
        new = [s for s in kept if s[0] > time][:1] if self.plan.method != "previous" else []
        if not old and not new:
            return 0.0, False, "no_value"
        at = min(old + new, key=lambda s: abs(s[0] - time))
        if self.plan.method == "linear" and old and new and old[0][0] < time:
            (t0, v0, b0), (t1, v1, b1) = old[0], new[0]
            if time - t0 <= tolerance and t1 - time <= tolerance:
                return v0 + (v1 - v0) * (time - t0) / (t1 - t0), b0 or b1, ""
        if abs(at[0] - time) <= tolerance:
            return at[1], at[2], ""
        if source.on_bad == "drop":
            return 0.0, False, "stale_join"
        return (at[1] if source.on_bad == "hold" else float("nan")), True, ""


def rows_of(block: Block | None) -> list[tuple[int, int, list[float], bool]]:
    if block is None:
        return []
    keys = np.broadcast_to(block.keys, len(block)).tolist()
    flags = [False] * len(block) if block.degraded is None else block.degraded.tolist()
    return list(zip(keys, (block.time + block.offset).tolist(), block.values.tolist(), flags, strict=True))


def block_of(events: list[Event], offset: int = 0, as_array: bool = True) -> Block:
    keys: Any = np.array([e[1] for e in events], np.int32)
    if not as_array and len(set(keys.tolist())) == 1:
        keys = int(keys[0])
    return Block(
        values=np.array([[e[3]] for e in events], np.float64),
        stamps=np.array([e[2] for e in events], np.int64) - offset,
        offset=offset,
        arrival=events[-1][2],
        keys=keys,
        degraded=np.array([e[4] for e in events]) if any(e[4] for e in events) else None,
    )


@st.composite
def joins(draw: st.DrawFn) -> Any:
    count = draw(st.integers(2, 3))
    sources = tuple(
        AlignSource(
            name=f"s{i}",
            width=1,
            tolerance_ns=draw(st.sampled_from([0, 3, 20, 200])),
            on_bad=draw(st.sampled_from(["drop", "hold", "pass"])),
            is_keyed=draw(st.booleans()),
            history=500,
        )
        for i in range(count)
    )
    to = draw(st.sampled_from([0, 0, 1, None]))
    method = draw(st.sampled_from(["previous", "nearest", "linear"]))
    plan = AlignPlan(sources, to, 7 if to is None else None, method, max_keys=4, max_waiting=10_000, dtype=np.float64)
    random = draw(st.randoms(use_true_random=False))
    clocks = [random.choice([0, 0, 5, 50]) for _ in range(count)]
    events: list[Event] = []
    index = 0
    for number in range(draw(st.integers(1, 80))):
        if random.random() < 0.4:
            index = random.randrange(count)
        clocks[index] += random.choice([1, 1, 2, 4, 30 if random.random() < 0.1 else 1])
        key = random.randrange(4) if sources[index].is_keyed else 0
        events.append((index, key, 1000 + clocks[index], float(number), random.random() < 0.05))
    cuts = {0, len(events), *draw(st.lists(st.integers(0, len(events)), max_size=8))}
    cuts |= {i for i in range(1, len(events)) if events[i][0] != events[i - 1][0]}
    return plan, events, sorted(cuts), draw(st.booleans()), draw(st.sampled_from([0, 900]))


@settings(deadline=None)
@given(joins())
def test_any_chopping_gives_the_rows_of_a_sample_at_a_time(join: Any) -> None:
    plan, events, cuts, as_array, offset = join
    naive, aligner = Naive(plan), Aligner(plan)
    for event in events:
        naive.push(event)
    got = []
    for start, stop in itertools.pairwise(cuts):
        got += rows_of(aligner.push(events[start][0], block_of(events[start:stop], offset, as_array)))
    due, end = aligner.next_due, max(e[2] for e in events) + 250
    assert due is not None or not naive.waiting
    naive.flush(end)
    got += rows_of(aligner.flush(end, end))
    assert aligner.waiting == len(naive.waiting)
    assert aligner.dropped == naive.dropped
    for key in range(4):
        mine, want = ([r for r in rows if r[0] == key] for rows in (got, naive.out))
        assert [(t, bad) for _, t, _, bad in mine] == [(t, bad) for _, t, _, bad in want]
        np.testing.assert_allclose([v for _, _, v, _ in mine], [v for _, _, v, _ in want], rtol=1e-12)


def two(method: str = "previous", on_bad: str = "drop", tolerance: int = 30 * S, **more: Any) -> Aligner:
    sources = (AlignSource("accel", 2, None), AlignSource("temperature", 1, tolerance, on_bad))
    return Aligner(AlignPlan(sources, method=method, **more))


def block(values: list[list[float]], times_s: list[float], offset: int = 0, restarts: tuple[int, ...] = ()) -> Block:
    times = np.array([round(t * S) for t in times_s], np.int64)
    return Block(np.array(values, np.float32), times, offset, 7, restarts=restarts)


def test_a_row_takes_the_latest_value_not_newer_than_itself() -> None:
    aligner = two()
    assert aligner.push(1, block([[20.0], [21.0]], [0, 2])) is None
    joined = aligner.push(0, block([[1, 2], [3, 4], [5, 6]], [1, 2, 3]))
    assert joined is not None
    assert joined.values.tolist() == [[1, 2, 20], [3, 4, 21], [5, 6, 21]]
    assert (joined.arrival, joined.offset, joined.degraded) == (7, 0, None)


def test_the_pace_may_be_any_stream_and_columns_keep_their_order() -> None:
    aligner = Aligner(AlignPlan((AlignSource("a", 2, S), AlignSource("b", 1, None)), to=1))
    aligner.push(0, block([[1, 2]], [0]))
    joined = aligner.push(1, block([[9]], [0.5]))
    assert joined is not None
    assert joined.values.tolist() == [[1, 2, 9]]


@pytest.mark.parametrize(("on_bad", "want"), [("drop", []), ("hold", [20.0]), ("pass", [float("nan")])])
def test_a_value_that_is_too_old_is_bad(on_bad: str, want: list[float]) -> None:
    aligner = two(on_bad=on_bad)
    aligner.push(1, block([[20.0]], [0]))
    joined = aligner.push(0, block([[1, 2]], [31]))
    rows = rows_of(joined)
    np.testing.assert_equal([values[2] for _, _, values, _ in rows], want)
    assert all(degraded for *_, degraded in rows)
    assert aligner.dropped["stale_join"] == (on_bad == "drop")


def test_streams_stamped_on_arrival_and_by_their_sensor_meet_in_utc() -> None:
    aligner = two()
    utc = 1_700_000_000 * S
    aligner.push(1, block([[20.0]], [1_700_000_005]))
    joined = aligner.push(0, block([[1, 2], [3, 4]], [4, 6], offset=utc))
    assert joined is not None
    assert joined.offset == utc
    assert joined.time.tolist() == [6 * S]
    assert aligner.dropped["no_value"] == 1


def test_setting_the_clock_tears_nothing_apart() -> None:
    aligner = two("linear")
    aligner.push(1, block([[20.0]], [0], offset=100 * S))
    assert aligner.push(0, block([[1, 2]], [5], offset=100 * S)) is None
    joined = aligner.push(1, block([[30.0]], [10], offset=9000 * S))
    assert joined is not None
    assert joined.values.tolist() == [[1, 2, 25]]
    assert (joined.time + joined.offset).tolist() == [9005 * S]


def test_a_reading_of_the_offset_that_jitters_moves_nothing() -> None:
    aligner = two(tolerance=0)
    aligner.push(1, block([[20.0]], [1], offset=100 * S))
    joined = aligner.push(0, block([[1, 2]], [1], offset=100 * S - 300))
    assert joined is not None


def test_flush_lets_rows_go_whose_wait_is_over() -> None:
    aligner = two("nearest", tolerance=2 * S)
    aligner.push(1, block([[20.0]], [0]))
    assert aligner.push(0, block([[1, 2], [3, 4]], [1, 1.5])) is None
    assert (aligner.waiting, aligner.next_due) == (2, 3 * S)
    assert aligner.flush(3 * S - 1, 0) is None
    joined = aligner.flush(3 * S, 0)
    assert joined is not None
    assert joined.values.tolist() == [[1, 2, 20]]
    assert aligner.next_due == 3_500_000_000


@pytest.mark.parametrize("rows_a_block", [1, 3, 7, 10])
def test_the_oldest_rows_give_way_when_too_many_wait(rows_a_block: int) -> None:
    aligner = two("nearest", max_waiting=4)
    for first in range(0, 10, rows_a_block):
        numbers = [float(i) for i in range(first, min(10, first + rows_a_block))]
        assert aligner.push(0, block([[n, n] for n in numbers], numbers)) is None
    assert (aligner.waiting, aligner.dropped["overflow"]) == (4, 6)
    joined = aligner.push(1, block([[20.0]], [9]))
    assert joined is not None
    assert joined.values[:, 0].tolist() == [6, 7, 8, 9]


def test_a_restart_is_told_once_and_drops_the_rows_that_wait() -> None:
    aligner = two("nearest")
    aligner.push(0, block([[1, 2]], [1]))
    assert aligner.push(0, block([[3, 4]], [0.5], restarts=(0,))) is None
    assert aligner.dropped["restart"] == 1
    joined = aligner.push(1, block([[20.0]], [2]))
    assert joined is not None
    assert joined.restarts == (0,)
    assert joined.values.tolist() == [[3, 4, 20]]
    aligner.push(0, block([[5, 6]], [1.5]))
    assert aligner.push(0, block([[5, 6]], [1.6])) is not None


def test_a_recycled_key_is_not_joined_to_the_sensor_before() -> None:
    sources = (AlignSource("pump", 1, None, is_keyed=True), AlignSource("oil", 1, S, is_keyed=True))
    aligner = Aligner(AlignPlan(sources, max_keys=2))
    keys = np.array([0, 1], np.int32)
    times = np.zeros(2, np.int64)
    values = np.array([[1.0], [2.0]], np.float32)
    aligner.push(1, Block(values, times, 0, 0, keys))
    joined = aligner.push(0, Block(values, times, 0, 0, keys, restarts=(1,)))
    assert joined is not None
    assert (joined.keys.tolist(), joined.restarts) == ([0], (1,))  # type: ignore[union-attr]


def test_an_unkeyed_stream_joins_to_all_keys() -> None:
    sources = (AlignSource("pump", 1, None, is_keyed=True), AlignSource("weather", 1, S))
    aligner = Aligner(AlignPlan(sources, max_keys=9))
    aligner.push(1, block([[20.0]], [0]))
    values = np.arange(9, dtype=np.float32)[:, None]
    joined = aligner.push(0, Block(values, np.zeros(9, np.int64), 0, 0, np.arange(9, dtype=np.int32)))
    assert joined is not None
    assert joined.values.tolist() == [[i, 20.0] for i in range(9)]


def test_a_grid_makes_rows_without_new_samples() -> None:
    plan = AlignPlan((AlignSource("hall", 1, 60 * S, "hold"), AlignSource("door", 1, 60 * S)), to=None, period_ns=10 * S)
    aligner = Aligner(plan)
    assert aligner.next_due is None
    aligner.push(0, block([[1.0]], [101]))
    aligner.push(1, block([[5.0]], [103]))
    assert aligner.next_due == 110 * S
    joined = aligner.flush(125 * S, 77)
    assert joined is not None
    assert joined.time.tolist() == [110 * S, 120 * S]
    assert joined.values.tolist() == [[1, 5], [1, 5]]
    assert joined.arrival == 77
    joined = aligner.flush(163 * S, 78)  # hall is from 101 and held
    assert joined is not None
    assert joined.time.tolist() == [130 * S, 140 * S, 150 * S, 160 * S]
    assert joined.degraded is None
    joined = aligner.push(0, block([[2.0]], [171]))
    assert joined is None  # the door's value is too old at 170
    assert aligner.dropped["stale_join"] == 1


def test_a_grid_on_the_monotonic_clock_survives_a_set_clock() -> None:
    aligner = Aligner(AlignPlan((AlignSource("hall", 1, 60 * S),), to=None, period_ns=10 * S))
    aligner.push(0, block([[1.0]], [1], offset=1000 * S))
    first = aligner.flush(1012 * S, 12 * S)
    aligner.push(0, block([[2.0]], [13], offset=5000 * S))
    second = aligner.flush(5023 * S, 23 * S)
    assert first is not None
    assert second is not None
    assert first.time.tolist() == [10 * S]
    assert second.time.tolist() == [20 * S]
    assert second.offset == 5000 * S


def test_a_leap_in_time_makes_no_flood_of_grid_rows() -> None:
    aligner = Aligner(AlignPlan((AlignSource("hall", 1, S, "hold"),), to=None, period_ns=S, max_waiting=5))
    aligner.push(0, block([[1.0]], [0.5]))
    joined = aligner.flush(86400 * S, 0)
    assert joined is not None
    assert len(joined) == 5
    assert joined.time[-1] == 86400 * S
    assert aligner.dropped["overflow"] == 86395


@pytest.mark.parametrize(("clock_s", "said"), [(-7200.0, "always 7200 s behind"), (7200.0, "always 7200 s ahead of")])
def test_a_stream_whose_clock_is_off_is_named(clock_s: float, said: str) -> None:
    aligner = two()
    for second in range(10):
        aligner.push(1, block([[20.0]], [10_000 + second + clock_s]))
        assert aligner.push(0, block([[1, 2]], [10_000 + second])) is None
    [sentence] = aligner.diagnose()
    assert said in sentence
    assert "temperature" in sentence
    assert "accel, tolerance is 30 s" in sentence
    assert aligner.diagnose() == []


def test_a_silent_stream_is_not_taken_for_one_with_a_wrong_clock() -> None:
    aligner = two()
    aligner.push(1, block([[20.0]], [0]))
    aligner.push(0, block([[1, 2]], [1]))
    assert aligner.diagnose() == []
    aligner.push(0, block([[1, 2]], [100]))
    assert aligner.diagnose() == []


@pytest.mark.parametrize("method", ["previous", "nearest", "linear"])
def test_steady_pushing_leaves_nothing_allocated(method: str) -> None:
    sources = (AlignSource("a", 3, None, is_keyed=True), AlignSource("b", 1, S, is_keyed=True), AlignSource("c", 1, S))
    aligner = Aligner(AlignPlan(sources, method=method, max_keys=32, max_waiting=64))
    keys = np.arange(40, dtype=np.int32) % 32
    values = {0: np.ones((40, 3), np.float32), 1: np.ones((40, 1), np.float32), 2: np.ones((40, 1), np.float32)}
    time = 0

    def turn(times: int) -> None:
        nonlocal time
        for _ in range(times):
            time += S // 4
            for index in (0, 1, 2):
                aligner.push(index, Block(values[index], np.full(40, time), 0, 0, 0 if index == 2 else keys))
            aligner.flush(time, 0)

    turn(2000)  # numpy's own cache of small blocks fills for a long time
    gc.collect()
    tracemalloc.start()
    turn(150)  # what is kept from turn to turn is replaced by what is traced
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    turn(150)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 2048
