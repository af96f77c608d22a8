"""Gates between assembled pipelines: each row is judged by what its gate says of its own sample, whatever runs when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble
from edged.daemon.connect import connect, release
from edged.daemon.relief import shed_order
from edged.health.status import states
from edged.model.load_all import load_models
from edged.records import Block, Receipt, Result
from tests.support import models
from tests.support.planning import MAIN, planned
from tests.support.wiring import tell

SOURCE = """
[source.in]
type = "mqtt"
topic = "in/{k}"
max_keys = 4
decode = { format = "csv", fields = ["v", "n"] }
[source.other]
type = "mqtt"
topic = "other/x"
decode = { format = "csv", fields = ["w"] }
[model.m]
path = "m.onnx"
run = "inline"
[model.n]
path = "m.onnx"
run = "inline"
batch = { max = 2 }
"""
GATE = """
[pipeline.gate]
source = "in"
output = { type = "regress" }
publish = []
"""
GATED = """
[pipeline.gated]
source = "in"
gate = { source = "gate", of = "values.y0", above = 10 }
publish = []
"""
MODEL = """model = "m"
inputs = { x = { fields = ["v"] } }
"""


class Rig:
    """Pipelines on a running loop, fed by hand; `seen` has the column `n` of what each of them made a result of, by key."""

    def __init__(self, assembly: Assembly, loaded: Any) -> None:
        self.assembly = assembly
        self.loaded = loaded
        self.receipts: list[Receipt] = []
        self.seen: dict[str, list[tuple[int, float]]] = {}
        self.watch()

    def watch(self) -> None:
        for name, pipeline in self.assembly.pipelines.items():
            tell(pipeline, lambda result, _, name=name: self.note(name, result))

    def note(self, name: str, result: Result) -> None:
        body = result.body
        number = body["values"]["y0"] if "values" in body else next(v for k, v in body["outputs"].items() if k.endswith("n"))
        self.seen.setdefault(name, []).append((result.key, number))

    def feed(self, source: str, rows: Sequence[Sequence[float]], keys: Sequence[int] | int = 0) -> None:
        """All at one time, as messages of one read are."""
        now = Clock().now()
        receipts = [Receipt(len(self.receipts) + i) for i in range(len(rows))]
        self.receipts += receipts
        ids: Any = keys if isinstance(keys, int) else np.array(keys, np.int32)
        block = Block(np.array(rows, np.float64), np.full(len(rows), now), 10**18, now, ids, receipts)
        for push in self.assembly.consumers[source]:
            push(block)
        for receipt in receipts:  # the router's own
            receipt.done()
        self.check()

    async def settle(self) -> None:
        """Until nothing waits any more."""
        while any(p.has_waiting or p.counts.running for p in (*self.assembly.pipelines.values(), *self.assembly.leaving)):
            await asyncio.sleep(0)
            self.check()

    def reload(self, folder: Path, text: str) -> None:
        before = self.assembly
        plan = planned(folder, MAIN + SOURCE + text).whole
        new = {name: model for name, model in plan.models.items() if name not in self.loaded}
        self.loaded = self.loaded | load_models(new)
        loaded = {name: self.loaded[name] for name in plan.models}
        self.assembly = assemble(plan, loaded, Clock(), structlog.get_logger(), before)
        connect(self.assembly, before)

    def check(self) -> None:
        for name, pipeline in self.assembly.pipelines.items():
            assert pipeline.counts.balance(self.assembly.waiting(name)) == 0


@asynccontextmanager
async def rig(folder: Path, text: str) -> AsyncIterator[Rig]:
    models.linear(folder / "m.onnx", width=1, out=1)
    plan = planned(folder, MAIN + SOURCE + text).whole
    loaded = load_models(plan.models)
    assembly = assemble(plan, loaded, Clock(), structlog.get_logger())
    connect(assembly)
    made = Rig(assembly, loaded)
    yield made
    made.assembly.close()


async def test_a_row_is_judged_by_its_own_sample(tmp_path: Path) -> None:
    async with rig(tmp_path, GATE + MODEL + GATED) as made:
        made.feed("in", [[0, 1], [20, 2], [0, 3], [20, 4]])
        assert made.seen == {}  # nothing is known yet, and nobody guesses
        assert all(r.owed for r in made.receipts)
        await made.settle()
        assert made.seen["gated"] == [(0, 2), (0, 4)]
        assert made.assembly.pipelines["gated"].counts.gated == 2
        assert [r.owed for r in made.receipts] == [0] * 4


WINDOWS = ("", "window = { size = 2, hop = 2 }\n", "window = { size = 3, hop = 1 }\n")
OVERFLOW = ("block", "drop_oldest", "drop_newest", "latest_only")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("own", ["", 'model = "n"\ninputs = { x = { fields = ["n"] } }\n'], ids=["no model", "a model"])
@pytest.mark.parametrize("way", ["direct", "chain", "joined"])
async def test_whatever_runs_when(tmp_path: Path, seed: int, own: str, way: str) -> None:
    """Against the plainest reading: the newest result of the gate that is not after the sample, however slow either is."""
    pick = random.Random(seed)
    slots = pick.choice([1, 3, 64])
    window = pick.choice(WINDOWS)
    model = MODEL.replace("] }", "], size = 1 }") if window else MODEL
    gate = f"{GATE}{model}{window}slots = {pick.choice([1, 2, 64])}\n"
    if not window:
        gate += f'overflow = "{pick.choice(OVERFLOW)}"\n'
    gated = GATED + own + ('output = { type = "regress" }\n' if own else "") + f"slots = {slots}\n" + 'overflow = "block"\n'
    if way == "chain":
        first = '[pipeline.first]\nsource = "in"\n' + 'model = "n"\ninputs = { x = { fields = ["n"] } }\noutput = "regress"\n'
        if not own:
            first = '[pipeline.first]\nsource = "in"\n'
        gated = gated.replace('source = "in"', 'source = "first"', 1).replace('["n"]', '["values.y0"]')
        gated = f"{first}publish = []\n{gated}"
    if way == "joined":
        gated = gated.replace('source = "in"', 'source = ["in", "other"]\nalign = { tolerance = "1h" }', 1)
        gated = gated.replace('overflow = "block"', 'overflow = "drop_newest"').replace(f"slots = {slots}\n", "slots = 99\n")
    async with rig(tmp_path, gate + gated) as made:
        made.feed("other", [[1]])
        number, sent = 0, list[tuple[int, int, float]]()
        said: dict[int, list[tuple[int, bool]]] = {}
        by_number: dict[tuple[int, int], int] = {}

        def judge(result: Result, _: int) -> None:
            said.setdefault(result.key, []).append((by_number[result.key, result.time], result.body["values"]["y0"] > 10))

        tell(made.assembly.pipelines["gate"], judge)
        for _ in range(12):
            count = pick.randrange(1, 9)
            keys = [pick.randrange(3) for _ in range(count)]
            rows = [[pick.choice([0, 20]), number + 1 + i] for i in range(count)]
            number += count
            sent += [(key, int(n), v) for key, (v, n) in zip(keys, rows, strict=True)]
            taken: list[Block] = []
            made.assembly.consumers["in"].insert(1, taken.append)
            made.feed("in", rows, keys)
            made.assembly.consumers["in"].remove(taken.append)
            for key, time, (_, n) in zip(keys, taken[0].time.tolist(), rows, strict=True):
                by_number[key, time + 10**18] = int(n)
            for _ in range(pick.randrange(4)):
                await asyncio.sleep(0)
        await made.settle()
        wanted: dict[int, list[int]] = {}
        for key, n, _ in sent:
            before = [is_open for m, is_open in said.get(key, []) if m <= n]
            if before and before[-1]:
                wanted.setdefault(key, []).append(n)
        found: dict[int, list[int]] = {}
        for key, number_of in made.seen.get("gated", []):
            found.setdefault(key, []).append(round(number_of))
        assert found == wanted
        assert made.assembly.pipelines["gated"].counts.drops.by_reason == {}


def graph(pick: random.Random) -> str:
    """Pipelines that read and gate each other in any way, all of them with as little room as can be."""
    streams, text = ["in"], ""
    for n in range(pick.randrange(3, 8)):
        source = pick.choice(streams)
        text += f'[pipeline.p{n}]\nsource = "{source}"\npublish = []\noutput = "regress"\noverflow = "block"\n'
        field, size = ("v" if source == "in" else "values.y0"), pick.choice([1, 1, 2])
        text += f'model = "{pick.choice("mn")}"\nslots = {pick.choice([1, 2, 3])}\n'
        newest = ", size = 1" if size > 1 else ""
        text += f'inputs = {{ x = {{ fields = ["{field}"]{newest} }} }}\n'
        text += f"window = {{ size = {size}, hop = {pick.choice([1, size])} }}\n" if size > 1 else ""
        if pick.random() < 0.6:
            gate = pick.choice(streams)
            text += f'gate = {{ source = "{gate}", of = "{"v" if gate == "in" else "values.y0"}", above = 10 }}\n'
        streams.append(f"p{n}")
    return text.replace('overflow = "block"\n', "" if "window" in text else 'overflow = "block"\n')


@pytest.mark.parametrize("seed", range(25, 45))
async def test_any_graph_comes_to_rest(tmp_path: Path, seed: int) -> None:
    pick = random.Random(seed)
    text = graph(pick)
    async with rig(tmp_path, text) as made:
        for n in range(15):
            count = pick.randrange(1, 6)
            made.feed("in", [[pick.choice([0, 20]), n] for _ in range(count)], [pick.randrange(3) for _ in range(count)])
            for _ in range(pick.randrange(3)):
                await asyncio.sleep(0)
        await asyncio.wait_for(made.settle(), 10)
        assert [r.owed for r in made.receipts] == [0] * len(made.receipts)
        for pipeline in made.assembly.pipelines.values():
            counts = pipeline.counts
            assert counts.due == counts.published + counts.gated + counts.drops.total
            assert set(counts.drops.by_reason) <= ({"overflow"} if "window" in text else set())


@pytest.mark.parametrize("seed", range(10))
async def test_any_graph_becomes_any_other(tmp_path: Path, seed: int) -> None:
    """One reload after another, while rows wait and run."""
    pick = random.Random(seed)
    async with rig(tmp_path, graph(pick)) as made:
        for _ in range(6):
            for n in range(4):
                count = pick.randrange(1, 6)
                made.feed("in", [[pick.choice([0, 20]), n] for _ in range(count)], [pick.randrange(3) for _ in range(count)])
                for _ in range(pick.randrange(3)):
                    await asyncio.sleep(0)
            made.reload(tmp_path, graph(pick))
        await asyncio.wait_for(made.settle(), 10)
        release(made.assembly)
        assert made.assembly.leaving == []
        assert [r.owed for r in made.receipts] == [0] * len(made.receipts)


async def test_a_sensor_is_a_gate_for_its_own_samples_and_for_others(tmp_path: Path) -> None:
    text = """
