"""The stages between a block and an outbox, driven by hand where a model would drive them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.clock.clock import Clock
from edged.model.inputs import Filler, InputPlan
from edged.model.records import RunFailed
from edged.mqtt.frames import reply_properties
from edged.pipeline.align import AlignPlan, AlignSource
from edged.pipeline.align.aligner import Aligner
from edged.pipeline.counts import PipelineCounts
from edged.pipeline.gate import FAR
from edged.pipeline.make import Order, make_pipeline
from edged.pipeline.preprocess import compose, compose_outputs, custom
from edged.pipeline.slots import Slots
from edged.pipeline.window import WindowStage
from edged.pipeline.wiring import Wiring
from edged.records import NONE, Block, Field, Receipt, Result
from edged.results.encode import Envelope, make_encoder
from edged.results.heads.raw import RawPlan
from edged.results.publish import Publish
from edged.results.when import Condition, When, WhenPlan
from edged.sources.replies import Replies
from edged.telemetry import PublishCounts
from edged.topics import parse_filter
from tests.fakes.outlet import Outlet
from tests.pipeline.test_parked import Counted
from tests.support.mqtt_peer import text

STEPS = """
def refuse(row):
    if row.max() > 99:
        raise ValueError("too much")
    return row

def after(outputs):
    if outputs["y"].max() > 49:
        raise ValueError("too much")
    return {"y": outputs["y"] + 1}
