"""Pictures wait, are decoded beside the loop one at a time, and come out in the order in which they came in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.decode.values import UNTOLD, Arrived
from edged.records import NONE, Block, Receipt, Reject, Rows
from edged.sources.mqtt import MqttSource, SourceWiring
from edged.sources.pictures import MAX_FULL, MAX_ITEMS, PictureQueue, Waiting, beside
from edged.sources.router import Filter, Router, Wanted
from edged.stamp import KeyTable, Stamper
from edged.telemetry import Drops
from edged.topics import parse_filter
from tests.support.parts import parts_of

DEADLINE_S = 10.0


class Slow:
    """Decodes a payload to its length, once it is allowed to; says which thread did it."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.threads: set[str] = set()
        self.begun: list[bytes] = []

    def decode(self, payloads: Sequence[bytes], sensors: Sequence[Hashable] | None = None, arrived: Arrived = UNTOLD) -> Rows:
        [payload] = payloads
        self.begun.append(payload)
        self.threads.add(threading.current_thread().name)
        assert self.may_go_on.wait(DEADLINE_S)
        if payload == b"bad":
            return Rows(np.empty((0, 1), np.uint8), payload=np.empty(0, np.int32), rejects=[Reject("malformed", "bad", payload)])
        return Rows(np.array([[len(payload)]], np.uint8), carried=[b"{}"])


async def until(condition: Callable[[], object]) -> None:
    async def look() -> None:
        while not condition():  # noqa: ASYNC110 (what it waits for ends in a callback)
            await asyncio.sleep(0)

    await asyncio.wait_for(look(), DEADLINE_S)


def waiting(payload: bytes, receipt: Receipt = NONE, arrival: int = 1) -> Waiting:
    return Waiting(payload, (), receipt, arrival)


class Taken:
    """A queue, and what came of each message."""

    def __init__(self, max_bytes: int = 100) -> None:
        self.decoder = Slow()
        self.rows: list[bytes] = []
        self.dropped: list[tuple[bytes, str]] = []
        self.now = 1
        self.queue = PictureQueue("cam", self.decoder, max_bytes, self._take, self._drop, lambda: self.now)

    def _take(self, message: Waiting, rows: Rows | BaseException) -> None:
        assert isinstance(rows, Rows)
        self.rows.append(message.payload)

    def _drop(self, message: Waiting, reason: str) -> None:
        self.dropped.append((message.payload, reason))


async def test_in_order_one_at_a_time_and_not_on_the_loop() -> None:
    taken, receipts = Taken(), [Receipt(i) for i in range(1, 6)]
    for i, receipt in enumerate(receipts):
        taken.queue.add(waiting(b"x" * i, receipt))
    await until(lambda: taken.decoder.begun)
    assert (len(taken.queue), taken.decoder.begun, taken.rows) == (5, [b""], [])
    assert [r.owed for r in receipts] == [2] * 5
    taken.decoder.may_go_on.set()
    await until(lambda: not len(taken.queue))
    assert taken.rows == [b"x" * i for i in range(5)]
    assert taken.decoder.threads == {"decode-cam"}
    assert [r.owed for r in receipts] == [1] * 5


async def test_at_qos_0_the_oldest_give_way_at_qos_1_none() -> None:
    taken = Taken(max_bytes=10)
    owed = [Receipt(i) for i in range(1, 9)]
    taken.queue.add(waiting(b"first"))
    for i in range(8):
        taken.queue.add(waiting(b"%d" % i * 10))
        taken.queue.add(waiting(b"owed" * 5, owed[i]))
    assert taken.dropped == [(b"%d" % i * 10, "overflow") for i in range(8 - MAX_FULL)]
    assert len(taken.queue) == 1 + 8 + MAX_FULL
    for _ in range(2 * MAX_ITEMS):
        taken.queue.add(waiting(b""))
    assert len(taken.queue) == 1 + 8 + MAX_ITEMS
    taken.decoder.may_go_on.set()
    await until(lambda: not len(taken.queue))
    assert taken.rows.count(b"owed" * 5) == 8


