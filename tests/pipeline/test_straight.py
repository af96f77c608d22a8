"""Both ways, the straight one and the long one, come to the same bytes, ledgers and receipts."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.system import process

process.set_up()

from edged.daemon.build import assemble  # noqa: E402
from edged.daemon.connect import connect  # noqa: E402
from edged.model.load_all import load_models  # noqa: E402
from edged.model.runner import RUNS_AT_ONCE  # noqa: E402
from edged.mqtt.connection import SETTLE_S, Connection  # noqa: E402
from edged.mqtt.frames import read_varint  # noqa: E402
from edged.mqtt.receipts import Ledger  # noqa: E402
from edged.plan.records import Plan  # noqa: E402
from edged.records import NONE  # noqa: E402
from edged.sources.mqtt import MqttSource  # noqa: E402
from tests.support import models  # noqa: E402
from tests.support.assembled import Hands  # noqa: E402
from tests.support.pause import pause_on_loop  # noqa: E402
from tests.support.planning import MAIN, planned  # noqa: E402
from tests.support.ticking import tick_within  # noqa: E402

TEXT = """
[source.in]
type = "mqtt"
topic = "in/{room}"
max_keys = 2
decode = %s
on_bad = "pass"
[model.m]
path = "m.onnx"
run = "inline"
batch = { max = 2 }
[pipeline.p]
source = "in"
model = "m"
overflow = "%s"
deadline = "10s"
preprocess = "steps.py:refuse"
publish = { topic = "out/{room}", qos = %d, when = { of = "outputs.y", change = true } }
"""
BATCH = 2
DECODE = {
    "csv": '{ format = "csv", fields = ["a", "b", "c"] }',
    "json": '{ format = "json", fields = ["x"], shape = [3] }',
    "raw": '{ format = "raw", dtype = "float32", shape = [3] }',
}
STEPS = """
def refuse(row):
    if row[0] == 13:
        raise ValueError("13")
    return row
"""
SHARED = (
    TEXT % (DECODE["csv"], "drop_oldest", 0)
    + """
[source.other]
type = "mqtt"
topic = "other/x"
decode = { format = "csv", fields = ["a", "b", "c"] }
[pipeline.q]
source = "other"
model = "m"
"""
)
"""Another pipeline has rows for the model, which may come in the same turn."""
PAYLOADS = [b"1,2,3", b"4,5,6", b"nan,0,0", b"13,0,0", b"1,2", b"7,7,7\n8,8,8", b"99,0,0"]

SAMPLES = [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (math.nan, 0.0, 0.0), (13.0, 0.0, 0.0), (99.0, 0.0, 0.0), (7.0, 7.0), ()]
WRITTEN: dict[str, Callable[[tuple[float, ...]], bytes]] = {
    "csv": lambda row: ",".join(map(str, row)).encode(),
    "json": lambda row: json.dumps({"x": row}).replace("NaN", "null").encode(),
    "raw": lambda row: struct.pack(f"<{len(row)}f", *row),
}

ROOT = str(Path(process.__file__).parents[1])
Read = list[tuple[str, bytes, int]]
messages = st.tuples(st.sampled_from(["x", "y", "z"]), st.sampled_from(PAYLOADS), st.integers(0, 1))
reads = st.lists(st.lists(messages, min_size=1, max_size=5), min_size=1, max_size=8)


@cache
def plan_of(folder: Path, text: str) -> Plan:
    """Of a configuration in a folder with the model and the steps."""
    models.linear(folder / "m.onnx")
    (folder / "steps.py").write_text(STEPS)
    return planned(folder, MAIN + text).whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("straight")


class Way:
    """A daemon's parts, fed by hand, with a session that refuses rows of 99."""

    def __init__(self, folder: Path, text: str, is_straight: bool) -> None:
        self.clock = Hands()
        self.is_straight = is_straight
        plan = plan_of(folder, text)
        self.a = assemble(plan, load_models(plan.models), self.clock, structlog.get_logger(), run="r")
        connect(self.a)
        session: Any = self.a.models["m"].loaded.session
        self.ledger, self.runs, run = Ledger(), 0, session.run

        def run_or_fail(count: int) -> Any:
            self.runs += 1
            if 99 in session.inputs["x"][:count]:
                raise ValueError("99")
            return run(count)

        session.run = run_or_fail
        self.lone = 0

    async def read(self, read: Read) -> None:
        """What one wake-up brings, and the turns of the loop until all is through."""
        self.clock.pass_s(1)
        mids = [self.ledger.add(1 + i) if qos else None for i, (_, _, qos) in enumerate(read)]
        batch = [(f"in/{k}".encode(), p, q, False, (), r or NONE, b"") for (k, p, q), r in zip(read, mids, strict=True)]
        if self.is_straight:
            self.a.tail.open()
        self.a.routers["main"].on_publishes(batch)
        self.lone += self.a.tail.close()
        while any(p.has_waiting or p.counts.running for p in self.a.pipelines.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)

    @property
    def facts(self) -> Any:
        p, link = self.a.pipelines["p"], self.a.links["main"]
        c, model, source = p.counts, self.a.models["m"].counts, self.a.sources["in"]
        assert isinstance(source, MqttSource)
        assert c.balance(len(p.slots)) == 0
        assert all(publish.counts.balance() == 0 for publish in p.publishes)
        return (
            [(m.topic, m.body, m.qos, m.arrival) for queue in (link.outbox.qos0, link.outbox.qos1) for m in queue],
            (c.due, c.published, c.filtered, c.hollow, c.drops.by_reason, c.next_seq, c.last_result, c.age.counts),
            (model.rows, model.failed, self.a.models["m"].state, source.counts.read, source.counts.rejected),
            [receipt.owed for receipt in self.ledger.unacked],
        )


