from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edged.model import runner
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.pipeline.counts import PipelineCounts
from edged.records import NONE, Slot
from tests.support import models
from tests.support.ticking import tick_within


@pytest.fixture(autouse=True)
def _one_run_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TURN_NS", 0)


class Turns:
    """A loop that runs one callback at a time, when told to."""

    def __init__(self) -> None:
        self.due: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self.time = 0

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.due.append((callback, args))

    def now(self) -> int:
        self.time += 1000
        return self.time

    def one(self) -> None:
        callback, args = self.due.popleft()
        callback(*args)

    def all(self) -> None:
        while self.due:
            self.one()


class Queue:
    """A pipeline's rows: each holds numbers for input `name`; what comes back is noted in order."""

    def __init__(self, name: str, width: int, *, priority: int = 0) -> None:
        self.name = name
        self.width = width
        self.priority = priority
        self.counts = PipelineCounts(name)
        self.fifo: deque[Slot] = deque()
        self.rows: dict[int, list[float]] = {}
        self.results: list[tuple[Slot, dict[str, Any]]] = []
        self.failures: list[tuple[Slot, Exception]] = []
        self.batches: list[int] = []
        self.expired: set[int] = set()

    def put(self, *values: float, key: int = 0) -> None:
        slot = Slot(len(self.rows), key, 0, 0, NONE, False)
        self.rows[slot.row] = list(values)
        self.fifo.append(slot)

    def waiting(self) -> int:
        return len(self.fifo)

    def take(self, limit: int, now: int) -> list[Slot]:
        taken: list[Slot] = []
        while self.fifo and len(taken) < limit:
            slot = self.fifo.popleft()
            if slot.row not in self.expired:
                taken.append(slot)
        return taken

    def gather(self, slots: list[Slot], inputs: dict[str, NDArray[Any]], start: int) -> None:
        for i, slot in enumerate(slots):
            inputs[self.name][start + i] = self.rows[slot.row]

    def finish(self, slots: list[Slot], outputs: dict[str, NDArray[Any]], inputs: dict[str, NDArray[Any]]) -> None:
        assert all(len(y) == len(slots) for y in (*outputs.values(), *inputs.values()))
        self.batches.append(len(slots))
        for i, slot in enumerate(slots):
            assert inputs[self.name][i].tolist() == self.rows[slot.row]
            self.results.append((slot, {n: y[i].tolist() for n, y in outputs.items()}))

    def fail(self, slot: Slot, error: Exception) -> None:
        self.failures.append((slot, error))


def load(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> Loaded:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return Loaded(*load_session(ModelPlan(manifest, rows, **({"providers": ("cpu",), "run": "inline"} | settings))))


def model(loaded: Loaded, turns: Turns) -> Model:
    return Model("m", loaded, turns.call_soon, turns.now, Workers(turns.call_soon))


def test_what_comes_in_one_turn_goes_together(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4), turns)
    queue = Queue("x", 3)
    m.feed_from([queue])
    for i in range(6):
        queue.put(i, 0, 0)
        m.wake()
    assert len(turns.due) == 1
    turns.one()
    assert queue.batches == [4]
    assert len(turns.due) == 1  # the rest comes in a turn of its own, so that the loop is not held
    turns.all()
    assert queue.batches == [4, 2]
    assert [r["y"] for _, r in queue.results] == [[i, 2 * i] for i in range(6)]
    assert (m.counts.runs, m.counts.rows, m.batch_mean, m.state, m.running) == (2, 6, 3.0, "idle", None)
    assert m.counts.time.total == 2


def test_runs_follow_each_other_for_a_while_in_one_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4), turns)
    queue = Queue("x", 3)
    m.feed_from([queue])
    for i in range(18):
        queue.put(i, 0, 0)
    m.wake()
    monkeypatch.setattr(runner, "TURN_NS", 10_000)  # the clock of this test goes on by 1000 a look
    turns.one()
    assert queue.batches == [4, 4, 4]
    assert len(turns.due) == 1  # what is left after that comes in a later turn, so that the loop is not held
    turns.all()
    assert queue.batches == [4, 4, 4, 4, 2]
    assert [r["y"] for _, r in queue.results] == [[i, 2 * i] for i in range(18)]
    assert not turns.due