async def test_a_request_pushes_nothing_out() -> None:
    class Asked(Receipt):
        is_request = True

    taken, asked = Taken(max_bytes=10), Asked(0)
    for i in range(1 + MAX_FULL):
        taken.queue.add(waiting(b"%d" % i * 10))
    taken.queue.add(waiting(b"request" * 2, asked))
    taken.queue.add(waiting(b"request" * 2, Asked(1)))  # at QoS 1 the broker bounds them
    assert (taken.dropped, asked.owed) == ([(b"request" * 2, "busy")], 1)
    taken.decoder.may_go_on.set()
    await until(lambda: not len(taken.queue))
    assert taken.rows == [*(b"%d" % i * 10 for i in range(1 + MAX_FULL)), b"request" * 2]


async def test_what_waited_for_half_of_the_deadline_is_not_decoded() -> None:
    """Else, when more comes than can be decoded, each would be too old once it is."""
    taken, late, timely = Taken(), Receipt(1), Receipt(2)
    taken.queue.configure(100)
    taken.queue.add(waiting(b"first"))
    taken.queue.add(waiting(b"late", late))
    taken.queue.add(waiting(b"late too"))
    taken.queue.add(waiting(b"timely", timely, arrival=2))
    await until(lambda: taken.decoder.begun)
    taken.now = 52
    taken.decoder.may_go_on.set()
    await until(lambda: not len(taken.queue))
    assert taken.rows == [b"first", b"timely"]
    assert taken.dropped == [(b"late", "expired"), (b"late too", "expired")]
    assert [late.owed, timely.owed] == [1, 1]


async def test_what_nobody_waits_for_any_more_is_not_decoded() -> None:
    taken = Taken()
    a, b, c = (Receipt(i) for i in (1, 2, 3))
    for payload, receipt in ((b"a", a), (b"b", b), (b"c", c)):
        taken.queue.add(waiting(payload, receipt))
    await until(lambda: taken.decoder.begun)
    taken.queue.expire({a, b})
    taken.queue.expire({a})
    taken.decoder.may_go_on.set()
    await until(lambda: not len(taken.queue))
    assert (taken.rows, taken.decoder.begun) == ([b"c"], [b"a", b"c"])
    assert sorted(taken.dropped) == [(b"a", "expired"), (b"b", "expired")]
    assert [r.owed for r in (a, b, c)] == [1, 1, 1]


async def test_with_no_thread_to_be_had_it_is_tried_again_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, first = Taken(), Receipt(1)
    taken.decoder.may_go_on.set()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as m:
        m.setattr(threading.Thread, "start", refuse)
        taken.queue.add(waiting(b"a", first))
    assert (len(taken.queue), first.owed) == (1, 2)
    taken.decoder.may_go_on.clear()
    taken.queue.add(waiting(b"b"))
    await until(lambda: taken.decoder.begun)
    with monkeypatch.context() as m:
        m.setattr(threading.Thread, "start", refuse)
        taken.decoder.may_go_on.set()
        await until(lambda: taken.rows)  # nor after one that was decoded
    taken.queue.add(waiting(b"c"))
    await until(lambda: not len(taken.queue))
    assert (taken.rows, first.owed) == ([b"a", b"b", b"c"], 1)


async def test_what_comes_again_is_not_decoded_now() -> None:
    taken = Taken()
    a, b, c = (Receipt(i) for i in (1, 2, 3))
    for payload, receipt in ((b"a", a), (b"b", b), (b"c", c)):
        taken.queue.add(waiting(payload, receipt))
    await until(lambda: taken.decoder.begun)
    taken.queue.supersede({a, b})
    taken.decoder.may_go_on.set()
    await until(lambda: not len(taken.queue))
    assert (taken.rows, taken.decoder.begun) == ([b"c"], [b"a", b"c"])
    assert [r.owed for r in (a, b, c)] == [1, 1, 1]


async def test_what_is_left_to_another_queue_is_decoded_there() -> None:
    before, after = Taken(), Taken()
    a, b = Receipt(1), Receipt(2)
    before.queue.add(waiting(b"a", a))
    before.queue.add(waiting(b"b", b))
    await until(lambda: before.decoder.begun)
    for message in before.queue.leave():
        after.queue.add(message)
        message.receipt.done()
    before.decoder.may_go_on.set()
    after.decoder.may_go_on.set()
    await until(lambda: not len(before.queue) and not len(after.queue))
    assert (before.rows, after.rows) == ([], [b"a", b"b"])
    assert [a.owed, b.owed] == [1, 1]


