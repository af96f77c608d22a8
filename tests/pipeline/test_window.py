from __future__ import annotations

import copy
import gc
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.pipeline.window import WindowStage
from edged.records import Block

Shown = tuple[list[list[float]], int, int, bool]
OFFSET = 1_000_000


class Naive:
    """What WindowStage promises, with a list a key and a row at a time."""

    def __init__(self, size: int, hop: int, gap_ns: int | None) -> None:
        self.size, self.hop, self.gap_ns = size, hop, gap_ns
        self.rows: dict[int, list[tuple[list[float], int, bool]]] = {}

    def push(self, key: int, row: list[float], time: int, degraded: bool) -> list[Shown]:
        rows = self.rows.setdefault(key, [])
        if rows and self.gap_ns is not None and time - rows[-1][1] > self.gap_ns:
            rows.clear()
        rows.append((row, time, degraded))
        if len(rows) < self.size or (len(rows) - self.size) % self.hop:
            return []
        window = rows[-self.size :]
        return [([r for r, _, _ in window], key, time + OFFSET, any(d for _, _, d in window))]


def collect(stage: WindowStage, block: Block, is_straight: bool = False) -> list[Shown]:
    """`is_straight`: a row that comes alone goes the short way, if it may."""
    shown: list[Shown] = []
    is_straight = is_straight and len(block) == 1 and block.degraded is None
    if is_straight and isinstance(block.keys, int) and stage.takes(block.keys, block.values[0], block.time.item(0)):
        return []

    def emit(window: Any, key: int, time: int, arrival: int, degraded: bool) -> None:
        assert window.flags.c_contiguous
        assert arrival == block.arrival
        shown.append((window.tolist(), key, time, degraded))

    stage.push(block, emit)
    return shown


def make_block(rows: list[tuple[int, int, bool]], start: int, one_key: bool, restarts: tuple[int, ...] = ()) -> Block:
    """Rows of (key, time, degraded), numbered from `start` so that each is recognised."""
    keys: Any = rows[0][0] if one_key and len({r[0] for r in rows}) == 1 else np.array([r[0] for r in rows], np.int32)
    numbers = np.arange(start, start + len(rows), dtype=np.float32)
    flags = np.array([r[2] for r in rows])
    return Block(
        values=np.stack([numbers, -numbers], 1),
        stamps=np.array([r[1] for r in rows], np.int64),
        offset=OFFSET,
        arrival=start,
        keys=keys,
        degraded=flags if flags.any() else None,
        restarts=restarts,
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Any:
    keys = draw(st.sampled_from([1, 2, 7, 40]))
    count = draw(st.integers(1, 120))
    style = draw(st.sampled_from(["random", "round", "runs"]))
    bad_share = draw(st.sampled_from([0, 0.05, 0.5]))
    random = draw(st.randoms(use_true_random=False))
    time, rows, key = 0, [], 0
    for number in range(count):
        time += random.choice([0, 1, 1, 1, 1, 2, 30 if random.random() < 0.1 else 1])
        if style == "random":
            key = random.randrange(keys)
        elif style == "round":
            key = number % keys
        elif random.random() < 0.1:
            key = random.randrange(keys)
        rows.append((key, time, random.random() < bad_share))
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=8)))
    return keys, rows, [0, *cuts, count]


@settings(deadline=None)
@given(
    scenario=scenarios(),
    size=st.integers(1, 12),
    hop=st.integers(1, 15),
    gap=st.sampled_from([None, 5, 25]),
    one_key=st.booleans(),
    is_straight=st.booleans(),
)
def test_any_chopping_gives_the_windows_of_a_row_at_a_time(
    scenario: Any, size: int, hop: int, gap: int | None, one_key: bool, is_straight: bool
) -> None:
    keys, rows, cuts = scenario
    naive = Naive(size, hop, gap)
    want = [w for i, (key, time, bad) in enumerate(rows) for w in naive.push(key, [float(i), float(-i)], time, bad)]
    stage = WindowStage(size, hop, gap, width=2, max_keys=keys)
    got = []
    for start, stop in pairwise(cuts):
        if stop > start:
            got += collect(stage, make_block(rows[start:stop], start, one_key), is_straight)
    for key in range(keys):
        assert [w for w in got if w[1] == key] == [w for w in want if w[1] == key]
        assert stage.filled(key) == min(len(naive.rows.get(key, [])), size)