@settings(max_examples=60, deadline=None)
@given(arriving=reads, overflow=st.sampled_from(["drop_oldest", "block", "latest_only"]), qos=st.integers(0, 1))
def test_both_ways_come_to_the_same(folder: Path, arriving: list[Read], overflow: str, qos: int) -> None:
    async def both() -> tuple[Any, Any]:
        ways = [Way(folder, TEXT % (DECODE["csv"], overflow, qos), is_straight) for is_straight in (True, False)]
        for read in arriving:
            for way in ways:
                await way.read(read)
        assert [way.lone for way in ways][1] == 0
        found = ways[0].facts, ways[1].facts
        for way in ways:
            way.a.close()
        return found

    straight, long = asyncio.run(both())
    assert straight == long


def mid_of(frame: bytes) -> bytes:
    """The message id of a PUBLISH at QoS 1."""
    _, start = read_varint(frame, 1, len(frame))
    at = start + 2 + (frame[start] << 8) + frame[start + 1]
    return frame[at : at + 2]


class Wire:
    """A broker at the other end of the link's socket: what it sends comes in as one read."""

    def __init__(self, way: Way) -> None:
        self.way = way
        ours, self.peer = socket.socketpair()
        for end in (ours, self.peer):
            end.setblocking(False)
        link = way.a.links["main"]
        link._life.begin()
        self.connection = link._connection = Connection(link, ours, link.settings)
        self.mid = 0

    async def open(self) -> None:
        self.connection.open(asyncio.get_running_loop().time() + 60)
        await self.say(b"\x20\x03\0\0\0")

    async def say(self, packets: bytes) -> None:
        """Sends, and returns when all of it is handled, but for what is still to be acknowledged."""
        self.peer.sendall(packets)
        for _ in range(20):  # turns: to read, to run, to send
            await asyncio.sleep(0)

    async def read(self, read: Read) -> tuple[list[bytes], list[bytes]]:
        """What one wake-up brings; what was published then, and the acknowledgments, each in their order."""
        self.way.clock.pass_s(1)
        packets = b""
        for key, payload, qos in read:
            self.mid += qos
            mid = self.mid.to_bytes(2, "big") if qos else b""
            topic = f"in/{key}".encode()
            body = len(topic).to_bytes(2, "big") + topic + mid + b"\0" + payload
            packets += bytes((0x30 | qos << 1, len(body))) + body
        await self.say(packets)
        publishes, acks = self._heard()
        await self.say(b"".join(b"\x40\x02" + mid_of(frame) for frame in publishes if frame[0] & 6))
        if self.connection.receiver.ledger.is_due:
            await pause_on_loop(2 * SETTLE_S, "a later turn settled an input, when the answers of its read had left")
        more, later = self._heard()
        assert not more
        return publishes, acks + later

    def _heard(self) -> tuple[list[bytes], list[bytes]]:
        """PUBLISH and PUBACK frames that have come."""
        try:
            data = self.peer.recv(1 << 16)
        except BlockingIOError:
            data = b""
        publishes, acks, at = list[bytes](), list[bytes](), 0
        while at < len(data):
            length, start = read_varint(data, at + 1, len(data))
            frame = data[at : start + length]
            if data[at] == 0x40:
                acks.append(frame)
            elif data[at] >> 4 == 3:
                publishes.append(frame)
            at = start + length
        return publishes, acks