"""


class Faulty:
    """A stage with a fault of ours: it fails when 13 is among what it is given, before it has done anything."""

    def __init__(self, inner: Callable[..., Any], given: Callable[..., Any] = lambda *a: a[0]) -> None:
        self.inner = inner
        self.given = given
        self.failures = 0

    def __call__(self, *arguments: Any) -> Any:
        if 13 in np.ravel(self.given(*arguments)):
            self.failures += 1
            raise ZeroDivisionError("13")
        return self.inner(*arguments)


class Doorman:
    """A gate with a fault of ours: it fails for the sample of second 2, and otherwise says `answer`."""

    def __init__(self, answer: bool | None = True) -> None:
        self.answer = answer
        self.newest = FAR
        self.failures = 0

    def since(self) -> int:
        return FAR

    def verdict(self, _key: int, _arrival: int, time: int, since: int | None = None) -> bool | None:
        if time == 2 * 10**9 and self.answer is not None:
            self.failures += 1
            raise ZeroDivisionError("2")
        return self.answer


def result_values(result: Result, _: int) -> Any:
    return next(iter(result.body["outputs"].values()))


class Rig:
    """A pipeline with one input `x`, and a model that answers `y = x` when told to run."""

    def __init__(
        self,
        *,
        window: tuple[int, int] | None = None,
        slots: int = 4,
        overflow: str = "drop_oldest",
        model: bool = True,
        align: AlignPlan | None = None,
        pre: str | None = None,
        post: str | None = None,
        folder: Path | None = None,
        when: WhenPlan | None = None,
        qos: int = 1,
        width: int = 1,
        keys: int = 4,
        room: int = 1 << 30,
        deadline: int = 0,
        tells_again: bool = False,
        faulty: str = "",
        gate: Any = None,
    ) -> None:
        self.outlet = Outlet(room)
        self.sent = self.outlet.sent
        self.held: list[bool] = []
        self.wakes = 0
        self.alarms: list[int] = []
        shape = (window[0], width) if window else (width,)
        tensors = ("y",) if model else ("v",)
        output = RawPlan(tensors, max_keys=keys)
        envelope = Envelope("d", "p", None, "r")
        encode: Any = make_encoder(envelope, output.result_fields())
        made: Any = output.make_head()
        ring: Any = WindowStage(window[0], window[1], None, width, keys, np.float32) if window else None
        filler: Any = Filler(InputPlan("x", shape))
        before: Any = compose([custom(pre, folder)], shape) if pre and folder else None
        latest: Any = When(when, keys) if when is not None else None
        self.fault: Faulty
        match faulty:
            case "preprocess":
                before = self.fault = Faulty(lambda rows: rows)
            case "window":
                ring.push = self.fault = Faulty(ring.push, lambda block, _: block.values)
            case "fill":
                filler.fill = Faulty(filler.fill, lambda _, values: values)
                filler.fill_many = self.fault = Faulty(filler.fill_many, lambda _, rows, values: values)
            case "head":
                made.results = self.fault = Faulty(made.results, lambda outputs, *_: next(iter(outputs.values())))
            case "when":
                latest = When(WhenPlan(Condition(of=("seq",), above=0)), keys)
                latest.decide = self.fault = Faulty(lambda result, _: result, result_values)
            case "encode":
                encode = self.fault = Faulty(encode, result_values)
            case "send":
                outlet: Any = self.outlet
                outlet.send = self.fault = Faulty(outlet.send, lambda message: 13 if b"13.0" in message.body else 0)
        self.entry = Publish(
            encoder=encode,
            when=latest,
            topic=lambda key: b"out/%d" % key,
            outlet=self.outlet,
            counts=PublishCounts("p"),
            qos=qos,
            retain=False,
        )
        self.counts = PipelineCounts("pipeline.p")
        self.slots = Slots(slots, {"x": (shape, np.float32)}, overflow, self.counts.drops)
        postprocess = compose_outputs([post], folder, {"y": (shape, np.float32)}) if post and folder else None
        order = Order(
            aligner=Aligner(align) if align else None,
            window=ring,
            preprocess=before,
            fillers={"x": filler},
            slots=self.slots,
            wake=self._wake if model else None,
            postprocess=postprocess,
            head=made,
            fields=(Field("v", 0, 1),),
            publishes=[self.entry],
            overflow=overflow,
            hold_sources=self.held.append,
            counts=self.counts,
            clock=Clock(),
            alarm=self.alarms.append,
            deadline=deadline,
            tells_again=tells_again,
            gate=gate,
            answer=encode,
        )
        self.pipeline = make_pipeline("p", order)
        self._shape = shape

    def _wake(self) -> None:
        self.wakes += 1

    def push(
        self, *values: float, key: int | list[int] = 0, receipts: list[Receipt] | None = None, age: int = 0, **more: Any
    ) -> None:
        rows = np.array(values, np.float32).reshape(len(values), -1)
        times = np.arange(len(values)) * 10**9
        keys: Any = key if isinstance(key, int) else np.array(key, np.int32)
        receipts = receipts or [NONE]
        self.pipeline.push(0, Block(rows, times, 0, Clock().now() - age, keys, receipts, **more))
        for receipt in receipts:  # the router's own
            receipt.done()
        self.check()

    def run(self, limit: int = 100, fail: Callable[[float], bool] = lambda x: False) -> int:
        """One run of the model, as `model.runner` does it."""
        slots = self.pipeline.take(limit, Clock().now())
        x = np.zeros((max(1, len(slots)), *self._shape), np.float32)
        self.pipeline.gather(slots, {"x": x}, 0)
        good = [i for i in range(len(slots)) if not fail(float(x[i].max()))]
        for i, slot in enumerate(slots):
            if i not in good:
                self.pipeline.fail(slot, RunFailed("no"))
        if good:
            self.pipeline.finish([slots[i] for i in good], {"y": x[good].copy()}, {"x": x[good]})
        self.check()
        return len(slots)

    def check(self) -> None:
        assert self.counts.balance(len(self.slots)) == 0
        assert self.counts.running == 0

    @property
    def results(self) -> list[Any]:
        return [msgspec.json.decode(m.body + b"}") for m in self.sent]

    @property
    def values(self) -> list[Any]:
        return [np.ravel(next(iter(r["outputs"].values()))).tolist() for r in self.results]


def test_rows_wait_run_and_are_published_in_order() -> None:
    rig = Rig()
    rig.push(1, 2, 3)
    assert (rig.wakes, rig.sent, rig.pipeline.waiting()) == (1, [], 3)
    assert rig.run(2) == 2
    assert rig.run(2) == 1
    assert rig.values == [[1], [2], [3]]
    assert [r["seq"] for r in rig.results] == [1, 2, 3]
    assert rig.results[2]["time"] == "1970-01-01T00:00:02.000000Z"
    assert (rig.counts.due, rig.counts.published, rig.counts.age.total) == (3, 3, 3)


def test_a_receipt_is_held_by_slot_and_message_until_the_broker_has_it() -> None:
    rig = Rig()
    receipts = [Receipt(i) for i in range(3)]
    rig.push(1, 2, 3, receipts=receipts)
    assert [r.owed for r in receipts] == [1, 1, 1]
    rig.run()
    assert [r.owed for r in receipts] == [1, 1, 1]
    for message in rig.sent:
        message.receipt.done()
    assert [r.owed for r in receipts] == [0, 0, 0]


def test_filtered_failed_and_overflown_rows_settle_their_inputs() -> None:
    rig = Rig(slots=3, when=WhenPlan(Condition(of=("seq",), above=1)), qos=0)
    receipts = [Receipt(i) for i in range(6)]
    rig.push(1, 2, 3, 4, 5, receipts=receipts[:5])
    rig.push(6, receipts=receipts[5:])
    assert rig.counts.drops.by_reason == {"overflow": 2}
    rig.run(fail=lambda x: x == 4)
    rig.run()
    assert rig.counts.drops.by_reason == {"overflow": 2, "model_error": 1}
    assert (rig.counts.published, rig.counts.filtered) == (0, 3)
    assert [r.owed for r in receipts] == [0] * 6


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("window", [None, (2, 1)])
def test_a_burst_in_one_read_is_no_overload(overflow: str, window: tuple[int, int] | None) -> None:
    rig = Rig(slots=4, overflow=overflow, window=window)
    rig.push(*range(50))
    while rig.run(3):
        pass
    assert [value[-1] for value in rig.values] == [*range(0 if window is None else 1, 50)]
    assert (rig.counts.drops.total, rig.held) == (0, [])


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
@pytest.mark.parametrize("hop", [4, 100])
def test_a_read_of_many_samples_costs_each_message_once(overflow: str, hop: int) -> None:
    """Two rooms of audio, 100 messages of 40 samples in a read: all windows are run, and no message is touched a sample."""
    rig = Rig(window=(100, hop), slots=2, keys=2, overflow=overflow)
    receipts = [Counted(i) for i in range(100)]
    rooms = [i // 40 % 2 for i in range(4000)]
    rig.pipeline.push(
        0,
        Block(
            np.arange(4000, dtype=np.float32).reshape(-1, 1),
            np.arange(4000) * 10**6,
            0,
            Clock().now(),
            np.array(rooms, np.int32),
            [receipts[i // 40] for i in range(4000)],
        ),
    )
    while rig.pipeline.has_waiting:
        assert rig.run(2)
    assert rig.counts.drops.total == 0
    newest = [value[-1] for value in rig.values]
    for room in (0, 1):
        samples = [i for i in range(4000) if rooms[i] == room]
        assert [v for v in newest if rooms[int(v)] == room] == samples[99::hop]
    assert [(r.owed, r.touched) for r in receipts] == [(1, receipts[i].touched) for i in range(100)]
    assert max(r.touched for r in receipts) <= 4


@pytest.mark.parametrize("overflow", ["drop_oldest", "block"])
def test_samples_of_keys_that_complete_no_window_need_no_slot(overflow: str) -> None:
    rig = Rig(window=(8, 8), slots=1, keys=2, overflow=overflow)
    rig.push(*range(14), key=[0, 1] * 7)
    assert (rig.pipeline.parked, len(rig.slots), rig.held[-1:]) == (0, 0, [False] if overflow == "block" else [])
    rig.push(14, 15, key=[0, 1])
    assert (rig.pipeline.parked, len(rig.slots)) == (1, 1)  # the second window has no place yet
    while rig.run():
        pass
    assert rig.values == [list(range(0, 16, 2)), list(range(1, 16, 2))]


def test_a_window_settles_its_samples_at_once() -> None:
    rig = Rig(window=(3, 2))
    receipts = [Receipt(i) for i in range(5)]
    rig.push(1, 2, receipts=receipts[:2])
    rig.push(3, 4, 5, receipts=receipts[2:])
    assert [r.owed for r in receipts] == [0] * 5
    rig.run()
    assert rig.values == [[1, 2, 3], [3, 4, 5]]


def test_windows_of_keys_are_apart() -> None:
    rig = Rig(window=(2, 2))
    rig.push(1, 10, 2, 20, key=[0, 1, 0, 1])
    rig.run()
    assert sorted(zip([m.topic for m in rig.sent], rig.values, strict=True)) == [(b"out/0", [1, 2]), (b"out/1", [10, 20])]


def test_without_a_model_the_fields_are_the_result() -> None:
    rig = Rig(model=False)
    receipts = [Receipt(1), Receipt(2)]
    rig.push(1, 2, receipts=receipts)
    assert [r["outputs"] for r in rig.results] == [{"v": 1}, {"v": 2}]
    assert [r.owed for r in receipts] == [1, 1]  # the messages hold them
    windowed = Rig(model=False, window=(2, 1))
    windowed.push(1, 2, 3)
    assert [r["outputs"] for r in windowed.results] == [{"v": [1, 2]}, {"v": [2, 3]}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


@pytest.mark.parametrize("model", [True, False])
def test_a_row_that_a_step_refuses_is_counted_alone(folder: Path, model: bool) -> None:
    rig = Rig(model=model, pre="steps.py:refuse", folder=folder, slots=9)
    receipts = [Receipt(i) for i in range(5)]
    rig.push(1, 100, 2, 200, 3, receipts=receipts)
    if model:
        rig.run()
    assert rig.values == [[1], [2], [3]]
    assert rig.counts.drops.by_reason == {"preprocess": 2}
    assert [r.owed for r in receipts] == [1, 0, 1, 0, 1]
    rig.push(100)
    assert rig.counts.drops.by_reason == {"preprocess": 3}


def test_a_window_that_a_step_refuses(folder: Path) -> None:
    rig = Rig(window=(2, 2), pre="steps.py:refuse", folder=folder)
    rig.push(1, 100, 2, 3)
    rig.run()
    assert rig.values == [[2, 3]]
    assert rig.counts.drops.by_reason == {"preprocess": 1}


def test_a_row_that_a_step_after_the_model_refuses(folder: Path) -> None:
    rig = Rig(post="steps.py:after", folder=folder)
    receipts = [Receipt(i) for i in range(4)]
    rig.push(50, 1, 60, 2, receipts=receipts)
    rig.run()
    assert rig.values == [[2], [3]]
    assert rig.counts.drops.by_reason == {"postprocess": 2}
    assert [r.owed for r in receipts] == [0, 1, 0, 1]


def test_block_parks_what_does_not_fit_and_takes_it_in_order() -> None:
    rig = Rig(slots=2, overflow="block")
    receipts = [Receipt(i) for i in range(7)]
    rig.push(1, 2, 3, 4, 5, receipts=receipts[:5])
    rig.push(6, 7, receipts=receipts[5:])
    assert (rig.pipeline.parked, rig.held) == (2, [True])
    assert [r.owed > 0 for r in receipts] == [True] * 7
    while rig.run(1):
        pass
    assert rig.values == [[i] for i in range(1, 8)]
    assert (rig.pipeline.parked, rig.held, rig.counts.drops.total) == (0, [True, False], 0)
    for message in rig.sent:
        message.receipt.done()
    assert [r.owed for r in receipts] == [0] * 7


def test_block_with_a_window_parks_before_the_ring() -> None:
    rig = Rig(window=(4, 2), slots=1, overflow="block")
    rig.push(*range(20))
    assert rig.pipeline.parked
    while rig.run(1):
        pass
    assert rig.values == [list(range(i, i + 4)) for i in range(0, 17, 2)]
    assert rig.counts.drops.total == 0


def test_a_restarted_key_forgets_what_waits() -> None:
    rig = Rig(slots=9)
    rig.push(1, 2, 3, key=[0, 1, 0])
    rig.push(4, key=0, restarts=(0,))
    rig.run()
    assert rig.values == [[2], [4]]
    assert rig.counts.drops.by_reason == {"restart": 2}


HOUR = 3600 * 10**9


def test_what_is_too_old_is_not_run() -> None:
    rig = Rig(slots=9, deadline=HOUR)
    receipts = [Receipt(i) for i in range(4)]
    rig.push(1, 2, receipts=receipts[:2], age=2 * HOUR)
    rig.push(3, 4, receipts=receipts[2:])
    assert rig.run(1) == 1  # as many as were asked for, of those that are in time
    assert rig.run() == 1
    assert rig.values == [[3], [4]]
    assert rig.counts.drops.by_reason == {"expired": 2}
    assert [r.owed for r in receipts] == [0, 0, 1, 1]
    assert rig.slots.free == 9


def test_what_became_too_old_in_its_run_is_not_published_and_the_next_run_is_chosen_better() -> None:
    rig = Rig(slots=9, deadline=HOUR)
    receipts = [Receipt(i) for i in range(2)]
    rig.push(1, receipts=receipts[:1], age=HOUR // 2)
    slots = rig.pipeline.take(9, Clock().now() - HOUR * 3 // 4)  # a run of three quarters of an hour
    x = np.zeros((1, 1), np.float32)
    rig.pipeline.gather(slots, {"x": x}, 0)
    slots[0].arrival -= HOUR
    rig.pipeline.finish(slots, {"y": x}, {"x": x})
    rig.check()
    assert (rig.sent, receipts[0].owed, rig.counts.drops.by_reason) == ([], 0, {"expired": 1})
    rig.push(2, age=HOUR // 2)  # would be too old after such a run
    rig.push(3)
    rig.run()
    assert rig.values == [[3]]
    assert rig.counts.drops.by_reason == {"expired": 2}


def test_a_run_longer_than_the_deadline_does_not_keep_what_has_just_come_from_being_tried() -> None:
    rig = Rig(deadline=HOUR)
    rig.push(1)
    slots = rig.pipeline.take(9, Clock().now() - 10 * HOUR)
    x = np.zeros((1, 1), np.float32)
    rig.pipeline.gather(slots, {"x": x}, 0)
    rig.pipeline.finish(slots, {"y": x}, {"x": x})
    rig.push(2)
    rig.run()
    assert len(rig.values) == 2


def test_rows_that_expire_let_parked_ones_in() -> None:
    rig = Rig(slots=2, overflow="block", deadline=HOUR)
    rig.push(1, 2, 3, 4, 5, age=2 * HOUR)
    rig.push(6)
    assert rig.pipeline.parked
    while rig.pipeline.parked:
        rig.run()
    rig.run()
    assert rig.values == [[6]]
    assert rig.counts.drops.by_reason == {"expired": 5}
    assert rig.held == [True, False]


def test_without_a_model_and_in_a_chain_what_is_too_old_goes_no_further() -> None:
    rig = Rig(model=False, deadline=HOUR)
    passed: list[Block] = []
    rig.pipeline.connect(Wiring(followers=[passed.append]))
    rig.push(1, age=2 * HOUR)
    assert (rig.sent, passed, rig.counts.drops.by_reason) == ([], [], {"expired": 1})


def test_outputs_that_are_not_finite_are_no_result() -> None:
    rig = Rig(slots=9)
    rig.push(1, 2)
    slots = rig.pipeline.take(9, 0)
    x = np.zeros((2, 1), np.float32)
    rig.pipeline.gather(slots, {"x": x}, 0)
    rig.pipeline.finish(slots, {"y": np.array([[np.nan], [1]], np.float32)}, {"x": x})
    rig.check()
    assert rig.values[-1] == [1]


def test_degraded_samples_mark_their_result() -> None:
    rig = Rig()
    rig.push(1, 2, degraded=np.array([False, True]))
    rig.run()
    assert [r.get("degraded") for r in rig.results] == [None, True]


def test_two_sources_are_joined_before_the_window() -> None:
    plan = AlignPlan((AlignSource("a", 1, None), AlignSource("b", 1, 10**12)), max_keys=1)
    rig = Rig(align=plan, width=2, window=(2, 2))
    clock = Clock()

    def block(*values: float) -> Block:
        now = clock.now()
        return Block(np.array(values, np.float32)[:, None], np.full(len(values), now), clock.offset(), now)

    rig.pipeline.push(0, block(1))  # nothing known of b yet
    rig.pipeline.push(1, block(10))
    rig.pipeline.push(0, block(2))
    rig.pipeline.push(1, block(20))
    rig.pipeline.push(0, block(3))
    rig.run()
    assert rig.values == [[2, 10, 3, 20]]


def test_held_back_results_set_the_alarm_and_go_at_the_tick() -> None:
    rig = Rig(when=WhenPlan(min_interval=1))
    rig.push(1)
    rig.run()
    rig.entry.offer_due(2**62)
    slow = Rig(when=WhenPlan(min_interval=10**15))
    slow.push(1, 2)
    slow.run()
    assert len(slow.alarms) == 1
    slow.pipeline.tick()
    assert len(slow.sent) == 1


def test_a_stop_counts_what_still_waits() -> None:
    rig = Rig(slots=2, overflow="block")
    receipts = [Receipt(i) for i in range(4)]
    rig.push(1, 2, 3, 4, receipts=receipts)
    assert rig.pipeline.abandon() == 4
    assert rig.counts.drops.by_reason == {"shutdown": 4}
    assert rig.pipeline.parked == 0
    assert [receipt.owed for receipt in receipts] == [1, 1, 1, 1]  # never acknowledged, so the broker sends them again
    rig.check()


@given(
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "latest_only", "block"]),
    window=st.sampled_from([None, (2, 1), (3, 2), (1, 3)]),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 7)), max_size=12),
    deadline=st.sampled_from([0, HOUR]),
)
def test_the_ledger_is_exact_at_all_times(
    overflow: str, window: tuple[int, int] | None, steps: list[tuple[bool, int]], deadline: int
) -> None:
    rig = Rig(window=window, overflow=overflow, slots=3, keys=3, deadline=deadline)
    receipts: list[Receipt] = []
    for is_push, count in steps:
        if is_push:
            some = [Receipt(len(receipts) + i) for i in range(count)]
            receipts += some
            rig.push(*range(count), key=[i % 3 for i in range(count)], receipts=some, age=count % 2 * 2 * HOUR)
        else:
            rig.run(count)
    while rig.run(2) or len(rig.slots):
        pass
    for message in rig.sent:
        message.receipt.done()
    assert all(r.owed == 0 for r in receipts)
    assert rig.pipeline.parked == 0
    assert rig.held == [True, False] * (len(rig.held) // 2)
    if overflow == "block":
        assert rig.counts.drops.by_reason.keys() <= ({"expired"} if deadline else set())


def test_what_the_broker_sends_again_waits_no_more() -> None:
    """Rows in slots and parked blocks go; those of messages at QoS 0, and of another connection, stay."""
    rig = Rig(slots=2, overflow="block")
    receipts = [Receipt(i) for i in range(8)]
    rig.push(1, 2, 3, 4, receipts=receipts[:4])
    rig.push(5, 6, receipts=receipts[4:6])
    rig.push(7, 8, receipts=receipts[6:])
    rig.push(9)
    rig.pipeline.supersede(set(receipts[1:6]))
    assert rig.counts.drops.by_reason == {"superseded": 5}
    while rig.run(1):
        pass
    assert rig.values == [[1], [7], [8], [9]]
    assert rig.counts.due == 9
    assert rig.held == [True, False]


def test_a_stalled_output_stops_a_blocking_source_after_exactly_slots_and_outbox() -> None:
    rig = Rig(overflow="block", slots=4, room=3)
    receipts = [Receipt(i) for i in range(12)]
    rig.push(*range(12), receipts=receipts)
    while rig.run(2):
        pass
    assert (len(rig.sent), len(rig.slots), rig.counts.drops.total) == (3, 4, 0)
    assert rig.held == [True]
    assert sum(r.owed > 0 for r in receipts) == 12  # three by messages, four by slots, five by the parked block
    wakes = rig.wakes
    rig.outlet.give(2)
    assert rig.wakes == wakes + 1
    while rig.run(2):
        pass
    assert (len(rig.sent), len(rig.slots)) == (5, 4)
    rig.outlet.give(100)
    while rig.run(2):
        pass
    assert rig.values == [[i] for i in range(12)]
    assert rig.held == [True, False]


def test_without_a_model_a_stalled_output_parks_the_rest() -> None:
    rig = Rig(overflow="block", model=False, room=3)
    rig.push(*range(8))
    assert (len(rig.sent), rig.pipeline.parked, rig.held) == (3, 1, [True])
    rig.outlet.give(100)
    assert rig.values == [[i] for i in range(8)]
    assert rig.held == [True, False]


def test_what_waits_for_a_broker_that_is_away_is_no_reason_to_wait_at_a_stop() -> None:
    rig = Rig(overflow="block", room=0)
    rig.push(1)
    assert rig.pipeline.is_busy
    rig.outlet.is_stalled = True
    assert not rig.pipeline.is_busy


@pytest.mark.parametrize("window", [None, (2, 1)])
def test_while_memory_is_short_what_is_due_and_what_waits_is_dropped(window: tuple[int, int] | None) -> None:
    rig = Rig(window=window)
    receipts = [Receipt(1), Receipt(2)]
    rig.push(1, 2, receipts=receipts)
    waiting = rig.pipeline.waiting()
    assert waiting == (1 if window else 2)
    rig.pipeline.shed(True)
    assert rig.counts.drops.by_reason == {"memory": waiting}
    assert [r.owed for r in receipts] == [0, 0]
    rig.push(3)
    assert rig.counts.drops.by_reason == {"memory": waiting + 1}
    assert rig.pipeline.waiting() == 0
    rig.pipeline.shed(False)
    rig.push(4)  # windows go on where they were: their samples were not dropped
    rig.run()
    assert rig.counts.published == 1
    rig.check()


def test_while_memory_is_short_what_may_not_be_lost_waits_at_its_origin() -> None:
    rig = Rig(overflow="block")
    rig.push(1)
    rig.pipeline.shed(True)
    receipt = Receipt(1)
    rig.push(2, receipts=[receipt])
    assert (rig.pipeline.parked, rig.held, receipt.owed) == (1, [True], 1)
    rig.run()
    assert rig.pipeline.parked == 1
    rig.pipeline.shed(False)
    assert (rig.pipeline.parked, rig.held) == (0, [True, False])
    rig.run()
    assert rig.counts.published == 2
    assert rig.counts.drops.total == 0
    rig.check()


@pytest.mark.parametrize("faulty", ["preprocess", "fill", "head", "when", "encode", "send"])
@pytest.mark.parametrize("window", [None, (1, 1)])
@pytest.mark.parametrize("model", [True, False])
def test_a_fault_in_a_stage_costs_the_row_that_shows_it(faulty: str, window: tuple[int, int] | None, model: bool) -> None:
    if faulty == "fill" and not model:
        return  # there is none
    rig = Rig(faulty=faulty, window=window, model=model, slots=8)
    receipts = [Receipt(i) for i in range(5)]
    rig.push(11, 12, 13, 14, 15, receipts=receipts)
    rig.run()
    assert rig.values == [[11], [12], [14], [15]]
    dropped = rig.counts.drops if faulty in ("preprocess", "fill", "head") else rig.entry.counts.drops
    assert dropped.by_reason == {"internal_error": 1}
    assert rig.fault.failures <= 2
    for message in rig.sent:
        message.receipt.done()
    assert [r.owed for r in receipts] == [0] * 5


@pytest.mark.parametrize("model", [True, False])
@pytest.mark.parametrize("place", ["entry", "teller", "follower", "judge"])
def test_a_fault_beside_the_stages_ends_nothing_and_is_counted(place: str, model: bool) -> None:
    """Of whatever a row meets here: it costs that row at most, and neither the next one nor whoever called."""
    rig = Rig(model=model, slots=8)
    pipeline: Any = rig.pipeline
    fault = Faulty(lambda *_: None, lambda *what: getattr(what[0], "values", 13) if what else 13)
    match place:
        case "entry":
            fault = pipeline._admission._enter = Faulty(pipeline._admission._enter, lambda _, block: block.values)
        case "teller":
            pipeline.connect(Wiring(tellers=[fault]))
        case "follower":
            pipeline._chain._results = [(Field("v", 0, 1), ("outputs", "y" if model else "v"))]
            pipeline.connect(Wiring(followers=[fault]))
        case "judge":
            pipeline.connect(Wiring(judges=[fault]))
    receipts = [Receipt(i) for i in range(5)]
    rig.push(11, 12, 13, 14, 15, receipts=receipts)
    rig.run()
    rig.push(16)
    rig.run()
    assert [v for [v] in rig.values] == [11, 12, *([] if place == "entry" else [13]), 14, 15, 16]
    assert set(rig.counts.drops.by_reason) == {"internal_error"}
    assert fault.failures >= 1
    rig.check()
    for message in rig.sent:
        message.receipt.done()
    assert [r.owed for r in receipts] == [0] * 5


@pytest.mark.parametrize("window", [None, (1, 1)])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_fault_in_the_gate_costs_the_row_that_shows_it(window: tuple[int, int] | None, is_late: bool) -> None:
    """Whether it is asked as the rows come, or later, when it can judge them."""
    doorman = Doorman(None if is_late else True)
    rig = Rig(window=window, slots=8, gate=doorman)
    receipts = [Receipt(i) for i in range(5)]
    rig.push(11, 12, 13, 14, 15, receipts=receipts)
    doorman.answer = True
    rig.pipeline.judge()
    rig.run()
    assert rig.values == [[11], [12], [14], [15]]
    assert rig.counts.drops.by_reason == {"internal_error": 1}
    assert (doorman.failures, rig.counts.gated) == (1, 0)
    assert not rig.pipeline.is_busy
    for message in rig.sent:
        message.receipt.done()
    assert [r.owed for r in receipts] == [0] * 5


def test_a_fault_in_what_was_parked_lets_go_of_it() -> None:
    rig = Rig(slots=1, overflow="block")
    receipts = [Receipt(i) for i in range(3)]
    rig.push(1, receipts=receipts[:1])
    rig.push(13, receipts=receipts[1:2])
    rig.push(2, receipts=receipts[2:])
    pipeline: Any = rig.pipeline
    pipeline._admission._due.take = Faulty(pipeline._admission._due.take, lambda block: block.values)
    while rig.run():
        pass
    for message in rig.sent:
        message.receipt.done()
    assert [v for [v] in rig.values] == [1, 2]
    assert rig.counts.drops.by_reason == {"internal_error": 1}
    assert [r.owed for r in receipts] == [0] * 3
    assert not rig.pipeline.is_busy


def test_the_last_result_is_the_last_that_was_made(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    rig = Rig(post="steps.py:after", folder=tmp_path)
    rig.push(1)
    rig.run()
    since = rig.counts.last_result
    assert since
    assert rig.counts.age.total == 1
    for _ in range(3):
        rig.push(60)
        rig.run()
    assert rig.counts.drops.by_reason == {"postprocess": 3}
    assert (rig.counts.last_result, rig.counts.age.total) == (since, 1)
    rig.push(60, 2)
    rig.run()
    assert rig.counts.last_result > since


def test_results_in_which_nothing_is_finite_are_as_good_as_none() -> None:
    rig = Rig(width=2)
    for values in ((1, 2), (float("nan"), 2), (float("nan"), float("inf"))):
        rows = np.array([values], np.float32)
        rig.pipeline.push(0, Block(rows, np.zeros(1, np.int64), 0, Clock().now()))
        rig.run()
    losses = rig.counts.drops.losses
    assert losses is not None
    assert (rig.counts.published, rig.counts.hollow, losses.rows, losses.reason) == (3, 1, 1, "not_finite")
    assert rig.values == [[1, 2], [None, 2], [None, None]]


@pytest.mark.parametrize("key", [0, [0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 0, 1, 2, 2, 3, 3]])
def test_a_fault_in_a_window_costs_the_sample_that_shows_it(key: int | list[int]) -> None:
    rig = Rig(faulty="window", window=(2, 2), slots=8)
    receipts = [Receipt(i) for i in range(8)]
    rig.push(*range(10, 18), key=key, receipts=receipts)
    rig.run()
    seen = sorted(x for window in rig.values for x in window)
    assert len(seen) == len(set(seen)) == 6
    assert 13 not in seen
    assert rig.counts.drops.by_reason == {"internal_error": 1}
    assert rig.fault.failures <= 2
    assert [r.owed for r in receipts] == [0] * 8


def seen(*flags: bool) -> dict[str, Any]:
    return {"seen": np.array(flags)}


def test_a_sample_that_came_before_does_not_enter_a_ring_again() -> None:
    rig = Rig(window=(3, 3), tells_again=True)
    rig.push(1, 2)
    rig.push(1, 2, 3, 4, **seen(True, True, False, False))
    rig.push(3, **seen(True))
    rig.push(5, 6)
    rig.run()
    assert rig.values == [[1, 2, 3], [4, 5, 6]]
    assert rig.counts.drops.by_reason == {"duplicate": 3}


def test_an_input_without_a_ring_is_answered_again() -> None:
    rig = Rig(tells_again=True)
    rig.push(1, 2, **seen(True, True))
    rig.run()
    assert rig.values == [[1], [2]]
    assert rig.counts.drops.total == 0


def test_what_is_parked_in_front_of_a_ring_that_knows_it_stays_when_it_comes_again() -> None:
    rig = Rig(window=(1, 1), slots=1, overflow="block", tells_again=True)
    receipts = [Receipt(i) for i in range(3)]
    rig.push(1, 2, 3, receipts=receipts)
    rig.pipeline.supersede(set(receipts))
    rig.push(1, 2, 3, 4, **seen(True, True, True, False))
    while rig.run():
        pass
    assert rig.values == [[1], [2], [3], [4]]
    assert rig.counts.drops.by_reason == {"duplicate": 3}


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 5)), min_size=1, max_size=6),
    st.sampled_from([None, (2, 1), (3, 2), (4, 4)]),
    st.sampled_from(["drop_oldest", "drop_newest", "latest_only", "block"]),
    st.booleans(),
)
def test_a_result_carries_what_its_newest_sample_does(
    blocks: list[tuple[list[int], int]], window: tuple[int, int] | None, overflow: str, model: bool
) -> None:
    rig = Rig(window=window, overflow=overflow, slots=2, model=model)
    first = 1
    for keys, limit in blocks:
        values = range(first, first + len(keys))
        first += len(keys)
        rig.push(*values, key=keys, carried=[b'{"id":%d}' % v if v % 5 else None for v in values])
        if model and limit:
            rig.run(limit)
    while model and rig.run():
        pass
    assert [r.get("carried") for r in rig.results] == [{"id": v[-1]} if v[-1] % 5 else None for v in rig.values]


class Asking(Rig):
    """With requests: `ask` pushes rows that each are one, unless they are said to be `others`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answers = Outlet()
        self.replies = Replies("source.s: answers", lambda due: None)
        self.replies.configure([parse_filter("clients/+")], self.answers.send, self.pipeline.expire)

    def ask(self, *values: float, others: Sequence[float] = (), age: int = 0, expiry_s: int | None = None) -> list[Receipt]:
        """The receipts of the PUBLISHes."""
        publishes = [Receipt(i + 1) for i in range(len(values))]
        given: list[Receipt] = []
        for value, receipt in zip(values, publishes, strict=True):
            if value in others:
                given.append(receipt)
                continue
            properties = b"\x08" + text(b"clients/a") + reply_properties(b"%g" % value, expiry_s)
            ask = self.replies.ask(properties, receipt, 1, Clock().now() - age)
            assert ask is not None
            given.append(ask)
            receipt.done()
        self.push(*values, receipts=given, age=age, has_requests=True)
        return publishes

    @property
    def said(self) -> list[Any]:
        """What each answer says, by its Correlation Data: the result, or a code."""
        found = []
        for m in self.answers.sent:
            body = msgspec.json.decode(m.body + b"}" * m.is_json)
            result = np.ravel(next(iter(body["outputs"].values()))).tolist() if m.is_json else body["error"]["code"]
            found.append((int(m.properties[3:]), result))
        return found

    def settle(self) -> None:
        for message in self.answers.sent:
            assert message.account is not None
            message.account.acked += 1
            message.let_go()
        assert self.replies.counts.balance() == 0
        assert self.replies.counts.waiting == 0