class Timers:
    """`call_later` of a loop whose time only the test moves."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.due: list[tuple[float, Callable[..., Any]]] = []

    def call_later(self, delay_s: float, callback: Callable[..., Any]) -> None:
        self.due.append((self.turns.time / 1e9 + delay_s, callback))

    def ring(self) -> None:
        at_s, callback = self.due.pop(0)
        self.turns.time = max(self.turns.time, int(at_s * 1e9))
        callback()


def test_a_run_waits_for_more_rows_but_not_for_long(tmp_path: Path) -> None:
    turns = Turns()
    timers = Timers(turns)
    loaded = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4)
    m = Model("m", loaded, turns.call_soon, turns.now, Workers(turns.call_soon), None, timers.call_later)
    queue = Queue("x", 3)
    m.feed_from([queue], delay_ns=10**9)

    def put(count: int) -> None:
        for _ in range(count):
            queue.put(1, 1, 1)
            m.wake()
        turns.all()

    put(1)
    put(2)
    assert (queue.batches, len(timers.due)) == ([], 1)
    assert timers.due[0][0] == pytest.approx(1, abs=1e-3)
    put(1)
    assert queue.batches == [4]  # full: it waits no longer
    put(1)
    timers.ring()  # that of the batch before
    turns.all()
    assert (queue.batches, len(timers.due)) == ([4], 1)
    timers.ring()
    turns.all()
    assert queue.batches == [4, 1]
    put(6)
    assert (queue.batches, queue.waiting()) == ([4, 1, 4], 2)
    m.hurry()
    turns.all()
    assert queue.batches == [4, 1, 4, 2]


def test_expired_rows_leave_room_for_others(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4), turns)
    a, b = Queue("x", 3), Queue("x", 3)
    m.feed_from([a, b])
    for i in range(8):
        a.put(i, 0, 0)
        b.put(i, 0, 0)
    a.expired = set(range(7))
    m.wake()
    turns.all()
    assert [s.row for s, _ in a.results] == [7]
    assert len(b.results) == 8
    a.expired = set(range(100))
    a.put(1, 1, 1)
    m.wake()
    turns.all()  # nothing left to run: no run, no spinning
    assert m.counts.rows == 9


def test_order_of_every_pipeline_and_key_is_kept(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=5), turns)
    queues = [Queue("x", 3) for _ in range(3)]
    m.feed_from(queues)
    rng = np.random.default_rng(1)
    for i in range(300):
        queue = queues[rng.integers(3)]
        queue.put(i, 1, 1, key=int(rng.integers(4)))
        m.wake()
        if rng.random() < 0.2 and turns.due:
            turns.one()
    turns.all()
    for queue in queues:
        for key in range(4):
            rows = [s.row for s, _ in queue.results if s.key == key]
            assert rows == sorted(rows)
    assert sum(len(q.results) for q in queues) == 300


def test_the_time_of_a_run_is_shared_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tick_within(monkeypatch, 1000, (runner, "run_rows"), (runner, "_gather"))
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4), turns)
    few, many = Queue("x", 3), Queue("x", 3)
    m.feed_from([few, many])
    for queue, count in ((few, 1), (many, 3)):
        for _ in range(count):
            queue.put(1, 1, 1)
    m.wake()
    turns.one()
    assert (few.counts.spent["run"], many.counts.spent["run"]) == (250, 750)
    assert m.counts.spent == {"batch": 1000, "run": 1000}


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16])
def test_a_flood_leaves_the_others_their_share(tmp_path: Path, batch: int) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=batch), turns)
    flood, other, drip = Queue("x", 3), Queue("x", 3), Queue("x", 3)
    m.feed_from([flood, other, drip])
    for i in range(2000):
        flood.put(i, 0, 0)
        other.put(i, 0, 0)
    m.wake()
    for i in range(60):
        if not drip.waiting():
            drip.put(i, 0, 0)
        turns.one()
    assert abs(len(flood.results) - len(other.results)) <= batch
    assert len(drip.results) >= min(60 * batch // 3, 59) - batch


def test_priority_goes_first(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4), turns)
    low, high = Queue("x", 3), Queue("x", 3, priority=5)
    m.feed_from([low, high])
    for i in range(6):
        low.put(i, 0, 0)
        high.put(i, 0, 0)
    m.wake()
    turns.one()
    assert (low.batches, high.batches) == ([], [4])
    turns.one()
    assert (low.batches, high.batches) == ([2], [4, 2])


@pytest.mark.parametrize("batch", ["n", 8])
def test_only_the_row_that_fails_is_rejected(tmp_path: Path, batch: int | str) -> None:
    turns = Turns()
    m = model(load(models.picky(tmp_path / "m.onnx", batch=batch), {"i": (1,)}, batch_max=8), turns)
    a, b = Queue("i", 1), Queue("i", 1)
    m.feed_from([a, b])
    for i in (0, 99, 2):
        a.put(i)
    for i in (3, -50):
        b.put(i)
    m.wake()
    turns.all()
    assert [r["y"] for _, r in a.results] == [[10.0], [12.0]]
    assert [s.row for s, _ in a.failures] == [1]
    assert [r["y"] for _, r in b.results] == [[13.0]]
    assert [s.row for s, _ in b.failures] == [1]
    assert (m.counts.failed, m.counts.repeats, m.state) == (2, 1, "failing")
    assert "out of data bounds" in m.reason
    for i in (1, 1, 1):  # padded with what is left in the arrays: none of it may be a bad row
        a.put(i)
    m.wake()
    turns.all()
    assert [r["y"] for _, r in a.results[2:]] == [[11.0]] * 3
    assert (m.counts.repeats, m.state) == (1, "idle")


def test_rows_that_all_fail(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.picky(tmp_path / "m.onnx"), {"i": (1,)}), turns)
    queue = Queue("i", 1)
    m.feed_from([queue])
    for i in (99, 98):
        queue.put(i)
    m.wake()
    turns.all()
    queue.put(97)
    m.wake()
    turns.all()
    assert (len(queue.failures), queue.results) == (3, [])


def test_a_swap_comes_between_two_runs(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "a.onnx"), {"x": (3,)}, batch_max=2), turns)
    queue = Queue("x", 3)
    m.feed_from([queue])
    other = load(models.linear(tmp_path / "b.onnx", out=1), {"x": (3,)}, batch_max=2)
    for _ in range(4):
        queue.put(1, 1, 1)
    m.wake()
    turns.one()
    m.replace(other, lambda: None)
    turns.all()
    assert [len(r["y"]) for _, r in queue.results] == [2, 2, 1, 1]
    assert m.loaded is other


def test_a_closed_model_begins_no_run(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}), turns)
    queue = Queue("x", 3)
    m.feed_from([queue])
    queue.put(1, 1, 1)
    m.wake()
    m.close()
    turns.all()
    m.wake()
    assert not turns.due
    assert (queue.waiting(), m.state) == (1, "closed")


async def test_on_the_worker_the_next_batch_gathers_meanwhile(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    loaded = load(models.slow(tmp_path / "m.onnx", width=128, layers=40), {"x": (128, 128)}, batch_max=4, run="worker")
    m = Model("m", loaded, loop.call_soon, lambda: int(loop.time() * 1e9), workers)
    done = asyncio.Event()

    class Windows(Queue):
        def gather(self, slots: list[Slot], inputs: dict[str, NDArray[Any]], start: int) -> None:
            for i, slot in enumerate(slots):
                inputs["x"][start + i] = self.rows[slot.row][0]

        def finish(self, slots: list[Slot], outputs: dict[str, NDArray[Any]], inputs: dict[str, NDArray[Any]]) -> None:
            self.batches.append(len(slots))
            self.results.extend((s, {"y": float(outputs["y"][i].mean())}) for i, s in enumerate(slots))
            if len(self.results) == 4:
                done.set()

    queue = Windows("x", 1)
    m.feed_from([queue])
    queue.put(0)
    m.wake()
    await asyncio.sleep(0)  # the turn that was scheduled
    assert m.state == "running"
    for i in (1, 2, 3):
        queue.put(i)
        m.wake()
    await asyncio.wait_for(done.wait(), 30)
    assert queue.batches == [1, 3]
    assert [round(r["y"], 3) for _, r in queue.results] == [0, 1, 2, 3]
    assert workers.close(10)


class Meeting:
    """A session whose runs end only when another one runs, too."""

    def __init__(self, inner: Any, barrier: threading.Barrier) -> None:
        self.inputs, self.batch_max = inner.inputs, inner.batch_max
        self._inner, self._barrier = inner, barrier

    def run(self, count: int) -> Any:
        self._barrier.wait(30)
        return self._inner.run(count)


class Counted(Queue):
    """A queue that says when twenty results are here."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__(name, width)
        self.all_here = asyncio.Event()

    def finish(self, slots: list[Slot], outputs: dict[str, NDArray[Any]], inputs: dict[str, NDArray[Any]]) -> None:
        super().finish(slots, outputs, inputs)
        if len(self.results) == 20:
            self.all_here.set()


