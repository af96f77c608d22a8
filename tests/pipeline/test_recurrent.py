from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from msgspec.structs import replace
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.model.load_all import load_models
from edged.model.manifest import read_manifest
from edged.pipeline.recurrent import States
from edged.records import NONE, Block, Slot
from tests.support.models import save, total, value
from tests.support.planning import MAIN, planned

ENDS = [("h", "h_out", (2,), "float32"), ("n", "n_out", (), "int64")]


class Model:
    """Adds what comes in to one state and counts runs in another."""

    def __init__(self, states: States, batch: int = 4) -> None:
        self.states = states
        self.inputs: dict[str, Any] = {"h": np.full((batch, 2), 99, np.float32), "n": np.full(batch, 99, np.int64)}

    def run(self, keys: Sequence[int], values: Sequence[float], stretches: Sequence[int] | None = None, start: int = 0) -> None:
        slots = [Slot(0, k, 0, 0, NONE, False, None, s) for k, s in zip(keys, stretches or [0] * len(keys), strict=True)]
        self.states.gather(slots, self.inputs, start)
        rows = slice(start, start + len(slots))
        made = {"h_out": self.inputs["h"][rows] + np.array(values, np.float32)[:, None], "n_out": self.inputs["n"][rows] + 1}
        self.states.keep(slots, made)

    def of(self, key: int, stretch: int = 0) -> tuple[float, int]:
        """What the next row of a key would find."""
        self.states.gather([Slot(0, key, 0, 0, NONE, False, None, stretch)], self.inputs, 0)
        return float(self.inputs["h"][0, 0]), int(self.inputs["n"][0])


@pytest.fixture
def model() -> Model:
    return Model(States(ENDS, 5))


def test_each_key_has_its_own(model: Model) -> None:
    model.run([0, 3], [1, 10])
    model.run([3], [20])
    model.run([4, 3, 0], [7, 30, 2], start=1)
    assert [model.of(key) for key in range(5)] == [(3, 2), (0, 0), (0, 0), (60, 3), (7, 1)]
    assert {name: rows.shape for name, rows in model.states.rows.items()} == {"h": (5, 2), "n": (5,)}


def test_a_row_that_was_not_run_changes_nothing(model: Model) -> None:
    model.run([2], [5])
    assert [model.of(2) for _ in range(3)] == [(5, 1)] * 3


def test_another_stretch_finds_zeros_also_when_its_first_row_was_dropped(model: Model) -> None:
    model.run([1, 2], [5, 6], [0, 0])
    model.run([1, 2], [7, 8], [2, 0])
    assert (model.of(1, 2), model.of(2)) == ((7, 1), (14, 2))


def test_what_comes_back_late_is_not_taken_for_the_next_stretch(model: Model) -> None:
    slot = Slot(0, 1, 0, 0, NONE, False)
    model.states.gather([slot], model.inputs, 0)
    model.states.start_over(1)  # while it runs
    model.states.keep([slot], {"h_out": np.ones((1, 2)), "n_out": np.ones(1)})
    assert model.of(1, model.states.stretches([1], [0])[0]) == (0, 0)


def test_a_silence_begins_a_stretch() -> None:
    states = States(ENDS, 3, gap_ns=10)
    assert states.stretches([0, 0, 1, 0, 1], [0, 10, 12, 21, 13]) == [0, 0, 0, 1, 0]
    states.start_over(1)
    assert states.stretches([1, 1], [0, 5]) == [1, 1]  # it may go on at any time
    assert States(ENDS, 1).stretches([0, 0], [0, 10**18]) == [0, 0]


def test_a_key_may_begin_with_numbers_of_its_own() -> None:
    def start(name: str, key: int) -> NDArray[Any] | None:
        return np.array([5, 7], np.float32) if (name, key) == ("h", 1) else None

    model = Model(States(ENDS, 3, start=start))
    model.run([0, 1], [1, 1])
    assert [model.of(key) for key in (0, 1)] == [(1, 1), (6, 1)]
    assert model.of(1, stretch=1) == (5, 0)  # after a silence, too
    model.states.forget(1)
    assert model.of(1, stretch=1) == (5, 0)


def test_forgetting(model: Model) -> None:
    model.run([0, 1, 2], [1, 2, 3])
    model.states.forget(1)
    assert [model.of(key) for key in (0, 1, 2)] == [(1, 1), (0, 0), (3, 1)]
    model.states.forget_all()
    assert [model.of(key) for key in (0, 1, 2)] == [(0, 0)] * 3
    assert [*model.states.without({"y": np.ones(1), "h_out": np.ones(1), "n_out": np.ones(1)})] == ["y"]


TEXT = """
[source.in]
type = "mqtt"
topic = "in/{room}"
qos = 0
max_keys = 4
rate = 10
decode = { format = "raw", fields = ["v"] }
[model.m]
path = "m.onnx"
state = { sum_out = "sum" }
[pipeline.p]
source = "in"
model = "m"
publish = []
"""
WINDOW = 'window = { size = 2, gap = "1s" }\n'
S = 10**9