def test_a_request_has_its_result_and_is_published_nowhere() -> None:
    rig = Asking()
    publishes = rig.ask(1, 2, 3, others=[2])
    rig.run()
    assert rig.said == [(1, [1]), (3, [3])]
    assert rig.values == [[2]]
    assert [r.owed for r in publishes] == [1, 1, 1]
    rig.settle()
    rig.sent[0].let_go()
    assert [r.owed for r in publishes] == [0, 0, 0]
    assert rig.counts.published == 3


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "latest_only", "block"])
def test_a_request_that_finds_no_slot_is_told_so_at_once(overflow: str) -> None:
    rig = Asking(slots=2, overflow=overflow)
    rig.ask(1, 2, 3)
    assert rig.said == [(3, "busy")]
    assert rig.pipeline.parked == 0
    rig.run()
    assert rig.said == [(3, "busy"), (1, [1]), (2, [2])]
    rig.settle()


@pytest.mark.parametrize(("overflow", "first"), [("drop_oldest", "overflow"), ("latest_only", "overflow"), ("block", [1])])
def test_an_input_that_takes_its_place_is_told_of(overflow: str, first: Any) -> None:
    rig = Asking(slots=1, overflow=overflow)
    rig.ask(1)
    for value in (2, 3):
        rig.push(value, receipts=[Receipt(value)])
    rig.ask(4)
    while rig.run():
        pass
    assert dict(rig.said) == {1: first, 4: "busy"}
    rig.settle()