async def test_models_run_side_by_side_and_each_in_order(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    workers.configure(2, None)
    barrier, path = threading.Barrier(2), models.linear(tmp_path / "m.onnx")
    both = []
    for name in "ab":
        loaded = load(path, {"x": (3,)}, batch_max=1, run="worker")
        m = Model(name, loaded._replace(session=Meeting(loaded.session, barrier)), loop.call_soon, time.monotonic_ns, workers)
        queue = Counted("x", 3)
        m.feed_from([queue])
        for i in range(20):
            queue.put(i, 0, 0)
            m.wake()
        both.append((m, queue))
    await asyncio.wait_for(asyncio.gather(*(queue.all_here.wait() for _, queue in both)), 60)
    for m, queue in both:
        assert [r["y"][0] for _, r in queue.results] == list(range(20))
        assert m.counts.failed == 0
    assert workers.close(10)


def test_a_model_has_the_highest_priority_of_its_pipelines(tmp_path: Path) -> None:
    turns = Turns()
    m = model(load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}), turns)
    assert m.priority == 0
    m.feed_from([Queue("x", 3, priority=-1), Queue("x", 3, priority=4), Queue("x", 3)])
    assert m.priority == 4


class Broken:
    """A session with a fault of ours: it fails whenever 13 is among the rows."""

    def __init__(self, inner: Any) -> None:
        self.inputs = inner.inputs
        self.batch_max = inner.batch_max
        self.failures = 0
        self._inner = inner

    def run(self, count: int) -> dict[str, NDArray[Any]]:
        if any((x[:count] == 13).any() for x in self.inputs.values()):
            self.failures += 1
            raise ZeroDivisionError("13")
        return self._inner.run(count)  # type: ignore[no-any-return]