samples = st.tuples(st.sampled_from(["x", "y", "z"]), st.sampled_from(SAMPLES), st.integers(0, 1))
sampled = st.lists(st.lists(samples, min_size=1, max_size=5), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(
    arriving=sampled,
    format=st.sampled_from(list(DECODE)),
    overflow=st.sampled_from(["drop_oldest", "block"]),
    qos=st.integers(0, 1),
)
def test_both_ways_send_the_same_bytes(folder: Path, arriving: list[Any], format: str, overflow: str, qos: int) -> None:
    written = [[(key, WRITTEN[format](row), qos) for key, row, qos in read] for read in arriving]

    async def both() -> list[Any]:
        found = []
        for is_straight in (True, False):
            one = Way(folder, TEXT % (DECODE[format], overflow, qos), is_straight)
            if not is_straight:
                one.a.models["m"].claim = lambda give_up, arrival, rows: False  # type: ignore[method-assign]
            wire = Wire(one)
            await wire.open()
            answers = [await wire.read(read) for read in written]
            found.append((answers, one.facts, one.a.links["main"].sender.acked))
            wire.connection.close()
            wire.peer.close()
            one.a.close()
        return found

    straight, long = asyncio.run(both())
    assert straight == long


MAX_CALLS = 105
"""Python calls of edged for a message that comes alone and is answered at QoS 0."""


async def test_a_message_alone_takes_few_calls(tmp_path: Path) -> None:
    text = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = { format = "raw", dtype = "float32", shape = [3] }
[model.m]
path = "m.onnx"
run = "inline"
[pipeline.p]
source = "in"
model = "m"
output = { type = "raw" }
publish = { topic = "out/x", qos = 0 }
"""
    one = Way(tmp_path, text, is_straight=True)
    wire = Wire(one)
    await wire.open()
    for _ in range(3):
        await wire.read([("x", WRITTEN["raw"]((1.0, 2.0, 3.0)), 0)])
    found: list[list[str]] = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and ROOT in frame.f_code.co_filename:
            found[-1].append(frame.f_code.co_name)

    for _ in range(3):  # now and then one is measured, stage by stage
        found.append([])
        sys.setprofile(note)
        answers, _ = await wire.read([("x", WRITTEN["raw"]((1.0, 2.0, 3.0)), 0)])
        sys.setprofile(None)
        assert len(answers) == 1
    assert min(map(len, found)) <= MAX_CALLS, min(found, key=len)
    wire.connection.close()
    wire.peer.close()
    one.a.close()


async def way(folder: Path, text: str = TEXT % (DECODE["csv"], "drop_oldest", 0)) -> Way:
    return Way(folder, text, is_straight=True)


def hand_in(way: Way, *payloads: bytes, key: str = "x") -> int:
    """What one wake-up brings; how many messages wait to be sent at its end."""
    way.a.tail.open()
    way.a.routers["main"].on_publishes([(f"in/{key}".encode(), p, 0, False, (), NONE, b"") for p in payloads])
    way.a.tail.close()
    return len(way.a.links["main"].outbox)


def several(count: int) -> list[bytes]:
    """Payloads that have different results."""
    return [b"%d,0,0" % (100 + i) for i in range(count)]


async def test_what_comes_alone_is_answered_in_the_same_wake_up(tmp_path: Path) -> None:
    one = await way(tmp_path)
    assert hand_in(one, b"1,2,3") == 1
    assert (one.a.models["m"].counts.runs, one.a.models["m"].counts.rows) == (1, 1)


async def test_what_comes_together_is_answered_in_the_same_wake_up_by_full_batches(tmp_path: Path) -> None:
    one = await way(tmp_path)
    counts = one.a.models["m"].counts
    assert hand_in(one, *several(BATCH)) == BATCH
    assert (counts.runs, counts.rows) == (1, BATCH)
    assert hand_in(one, *several(BATCH + 1)) == 2 * BATCH + 1  # no time passes between them
    assert (counts.runs, counts.rows) == (3, 2 * BATCH + 1)


async def test_the_time_of_its_runs_is_counted_for_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await way(tmp_path)
    tick_within(monkeypatch, 1000, (type(one.a.models["m"]), "_count"))
    hand_in(one, *several(2 * BATCH))
    hand_in(one, b"1,2,3")
    assert one.a.pipelines["p"].counts.spent["run"] == 3000
    assert one.a.models["m"].take_spent() == 0


async def test_what_would_hold_the_loop_for_long_waits_for_its_turn(tmp_path: Path) -> None:
    one = await way(tmp_path)
    most = RUNS_AT_ONCE * BATCH
    assert hand_in(one, *several(most)) == most
    assert hand_in(one, *several(most + 1)) == most
    await asyncio.sleep(0)
    assert len(one.a.links["main"].outbox) == 2 * most + 1


async def test_after_a_run_that_took_long_the_rest_waits_for_its_turn(tmp_path: Path) -> None:
    one = await way(tmp_path)
    session: Any = one.a.models["m"].loaded.session
    run = session.run

    def run_slowly(count: int) -> Any:
        one.clock.pass_s(0.02)
        return run(count)

    session.run = run_slowly
    assert hand_in(one, *several(3 * BATCH)) == BATCH
    assert len(one.a.pipelines["p"].slots) == 2 * BATCH
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(one.a.links["main"].outbox) == 3 * BATCH


async def test_of_what_came_together_only_the_row_that_cannot_be_run_is_lost(tmp_path: Path) -> None:
    one = await way(tmp_path)
    assert hand_in(one, b"1,2,3", b"4,5,6", b"7,7,7", b"99,0,0", b"8,8,8") == 2
    await asyncio.sleep(0)
    counts = one.a.pipelines["p"].counts
    assert (counts.due, counts.published, counts.drops.by_reason, counts.balance(0)) == (5, 4, {"internal_error": 1}, 0)


async def test_where_others_feed_the_model_what_comes_together_is_a_batch_and_so_is_what_comes_after_one(
    tmp_path: Path,
) -> None:
    one = await way(tmp_path, SHARED)
    counts = one.a.models["m"].counts
    assert hand_in(one, b"1,2,3", b"4,5,6") == 0
    await asyncio.sleep(0)
    assert (counts.runs, counts.rows) == (1, 2)
    one.clock.pass_s(1)
    assert hand_in(one, b"7,7,7") == 2
    await asyncio.sleep(0)
    one.clock.pass_s(1)
    assert hand_in(one, b"8,8,8") == 4  # the last batch was one row
    assert (counts.runs, counts.rows) == (3, 4)


async def test_what_other_sockets_bring_in_the_same_turn_goes_together(tmp_path: Path) -> None:
    one = await way(tmp_path, SHARED)
    for _ in range(3):
        hand_in(one, b"1,2,3")  # no time passes between them
    await asyncio.sleep(0)
    assert (one.a.models["m"].counts.runs, one.a.models["m"].counts.rows) == (2, 3)


async def test_two_pipelines_of_a_model_that_read_one_message_share_its_batch(tmp_path: Path) -> None:
    second = '\n[pipeline.q]\nsource = "in"\nmodel = "m"\npublish = { topic = "q/{room}", qos = 0 }\n'
    one = await way(tmp_path, TEXT % (DECODE["csv"], "drop_oldest", 0) + second)
    assert hand_in(one, b"1,2,3") == 0
    await asyncio.sleep(0)
    assert (one.a.models["m"].counts.runs, one.a.models["m"].counts.rows) == (1, 2)
    assert len(one.a.links["main"].outbox) == 2


async def test_a_row_that_cannot_be_run_is_counted_once_and_the_next_one_is_answered(tmp_path: Path) -> None:
    one = await way(tmp_path)
    assert hand_in(one, b"99,0,0") == 0
    await asyncio.sleep(0)
    counts = one.a.pipelines["p"].counts
    assert (counts.due, counts.drops.by_reason, counts.balance(0), one.runs) == (1, {"internal_error": 1}, 0, 2)
    one.clock.pass_s(1)
    assert hand_in(one, b"1,2,3") == 1
    assert one.a.models["m"].state == "idle"