def test_without_a_model_the_answer_comes_at_once() -> None:
    rig = Asking(model=False, overflow="block", room=1)
    rig.ask(1)
    assert len(rig.answers.sent) == 1
    rig.outlet.free = 0
    rig.ask(2)
    assert rig.said[1:] == [(2, "busy")]


def test_nothing_is_admitted_while_the_output_is_away_or_memory_is_short() -> None:
    rig = Asking(overflow="block", room=0)
    rig.ask(1)
    rig = Asking()
    rig.pipeline.shed(True)
    rig.ask(1)
    assert rig.said == [(1, "busy")]


@pytest.mark.parametrize("overflow", ["drop_oldest", "latest_only", "block"])
def test_several_rows_of_one_request_are_refused_and_take_no_slot(overflow: str) -> None:
    rig = Asking(overflow=overflow)
    ask = rig.replies.ask(b"\x08" + text(b"clients/a") + reply_properties(b"1", None), NONE, 1, 0)
    assert ask is not None
    rig.push(1, 2, receipts=[ask], has_requests=True)
    assert rig.said == [(1, "several_rows")]
    assert rig.counts.drops.by_reason == {"several_rows": 2}
    rig.settle()
    rig.push(3, 4, receipts=[Receipt(1), Receipt(2)])
    while rig.run():
        pass
    assert rig.values == [[3], [4]]
    assert rig.counts.drops.total == 2