class Stage:
    """A configuration that runs, fed by hand; `sums` are the results of each key of a pipeline, in order."""

    def __init__(self, folder: Path, text: str, before: Assembly | None = None) -> None:
        self.plan = planned(folder, MAIN + text).whole
        loaded = load_models(self.plan.models)
        self.assembly = assemble(self.plan, loaded, Clock(), structlog.get_logger(), before)
        self.connect(before)

    def connect(self, before: Assembly | None) -> None:
        connect(self.assembly, before)
        self.blocks: dict[str, list[Block]] = {}
        for name, pipeline in self.assembly.pipelines.items():
            pipeline.connect(replace(pipeline.wiring, followers=[self.blocks.setdefault(name, []).append]))

    def reload(self, **loaded: Path) -> None:
        """The plan again, with another file for each model that is given by a path."""
        old = self.assembly
        plans = {}
        for name, path in loaded.items():
            manifest = read_manifest(name, path)[0]
            assert manifest is not None
            plan = self.plan.models[name]
            plans[name] = replace(plan, manifest=replace(manifest, states=plan.manifest.states))
        self.plan = replace(self.plan, models={**self.plan.models, **plans})
        self.assembly = assemble(self.plan, {**old.loaded, **load_models(plans)}, Clock(), structlog.get_logger(), old)
        self.connect(old)

    async def feed(self, rows: Sequence[tuple[int, float]], at_s: float = 0, restarts: tuple[int, ...] = ()) -> None:
        """Rows of a key and a value each, all at once, and what becomes of them."""
        values = np.array([[v] for _, v in rows], np.float32)
        times = np.full(len(rows), int(at_s * S))
        self.push(Block(values, times, 0, Clock().now(), np.array([k for k, _ in rows], np.int32), restarts=restarts))
        while any(p.has_waiting or p.counts.running for p in self.assembly.pipelines.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def push(self, block: Block) -> None:
        for push in self.assembly.consumers["in"]:
            push(block)

    def sums(self, pipeline: str = "p") -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for block in self.blocks[pipeline]:
            assert isinstance(block.keys, np.ndarray)
            for key, row in zip(block.keys.tolist(), block.values.tolist(), strict=True):
                found.setdefault(key, []).append(row[0])
        return found


async def test_keys_that_come_together_are_summed_apart(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx", layers=2)
    stage = Stage(tmp_path, TEXT)
    await stage.feed([(0, 1), (2, 10), (0, 2), (2, 20), (3, 5), (0, 3)])
    await stage.feed([(3, 6)])
    assert stage.sums() == {0: [3, 9, 18], 2: [30, 90], 3: [15, 33]}  # two layers: once and twice what came in
    assert stage.assembly.models["m"].counts.runs == 3 + 1
    assert stage.assembly.loaded["m"].report.batch_max == 4  # one of each key is the most that can come together


async def test_a_silence_and_a_restart_begin_at_zero(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx")
    stage = Stage(tmp_path, TEXT)
    await stage.feed([(0, 1), (1, 1)])
    await stage.feed([(0, 2)], 0.5)
    await stage.feed([(0, 3), (1, 3)], 1.4)  # of key 1 it is the first after more than a second
    await stage.feed([(0, 4), (1, 4)], 1.5, restarts=(0,))
    assert stage.sums() == {0: [1, 3, 6, 4], 1: [1, 3, 7]}


async def test_windows_from_before_a_gap_are_run_with_what_belongs_to_them(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx", width=2)
    stage = Stage(tmp_path, TEXT + WINDOW)
    values = np.arange(1, 11, dtype=np.float32)[:, None]
    times = np.array([0, 0, 0, 0, 0, 5, 5, 5, 5, 5]) * S
    stage.push(Block(values, times, 0, Clock().now(), 0))  # all wait at once; 5 finds no partner before the silence
    await stage.feed([(0, 20), (0, 21)], 5)
    assert stage.sums() == {0: [1, 4, 6, 14, 24]}
    assert np.concatenate([block.values for block in stage.blocks["p"]])[:, 1].tolist() == [2, 6, 7, 16, 36]


async def test_pipelines_that_share_a_model_remember_apart(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx")
    stage = Stage(tmp_path, TEXT + TEXT[TEXT.index("[pipeline") :].replace("pipeline.p", "pipeline.q"))
    await stage.feed([(0, 1), (0, 2)])
    await stage.feed([(1, 5)])
    assert stage.sums("p") == stage.sums("q") == {0: [1, 3], 1: [5]}
    assert stage.assembly.models["m"].counts.runs == 2 + 1  # both in one batch


async def test_a_row_that_fails_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    """A run that failed is repeated row by row: each sum moves on once, that of the bad row not at all."""
    table = nh.from_array(np.array([10, 11, 12, 13], np.float32), "table")
    nodes = [h.make_node("Gather", ["table", "i"], ["v"], axis=0), h.make_node("Add", ["v", "sum"], ["sum_out"])]
    nodes.append(h.make_node("Identity", ["sum_out"], ["y"]))
    ins = [value("i", T.INT64, ["n", 1]), value("sum", T.FLOAT, ["n", 1])]
    outs = [value("y", T.FLOAT, ["n", 1]), value("sum_out", T.FLOAT, ["n", 1])]
    save(tmp_path / "m.onnx", nodes, ins, outs, [table])
    stage = Stage(tmp_path, TEXT)
    await stage.feed([(0, 1), (1, 2), (2, 3)])
    await stage.feed([(0, 1), (1, 99), (2, 3)])
    await stage.feed([(0, 1), (1, 2), (2, 3)])
    assert stage.sums() == {0: [11, 22, 33], 1: [12, 24], 2: [13, 26, 39]}
    assert stage.assembly.models["m"].counts.repeats == 1


async def test_what_is_no_number_is_not_remembered(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx")
    stage = Stage(tmp_path, TEXT.replace("publish = []", 'output = "regress"\npublish = []'))
    for number in (1, np.inf, 5, 6):
        await stage.feed([(0, number), (1, 1)])
    assert stage.sums() == {0: [1, 5, 11], 1: [1, 2, 3, 4]}


async def test_another_file_begins_at_zero_and_the_same_one_goes_on(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx")
    stage = Stage(tmp_path, TEXT)
    await stage.feed([(0, 1), (1, 2)])
    stage.reload()
    await stage.feed([(0, 1)])
    assert stage.sums() == {0: [2]}
    stage.reload(m=total(tmp_path / "other.onnx", metadata={"version": "2"}))
    await stage.feed([(0, 1), (1, 1)])
    assert stage.sums() == {0: [1], 1: [1]}


async def test_a_sample_that_comes_again_is_not_added_again(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx")
    timed = '{ format = "json", time = { field = "t", format = "unix_s" }, fields = ["v"] }'
    stage = Stage(tmp_path, TEXT.replace("qos = 0\n", "").replace('{ format = "raw", fields = ["v"] }', timed))
    await stage.feed([(0, 1), (0, 2)])
    times, keys = np.array([0, 1]), np.array([0, 0], np.int32)
    stage.push(Block(np.array([[2], [3]], np.float32), times, 0, Clock().now(), keys, seen=np.array([True, False])))
    await stage.feed([(0, 4)])
    assert stage.sums() == {0: [1, 3, 6, 10]}
    assert stage.assembly.pipelines["p"].counts.drops.by_reason == {"duplicate": 1}


ONE = TEXT.replace("in/{room}", "in/x").replace("max_keys = 4\n", "")


@pytest.mark.parametrize("layers", [0, 2])
async def test_of_a_key_that_is_alone_the_memory_lies_in_the_session_and_all_is_the_same(tmp_path: Path, layers: int) -> None:
    total(tmp_path / "m.onnx", layers=layers)
    stage = Stage(tmp_path, ONE.replace("publish = []", 'output = "regress"\npublish = []'))
    states = stage.assembly.pipelines["p"].states
    assert states is not None
    sums: list[float] = []
    for number in (1, 2, 3):
        await stage.feed([(0, number)])
    await stage.feed([(0, 4), (0, 5)])
    assert not any(rows.any() for rows in states.rows.values())  # it lies in the session
    await stage.feed([(0, 6)], 2)  # after a silence
    await stage.feed([(0, 7)], 2)
    await stage.feed([(0, 8)], 2, restarts=(0,))
    await stage.feed([(0, np.nan)], 2)
    await stage.feed([(0, 9)], 2)
    sums += stage.sums()[0]
    stage.reload()
    await stage.feed([(0, 10)], 2)
    kept = states.save(0)
    assert kept is not None
    await stage.feed([(0, 11)], 2)
    sums += stage.sums()[0]
    stage.reload(m=total(tmp_path / "other.onnx", layers=layers, metadata={"version": "2"}))
    await stage.feed([(0, 12)], 2)
    sums += stage.sums()[0]
    states.restore(0, kept)
    await stage.feed([(0, 13), (0, 14)], 2)
    sums += stage.sums()[0][1:]
    times = 3 if layers else 1
    assert [s / times for s in sums] == [1, 3, 6, 10, 15, 6, 13, 8, 9, 19, 30, 12, 19 + 13, 19 + 13 + 14]


async def test_a_key_that_ceases_to_be_alone_goes_on(tmp_path: Path) -> None:
    total(tmp_path / "m.onnx")
    stage = Stage(tmp_path, ONE)
    states = stage.assembly.pipelines["p"].states
    assert states is not None
    for is_alone in (True, False, True, True):
        states.be_alone(is_alone)
        await stage.feed([(0, 1), (0, 2)])
    assert stage.sums()[0] == [1, 3, 4, 6, 7, 9, 10, 12]
