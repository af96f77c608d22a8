"""The link over a bad network: a proxy before a real mosquitto that slices, delays, throttles, resets and closes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edged.mqtt.link import Inbound, Subscription
from edged.records import Receipt
from tests.support.broker import Broker
from tests.support.mqtt_peer import Peer, Server, Subject, forever, on_uvloop, publish, running, settings, until
from tests.support.pause import pause_on_loop
from tests.support.scale import scale

PIECE = 65536
RESET = struct.pack("ii", 1, 0)  # linger for no time: close() sends RST and forgets what was not sent


@dataclass
class Proxy:
    """One TCP port before another. `life` says after how many bytes, both ways together, a connection ends, and `is_reset` how;
    `piece` is the most bytes a send, `pause` the seconds before each."""

    target: int
    piece: int = PIECE
    pause: Callable[[], float] = lambda: 0.0
    life: Callable[[], int | None] = lambda: None
    is_reset: bool = False
    port: int = 0
    connections: int = 0
    bytes: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
            tasks.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        behind, ahead = await asyncio.open_connection("127.0.0.1", self.target)
        left = [self.life()]
        ways = [asyncio.ensure_future(self._pass(reader, ahead, left)), asyncio.ensure_future(self._pass(behind, writer, left))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            if self.is_reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            for end in (writer, ahead):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: list[int | None]) -> None:
        while data := await source.read(PIECE):
            for start in range(0, len(data), self.piece):
                part = data[start : start + self.piece]
                if left[0] is not None:
                    part = part[: left[0]]
                    left[0] -= len(part)
                await pause_on_loop(self.pause(), "the network is slow")
                sink.write(part)
                await sink.drain()
                self.bytes += len(part)
                if left[0] == 0:
                    return


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path, "max_queued_messages 0") as broker:
        yield broker


@contextlib.asynccontextmanager
async def witness(broker: Broker) -> AsyncIterator[Subject]:
    """One that hears all results on a good line."""
    subject = Subject(settings(broker.port, client_id="witness", subscriptions=(Subscription("out/#", 1, 1),)))
    async with running(subject):
        await until(lambda: subject.link.state == "connected")
        yield subject


def numbers(subject: Subject) -> list[int]:
    return [int(body.split(b" ")[0]) for body in subject.payloads]


@on_uvloop
async def test_a_byte_at_a_time(broker: Broker) -> None:
    async with Proxy(broker.port, piece=1).running() as proxy, witness(broker) as seen:
        subject = Subject(settings(proxy.port, subscriptions=(Subscription("in", 1, 1),)))
        async with running(subject):
            for i in range(100):
                subject.send("in", b"%d" % i, 1)
                subject.send("out/p", b"%d" % i, 1)
            await until(lambda: len(seen.got) == 100 and len(subject.got) == 100)
    assert numbers(seen) == list(range(100)) == numbers(subject)
    assert proxy.connections == 1


@on_uvloop
async def test_a_slow_and_unsteady_answer(broker: Broker) -> None:
    """A third of a second, give or take, and each piece by itself: nothing is sent twice, and all stays in order."""
    rng = random.Random(1)
    async with Proxy(broker.port, pause=lambda: rng.uniform(0.05, 0.25)).running() as proxy, witness(broker) as seen:
        subject = Subject(settings(proxy.port))
        async with running(subject):
            for i in range(100):
                subject.send("out/p", b"%d" % i, 1)
            await until(lambda: subject.account.acked == 100, 30.0)
            await until(lambda: len(seen.got) == 100)
    assert numbers(seen) == list(range(100))
    assert proxy.connections == 1


@pytest.mark.parametrize("is_reset", [True, False])
@on_uvloop
async def test_the_connection_ends_at_any_byte(is_reset: bool, broker: Broker) -> None:
    """At each of the first bytes of a session, from the name of the protocol to the midst of results: nothing is lost."""
    left = list(range(scale("ends of a connection"), 0, -1))
    proxy = Proxy(broker.port, life=lambda: left.pop() if left else None, is_reset=is_reset)
    async with proxy.running(), witness(broker) as seen:
        subject = Subject(
            settings(proxy.port, retry_s=0.0, refused_retry_s=(0.0, 0.0), subscriptions=(Subscription("in", 1, 1),))
        )
        async with running(subject):
            sent = 0
            while left:
                if sent - subject.account.acked < 500:
                    subject.send("out/p", b"%d %s" % (sent, b"." * 50), 1)
                    sent += 1
                await asyncio.sleep(0)
            await until(lambda: subject.account.acked == sent)
            await until(lambda: set(numbers(seen)) == set(range(sent)))
    assert sent >= 500
    assert list(dict.fromkeys(numbers(seen))) == list(range(sent))


@on_uvloop
async def test_a_thin_line(broker: Broker) -> None:
    """32 kbit/s: what is offered is more than it carries. The connection stays, and memory is bounded by the outbox."""
    per_second = 4000
    async with Proxy(broker.port, piece=400, pause=lambda: 400 / per_second).running() as proxy, witness(broker) as seen:
        subject = Subject(settings(proxy.port, keepalive_s=2, outbox_items=50))
        async with running(subject, close_s=0.0):
            await until(lambda: subject.link.state == "connected")
            for burst in range(4):
                for i in range(40):
                    subject.send("out/p", b"%d %s" % (40 * burst + i, b"." * 100))
                await pause_on_loop(1.0, "sensors send in bursts")
            await until(lambda: subject.account.balance() == 0 and len(seen.got) > 50)
            assert subject.link.counts.connects == 1
        assert proxy.connections == 1
    assert numbers(seen) == sorted(set(numbers(seen)))


@on_uvloop
async def test_acknowledgments_leave_in_the_order_of_arrival() -> None:
    """However unevenly the results end."""
    count = scale("acknowledgments")
    acknowledged: list[int] = []
    rng = random.Random(2)
    waiting: list[Receipt] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for mid in range(1, count + 1):
            peer.write(publish(b"a/b", b"x", 1, mid))
            if mid - len(acknowledged) >= 64:  # the agreed receive maximum
                acknowledged.append(int.from_bytes((await peer.read_kind(4))[1][:2], "big"))
        while len(acknowledged) < count:
            acknowledged.append(int.from_bytes((await peer.read_kind(4))[1][:2], "big"))
        await forever(peer)

    def take(publishes: list[Inbound]) -> None:
        waiting.extend(p[5] for p in publishes)

    async with Server(script) as server:
        subject = Subject(settings(server.port, subscriptions=(Subscription("a/#", 1, 7),)), take)
        async with running(subject):
            while len(acknowledged) < count:
                rng.shuffle(waiting)
                for _ in range(min(len(waiting), rng.randint(1, 9))):
                    waiting.pop().done()
                await asyncio.sleep(0)
    assert acknowledged == list(range(1, count + 1))