@given(
    st.sampled_from(["drop_oldest", "drop_newest", "latest_only", "block"]),
    st.sampled_from([None, (1, 1), (2, 1)]),
    st.integers(1, 5),
    st.lists(
        st.one_of(st.lists(st.sampled_from(["plain", "ask", "double"]), min_size=1, max_size=6), st.integers(1, 3)), max_size=9
    ),
)
def test_whatever_is_asked_and_sent_each_has_one_answer_and_every_slot_is_free_again(
    overflow: str, window: tuple[int, int] | None, slots: int, steps: list[Any]
) -> None:
    """A step is the messages of a read, of which a `double` has two samples, or a run of so many rows."""
    rig = Asking(overflow=overflow, window=window, slots=slots)
    asked, plain = 0, list[Receipt]()
    for step in steps:
        if isinstance(step, int):
            rig.run(step)
            continue
        rows: list[Receipt] = []
        for kind in step:
            receipt = Receipt(1)
            if kind == "plain":
                plain.append(receipt)
                rows.append(receipt)
                continue
            asked += 1
            ask = rig.replies.ask(b"\x08" + text(b"clients/a") + reply_properties(b"%d" % asked, None), receipt, 1, Clock().now())
            assert ask is not None
            rows += [ask] * (1 + (kind == "double"))
        own, block = [*dict.fromkeys(rows)], Block(np.ones((len(rows), 1), np.float32), 1, 0, Clock().now(), 0, rows)
        block.has_requests = any(receipt.is_request for receipt in rows)
        rig.pipeline.push(0, block)
        for receipt in own:
            receipt.done()
        rig.check()
    while rig.run(2):
        rig.pipeline.resume()
    assert (rig.slots.free, rig.pipeline.waiting(), rig.pipeline.parked) == (slots, 0, 0)
    if window != (2, 1):  # a sample that completes no window has no answer yet
        assert sorted(number for number, _ in rig.said) == [*range(1, asked + 1)]
        rig.settle()
    for message in rig.sent:
        message.let_go()
    assert {receipt.owed for receipt in plain} <= {0}