def test_a_fault_in_a_run_costs_the_row_that_shows_it(tmp_path: Path) -> None:
    turns = Turns()
    models.identity(tmp_path / "same.onnx", 1, width=1)
    loaded = load(tmp_path / "same.onnx", {"x": (1,)})
    broken = Broken(loaded.session)
    m, queue = model(loaded._replace(session=broken), turns), Queue("x", 1)
    m.feed_from([queue])
    for value in (11, 13, 12):
        queue.put(value)
    m.wake()
    turns.all()
    assert [outputs["y"] for _, outputs in queue.results] == [[11], [12]]
    assert [(slot.row, type(error)) for slot, error in queue.failures] == [(1, ZeroDivisionError)]
    assert broken.failures == 2
    assert m.state == "failing"
    queue.put(14)
    m.wake()
    turns.all()
    assert queue.results[-1][1]["y"] == [14]


def test_a_fault_in_gathering_costs_those_rows_and_nobody_elses(tmp_path: Path) -> None:
    class Faulty(Queue):
        def gather(self, slots: list[Slot], inputs: dict[str, NDArray[Any]], start: int) -> None:
            super().gather(slots, inputs, start)
            if any(13 in self.rows[slot.row] for slot in slots):
                raise ZeroDivisionError("13")

    turns = Turns()
    models.identity(tmp_path / "same.onnx", 1, width=1)
    m = model(load(tmp_path / "same.onnx", {"x": (1,)}, batch_max=8), turns)
    first, second = Faulty("x", 1), Queue("x", 1)
    m.feed_from([first, second])
    first.put(13)
    second.put(21)
    second.put(22)
    m.wake()
    turns.all()
    assert [type(error) for _, error in first.failures] == [ZeroDivisionError]
    assert [outputs["y"] for _, outputs in second.results] == [[21], [22]]
    for value in (13, 14):  # alone in its batch, or before others
        first.put(value)
        m.wake()
        turns.all()
    assert (len(first.failures), [outputs["y"] for _, outputs in first.results]) == (2, [[14]])
    assert m.running is None