async def test_a_source_that_has_a_task_waits() -> None:
    decoder = Slow()
    decoder.may_go_on.set()
    rows = await beside("cam", lambda: decoder.decode([b"xyz"]))
    assert rows is not None
    assert rows.values.tolist() == [[3]]
    assert decoder.threads == {"decode-cam"}


def source(decoder: Slow, name: str = "cam") -> MqttSource:
    keys = KeyTable(3, None)
    return MqttSource(
        name,
        Wanted([Filter(1, parse_filter("cam/{camera}"))]),
        decoder,
        parts_of(name, keys, Stamper(None, None, keys)),
        [("capture", 0)],
        queued_bytes=100,
    )


async def test_a_source_of_pictures() -> None:
    """Each picture is a block of its own, with the key of its topic and the time at which it came in."""
    decoder = Slow()
    one, blocks = source(decoder), list[Block]()
    one.connect(SourceWiring([blocks.append]))
    router = Router([one], Clock(), Drops("broker.test"))
    receipts = [Receipt(i) for i in range(1, 5)]
    payloads = [(b"cam/a", b"12"), (b"cam/b", b"bad"), (b"cam/b", b"1"), (b"cam/a", b"123")]
    router.on_publishes([(t, p, 1, False, (), r, b"") for (t, p), r in zip(payloads, receipts, strict=True)])
    assert [r.owed for r in receipts] == [1] * 4  # the queue's
    assert (one.counts.messages, one.counts.read) == (4, 0)
    came = Clock().now()
    decoder.may_go_on.set()
    await until(lambda: not one.queue)
    assert [(b.values.tolist(), b.keys) for b in blocks] == [([[2]], 0), ([[1]], 1), ([[3]], 0)]
    assert all(b.arrival <= came for b in blocks)
    assert [r.owed for r in receipts] == [0] * 4
    assert (one.counts.read, one.counts.rows, one.counts.balance()) == (4, 3, 0)
    assert one.counts.drops.by_reason == {"malformed": 1}


async def test_at_a_stop_what_nobody_sends_again_is_counted() -> None:
    decoder = Slow()
    one = source(decoder)
    router = Router([one], Clock(), Drops("broker.test"))
    receipt = Receipt(1)
    router.on_publishes([(b"cam/a", b"1", 0, False, (), NONE, b""), (b"cam/a", b"2", 1, False, (), receipt, b"")])
    one.abandon()
    decoder.may_go_on.set()
    await until(lambda: not one.queue)
    assert one.counts.drops.by_reason == {"shutdown": 1}
    assert (one.counts.balance(), receipt.owed) == (0, 1)  # not acknowledged: it comes again


async def test_a_fault_of_the_decoder_costs_its_picture_which_is_not_tried_on_the_loop() -> None:
    class Broken(Slow):
        def decode(self, payloads: Sequence[bytes], sensors: Sequence[Hashable] | None = None, arrived: Arrived = UNTOLD) -> Rows:
            super().decode(payloads, sensors)
            raise ZeroDivisionError

    decoder = Broken()
    decoder.may_go_on.set()
    one, receipt = source(decoder), Receipt(1)
    Router([one], Clock(), Drops("broker.test")).on_publishes([(b"cam/a", b"1", 1, False, (), receipt, b"")])
    await until(lambda: not one.queue)
    assert decoder.threads == {"decode-cam"}
    assert (one.counts.drops.by_reason, one.counts.balance(), receipt.owed) == ({"internal_error": 1}, 0, 0)


async def test_a_fault_of_a_pipeline_ends_nothing() -> None:
    decoder = Slow()
    decoder.may_go_on.set()
    one, blocks = source(decoder), list[Block]()

    def fail(block: Block) -> None:
        raise ZeroDivisionError

    one.connect(SourceWiring([fail, blocks.append]))
    receipt = Receipt(1)
    Router([one], Clock(), Drops("broker.test")).on_publishes([(b"cam/a", b"1", 1, False, (), receipt, b"")])
    await until(lambda: not one.queue)
    assert (len(blocks), receipt.owed, one.counts.balance()) == (1, 0, 0)
    assert "internal_error" in one.counts.drops.by_reason