def test_a_request_that_came_before_is_told_so_where_the_pipeline_remembers() -> None:
    rig = Asking(window=(1, 1), tells_again=True)
    ask = rig.replies.ask(b"\x08" + text(b"clients/a") + reply_properties(b"1", None), NONE, 1, 0)
    assert ask is not None
    rig.push(1, receipts=[ask], has_requests=True, **seen(True))
    assert rig.said == [(1, "duplicate")]
    assert rig.counts.drops.by_reason == {"duplicate": 1}
    rig.settle()


def test_errors_have_an_answer(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    rig = Asking(pre="steps.py:refuse", post="steps.py:after", folder=tmp_path, slots=8)
    rig.ask(100, 50, 7, 1)
    rig.run(fail=lambda x: x == 7)
    rig.ask(5, age=60 * 10**9, expiry_s=1)
    rig.run()
    assert rig.said == [(100, "preprocess"), (7, "model_error"), (50, "postprocess"), (1, [2]), (5, "expired")]
    rig.settle()


def test_what_is_older_than_the_deadline_is_told_so() -> None:
    rig = Asking(deadline=10**9)
    rig.ask(1, age=2 * 10**9)
    rig.run()
    assert rig.said == [(1, "expired")]
    rig.settle()


def test_what_has_expired_is_not_run() -> None:
    rig = Asking()
    rig.ask(1, 2, others=[2], age=2 * 10**9, expiry_s=1)
    rig.replies.look(Clock().now())
    assert rig.said == [(1, "expired")]
    assert rig.counts.drops.by_reason == {"expired": 1}
    assert rig.run() == 1
    assert rig.values == [[2]]
    rig.settle()


def test_what_the_broker_sends_again_has_one_answer() -> None:
    rig = Asking()
    publishes = rig.ask(1)
    rig.pipeline.supersede(rig.replies.supersede(set(publishes)) | set(publishes))
    assert rig.run() == 0
    rig.ask(1)
    rig.run()
    assert rig.said == [(1, [1])]


def test_at_a_stop_all_that_wait_are_told() -> None:
    rig = Asking()
    rig.ask(1, 2)
    rig.pipeline.abandon()
    assert rig.said == [(1, "shutdown"), (2, "shutdown")]


def test_answers_are_no_input_of_the_next_pipeline() -> None:
    rig, blocks = Asking(), list[Block]()
    rig.pipeline._chain._results = [(Field("y", 0, 1), ("outputs", "y"))]
    rig.pipeline.connect(Wiring(followers=[blocks.append]))
    rig.ask(1, 2, 3, others=[2])
    rig.run()
    assert [block.values.tolist() for block in blocks] == [[[2]]]