@pytest.mark.parametrize("rows_a_block", [1, 3, 50])
def test_a_restart_begins_the_window_of_that_key_only_anew(rows_a_block: int) -> None:
    stage = WindowStage(4, 1, None, width=2, max_keys=3)
    rows = [(i % 3, i, False) for i in range(9)]
    for start in range(0, 9, rows_a_block):
        assert collect(stage, make_block(rows[start : start + rows_a_block], start, False)) == []
    shown = collect(stage, make_block([(0, 9, False), (1, 10, False), (2, 11, False)], 9, False, restarts=(1,)))
    assert [key for _, key, _, _ in shown] == [0, 2]
    assert [stage.filled(key) for key in range(3)] == [4, 1, 4]


def test_reset_forgets_samples_time_and_marks() -> None:
    stage = WindowStage(2, 1, 10, width=2)
    collect(stage, make_block([(0, 0, True)], 0, True))
    stage.reset(0)
    assert stage.filled(0) == 0
    shown = collect(stage, make_block([(0, 1000, False), (0, 1001, False)], 1, True))
    assert shown == [([[1.0, -1.0], [2.0, -2.0]], 0, 1001 + OFFSET, False)]


def test_an_empty_block_still_restarts() -> None:
    stage = WindowStage(2, 1, None, width=2)
    collect(stage, make_block([(0, 0, False)], 0, True))
    stage.push(
        Block(np.empty((0, 2), np.float32), np.empty(0, np.int64), 0, 0, restarts=(0,)), lambda *_: pytest.fail("a window")
    )
    assert stage.filled(0) == 0


def test_a_hop_longer_than_the_window_skips_samples() -> None:
    stage = WindowStage(2, 5, None, width=2)
    shown = collect(stage, make_block([(0, i, False) for i in range(13)], 0, True))
    assert [window[-1][0] for window, *_ in shown] == [1.0, 6.0, 11.0]


def test_rings_of_many_keys_do_not_meet_and_are_all_counted() -> None:
    stage = WindowStage(3, 3, None, width=2, max_keys=1000)
    assert stage.nbytes >= 1000 * 6 * 2 * 4
    rows = [(key, 0, False) for key in range(1000)] * 3
    shown = collect(stage, make_block(rows, 0, False))
    assert sorted(key for _, key, _, _ in shown) == list(range(1000))
    assert all([r[0] for r in window] == [key, key + 1000, key + 2000] for window, key, _, _ in shown)


def test_float64_samples_keep_their_digits() -> None:
    stage = WindowStage(1, 1, None, width=1, dtype=np.float64)
    shown = []
    value = 1.0 + 2**-40
    stage.push(Block(np.array([[value]]), np.zeros(1, np.int64), 0, 0), lambda window, *_: shown.append(window.item()))
    assert shown == [value]


def test_steady_pushing_leaves_nothing_allocated() -> None:
    stage = WindowStage(16, 8, 10**9, width=3, max_keys=64)
    values = np.ones((64, 3), np.float32)
    distinct = np.arange(64, dtype=np.int32)
    mixed = np.arange(64, dtype=np.int32) % 23
    flags = np.arange(64) == 5
    blocks = [
        Block(values, np.zeros(64, np.int64), 0, 0, keys, degraded=degraded)
        for keys in (0, distinct, mixed)
        for degraded in (None, flags)
    ]

    def emit(window: Any, key: int, time: int, arrival: int, degraded: bool) -> None:
        pass

    def turn(times: int) -> None:
        for _ in range(times):
            for block in blocks:
                stage.push(block, emit)

    turn(20)
    gc.collect()
    tracemalloc.start()
    turn(20)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    turn(200)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 2048


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_fits_is_what_completes_as_many_windows(data: st.DataObject) -> None:
    size, hop, gap_ns = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.sampled_from([None, 3])))
    entry = st.tuples(st.integers(0, 2), st.integers(0, 6), st.just(False))
    stage, most, time = WindowStage(size, hop, gap_ns, 2, 3), data.draw(st.integers(0, 5)), 0
    for restarts in ((), data.draw(st.sampled_from([(), (1,), (0, 2)]))):
        rows = []
        for key, step, degraded in data.draw(st.lists(entry, min_size=1, max_size=40)):
            time += step
            rows.append((key, time, degraded))
        block = make_block(rows, 0, data.draw(st.booleans()), restarts)
        fitting = stage.fitting(block, most)
        before = copy.deepcopy(stage)
        assert len(collect(stage, block.part(0, fitting))) <= most
        if fitting < len(block):  # one more row is one window more
            assert len(collect(before, block.part(0, fitting + 1))) == most + 1
        if fitting:
            collect(stage, block.part(fitting, len(block)))
        else:
            collect(stage, block)