[pipeline.gated]
source = "in"
gate = { source = "in", of = "v", above = 10, below = 30 }
publish = []
[pipeline.by_other]
source = "in"
gate = { source = "other", of = "w" }
publish = []
"""
    async with rig(tmp_path, text) as made:
        made.feed("in", [[20, 1], [5, 2], [40, 3]])
        assert made.seen == {"gated": [(0, 1)]}
        made.feed("other", [[1]])
        made.feed("in", [[0, 4], [0, 5]], [1, 2])
        made.feed("other", [[0]])
        made.feed("in", [[0, 6]], 1)
        assert made.seen == {"gated": [(0, 1)], "by_other": [(1, 4), (2, 5)]}
        assert [made.assembly.pipelines[n].counts.gated for n in ("gated", "by_other")] == [5, 4]
        assert [r.owed for r in made.receipts] == [0] * 8


async def test_what_is_lost_on_the_way_to_the_gate_holds_nobody_up(tmp_path: Path) -> None:
    text = GATE + MODEL + 'overflow = "drop_newest"\nslots = 1\ndeadline = "1ns"\n' + GATED
    async with rig(tmp_path, text) as made:
        made.feed("in", [[20, 1], [20, 2], [20, 3]])
        await made.settle()
        gate, gated = (made.assembly.pipelines[n].counts for n in ("gate", "gated"))
        assert gate.drops.by_reason == {"expired": 3}
        assert (gated.gated, gated.published) == (3, 0)  # nothing known: closed


async def test_priority_is_what_the_file_says(tmp_path: Path) -> None:
    text = "".join(f'[pipeline.p{n}]\nsource = "in"\npriority = {n}\noutput = "regress"\n' + MODEL for n in (0, 7, -3))
    async with rig(tmp_path, text) as made:
        pipelines = list(made.assembly.pipelines.values())
        assert [p.name for p in shed_order(pipelines)] == ["p-3", "p0", "p7"]
        made.feed("in", [[n, n] for n in range(20)])
        order: list[str] = []
        for pipeline in pipelines:
            tell(pipeline, lambda _, __, name=pipeline.name: order.append(name))
        await made.settle()
        assert order == ["p7"] * 20 + ["p0"] * 20 + ["p-3"] * 20


CHAIN = """
[pipeline.first]
source = "in"
model = "m"
inputs = { x = { fields = ["v"] } }
output = "regress"
slots = 4
publish = []
[pipeline.second]
source = "first"
model = "n"
output = "regress"
slots = 2
overflow = "block"
publish = []
"""


async def test_a_chain_is_bounded_from_end_to_end(tmp_path: Path) -> None:
    async with rig(tmp_path, CHAIN) as made:
        first, second = (made.assembly.pipelines[n] for n in ("first", "second"))
        made.assembly.models["n"].running = []  # it hangs
        for n in range(20):
            made.feed("in", [[n, n]])
            for _ in range(5):
                await asyncio.sleep(0)
        assert (len(second.slots), second.parked) == (2, 1)  # from then on nothing was run that it would have to keep
        assert first.waiting() == 0
        assert (len(first.slots), first.parked) == (4, 20 - 3 - 4)  # by the block; its sources are held
        assert sum(r.owed > 0 for r in made.receipts) == 20
        said = {s.name: s.reason for s in states(made.assembly, Clock().now()) if s.state == "blocked"}
        assert said == {"first": "13 blocks wait for a free slot: pipeline second accepts no more rows"}  # whose model hangs
        made.assembly.models["n"].running = None
        made.assembly.models["n"].wake()
        await made.settle()
        assert made.seen["second"] == [(0, n) for n in range(20)]
        assert [r.owed for r in made.receipts] == [0] * 20


@pytest.mark.parametrize(
    "after",
    [
        GATE + MODEL + GATED,
        GATE + MODEL + GATED.replace("above = 10", "above = 30"),
        GATE + MODEL + GATED.split("gate =")[0] + "publish = []\n",
        GATE + MODEL + "slots = 7\n" + GATED,
        GATE + MODEL + GATED + "slots = 7\n",
        GATED.replace('"gate", of = "values.y0"', '"in", of = "v"'),
        GATE + MODEL + GATED.split("gate =")[0].replace("gated", "another"),
    ],
    ids=["nothing", "other conditions", "no gate", "another gate", "other slots", "a sensor as the gate", "none of it"],
)
@pytest.mark.parametrize(
    "own", ["", 'model = "n"\ninputs = { x = { fields = ["n"] } }\noutput = "regress"\n'], ids=["", "a model"]
)
async def test_a_reload_while_rows_wait_for_the_gate(tmp_path: Path, after: str, own: str) -> None:
    """They are judged by the gate that they came under."""
    after = after.replace("[pipeline.gated]\n", f"[pipeline.gated]\n{own}")
    async with rig(tmp_path, GATE + MODEL + GATED.replace("[pipeline.gated]\n", f"[pipeline.gated]\n{own}")) as made:
        made.feed("in", [[0, 1], [20, 2]])
        before = made.assembly
        made.reload(tmp_path, after)
        made.watch()
        for one in made.assembly.leaving:
            tell(one, lambda result, _, name=one.name: made.note(name, result))
        await made.settle()
        release(made.assembly)
        assert made.assembly.leaving == []
        assert made.seen["gated"] == [(0, 2)]
        assert [r.owed for r in made.receipts] == [0, 0]
        if "pipeline.gated" in after:
            counts = before.pipelines["gated"].counts
            assert (counts.due, counts.published + counts.gated) == (2, 2)
            made.feed("in", [[25, 3]])
            await made.settle()
            is_open = "above = 30" not in after
            assert ((0, 3) in made.seen.get("gated", [])) is is_open


async def test_the_envelope_of_a_result_can_be_named(tmp_path: Path) -> None:
    gated = GATED.replace('of = "values.y0", above = 10', 'of = "seq", above = 2, below = 5')
    async with rig(tmp_path, GATE + MODEL + gated) as made:
        made.assembly.keys["in"].id(("a",), 1)
        made.feed("in", [[0, n] for n in range(1, 8)])
        await made.settle()
        assert made.seen["gated"] == [(0, 3), (0, 4)]


async def test_equal_keys_of_two_sources_mean_the_same(tmp_path: Path) -> None:
    text = """
[source.valves]
type = "mqtt"
topic = "valve/{k}"
max_keys = 4
decode = { format = "csv", fields = ["open"] }
[pipeline.gated]
source = "in"
gate = { source = "valves", of = "open" }
publish = []
"""
    async with rig(tmp_path, text) as made:
        router = made.assembly.routers["main"]

        def hear(*messages: tuple[bytes, bytes]) -> None:
            router.on_publishes([(topic, body, 1, False, (), Receipt(1), b"") for topic, body in messages])

        hear((b"valve/b", b"1"), (b"valve/a", b"0"), (b"valve/c", b"1"))
        hear((b"in/a", b"0,1"), (b"in/b", b"0,2"), (b"in/c", b"0,3"), (b"in/d", b"0,4"))
        hear((b"valve/b", b"0"), (b"valve/a", b"1"))
        hear((b"in/a", b"0,5"), (b"in/b", b"0,6"))
        assert [n for _, n in made.seen["gated"]] == [2, 3, 5]
        assert made.assembly.pipelines["gated"].counts.gated == 3
