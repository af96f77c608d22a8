"""The link against a server that misbehaves on purpose, and against none at all."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from edged.mqtt import connection
from edged.mqtt.connection import BUFFER_BYTES, MAX_UNASKED
from edged.mqtt.frames import AT_ONCE, Batch, FrameParser, Inbound
from edged.mqtt.link import Subscription
from edged.mqtt.suspects import Suspects, digest
from edged.records import Message, Receipt
from edged.system.hang_recorder import Stages
from tests.support import mqtt_packets
from tests.support.broker import free_port
from tests.support.ends import at_an_end
from tests.support.mqtt_peer import (
    DEADLINE_S,
    POLL_S,
    Peer,
    Server,
    Subject,
    connack,
    deaf,
    forever,
    make_certificates,
    on_both_loops,
    on_uvloop,
    packet,
    puback,
    publish,
    publish_parts,
    running,
    server_context,
    settings,
    suback,
    until,
)
from tests.support.pause import pause_on_loop

SUBSCRIPTION = (Subscription("a/#", 1, 7),)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


# What we say


@on_uvloop
async def test_connect_says_what_is_configured() -> None:
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        bodies.append(await peer.welcome())
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port, session_expiry_s=3600, receive_maximum=10, max_packet=70_000, keepalive_s=25))
        async with running(subject):
            await until(lambda: subject.link.is_connected)
        clean = Subject(settings(server.port, session_expiry_s=0))
        async with running(clean):
            await until(lambda: clean.link.is_connected)
    assert bodies[0][:10] == b"\x00\x04MQTT\x05\x00" + struct.pack("!H", 25)  # flags 0: no clean start
    properties = bodies[0][11 : 11 + bodies[0][10]]
    assert b"\x11" + struct.pack("!I", 3600) in properties
    assert b"\x21" + struct.pack("!H", 10) in properties
    assert b"\x27" + struct.pack("!I", 70_000) in properties
    assert bodies[1][7] == 0x02


@on_uvloop
async def test_subscribe_says_identifier_and_retain_handling() -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(properties=b"\x29\x00" if len(asked) else b"")  # second: no subscription identifiers
        asked.append((await peer.read_kind(8))[1])
        await forever(peer)

    async with Server(script) as server:
        for _ in range(2):
            subject = Subject(settings(server.port, subscriptions=(Subscription("x", 1, 300, retain_handling=2),)))
            count = len(asked)
            async with running(subject):
                await until(lambda: len(asked) > count)
    assert asked[0][2:] == b"\x03\x0b\xac\x02" + b"\x00\x01x" + b"\x21"
    assert asked[1][2:] == b"\x00" + b"\x00\x01x" + b"\x21"


# Flow control


@on_uvloop
async def test_unacknowledged_messages_never_exceed_the_servers_receive_maximum() -> None:
    """200 messages wait; the server takes five at a time, acknowledges slowly and leaves twenty times."""
    delivered: list[bytes] = []
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.welcome(present=server.connections > 1, properties=b"\x21\x00\x05")
        owed: list[bytes] = []
        acked = 0
        while server.connections > 20 or acked < 8:
            try:
                head, body = await asyncio.wait_for(peer.read_kind(3), 0.002)
            except asyncio.TimeoutError:
                if owed:
                    peer.write(puback(owed.pop(0)))
                    acked += 1
                continue
            _, mid, payload = publish_parts(head, body)
            owed.append(mid)
            delivered.append(payload)
            most = max(most, len(owed))

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            for i in range(200):
                subject.send("out", b"%d" % i, 1)
            await until(lambda: subject.account.acked == 200, 20.0)
    assert most == 5
    assert server.connections > 20
    first_seen = list(dict.fromkeys(delivered))
    assert first_seen == [b"%d" % i for i in range(200)]


@pytest.mark.parametrize("present", [True, False])
@on_uvloop
async def test_what_was_in_flight_goes_first_after_a_reconnect(present: bool) -> None:
    """With the same id and DUP while the session lasts, as new otherwise."""
    seen: list[list[tuple[int, bytes, bytes]]] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(present=present and bool(seen))
        mine: list[tuple[int, bytes, bytes]] = []
        seen.append(mine)
        while len(seen) > 1 or len(mine) < 3:
            head, body = await peer.read_kind(3)
            mine.append((head, *publish_parts(head, body)[1:]))
            if len(seen) > 1:
                peer.write(puback(mine[-1][1]))

    async with Server(script) as server:
        subject = Subject(settings(server.port, inflight=3))
        async with running(subject):
            for i in range(3):
                subject.send("out", b"%d" % i, 1)
            await until(lambda: len(seen) == 2)
            subject.send("out", b"3", 1)
            await until(lambda: subject.account.acked == 4)
    assert [p for _, _, p in seen[1][:3]] == [b"0", b"1", b"2"]
    again = [(head, mid) for head, mid, _ in seen[1][:3]]
    if present:
        assert again == [(0x3A, mid) for _, mid, _ in seen[0]]
    else:
        assert {head for head, _ in again} == {0x32}


@pytest.mark.parametrize(("code", "tries"), [(0x87, 1), (0x90, 1), (0x99, 1), (0x97, 3)])
@on_uvloop
async def test_refused_publish_is_not_delivered(code: int, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RESEND_S", 0.01)
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while True:
            head, body = await peer.read_kind(3)
            _, mid, payload = publish_parts(head, body)
            seen.append(payload)
            peer.write(puback(mid, code if payload == b"bad" else 0))

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        receipt = Receipt(1)
        async with running(subject):
            subject.send("out", b"bad", 1, receipt=receipt)
            await until(lambda: subject.account.drops.by_reason == {"refused": 1})
            subject.send("out", b"good", 1)
            await until(lambda: subject.account.acked == 1)
    assert seen == [b"bad"] * tries + [b"good"]
    assert receipt.owed == 0


@on_uvloop
async def test_broker_that_allows_less() -> None:
    """No QoS 1, nothing retained, no packet over 100 bytes: messages are sent as they may be, or dropped and counted."""
    heads: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(properties=b"\x24\x00\x25\x00\x27" + struct.pack("!I", 100))
        while True:
            heads.append((await peer.read_kind(3))[0])

    async with Server(script) as server:
        subject = Subject(settings(server.port, status_topic="s"))
        async with running(subject):
            subject.send("out", b"x", 1, retain=True)
            subject.send("out", b"x" * 100, 1)
            await until(lambda: len(heads) == 2 and subject.account.drops.by_reason == {"too_large": 1})
    assert heads[:2] == [0x30, 0x30]


@on_uvloop
async def test_what_edged_says_of_a_message_that_came_alone_and_is_too_large_is_shown() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(properties=b"\x27" + struct.pack("!I", 100))
        await until(lambda: (one := subject.link._connection) is not None and one.is_connected and not one.is_flush_due)
        peer.write(publish(b"a/b", b"no number"))
        await forever(peer)

    def take(_: list[Inbound]) -> None:
        subject.link.send(Message(b"rejects", b"x" * 100))

    async with Server(script) as server:
        subject = Subject(settings(server.port), take)
        async with running(subject):
            await until(lambda: subject.got)
            assert subject.link.state == "degraded"
            assert subject.link.reason.startswith("the broker refuses what edged publishes about itself on rejects (too large:")


@on_uvloop
async def test_a_fault_of_our_own_in_sending_does_not_stop_the_link() -> None:
    """A message that cannot be framed is dropped or costs one connection, never the link."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while True:
            head, body = await peer.read_kind(3)
            got.append(publish_parts(head, body)[0])

    got: list[bytes] = []
    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            subject.send("t" * 70_000, b"x")
            await until(lambda: subject.account.drops.by_reason == {"too_large": 1})
            subject.link.send(Message(b"out", "text"))  # type: ignore[arg-type]
            await until(lambda: subject.link.counts.failures == 1)
            subject.send("out", b"x")
            await until(lambda: got == [b"out"])


@on_uvloop
async def test_peer_that_never_reads() -> None:
    """What the kernel does not take is held up to a limit; the rest stays in the outbox, which drops its oldest."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await deaf(peer)

    async with Server(script) as server:
        limit = {"outbox_items": 1000, "outbox_bytes": 1 << 20}
        subject = Subject(settings(server.port, **limit))
        async with running(subject, close_s=0.1):
            await until(lambda: subject.link.is_connected)
            connection = subject.link._connection
            assert connection
            while not (connection.channel.is_stuck and subject.account.drops.total):
                for _ in range(10):
                    subject.send("out", b"x" * 4096)
                await asyncio.sleep(0)
            assert len(connection.channel.out) <= BUFFER_BYTES + 8192
            assert subject.link.outbox.peak_bytes <= 1 << 20
            assert subject.account.drops.by_reason.keys() == {"overflow"}
            assert subject.account.balance() == 0


@on_uvloop
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_more_inputs_than_the_receive_maximum(version: str) -> None:
    """What is too much waits in order, what is too much for that is left with the broker, and comes again."""
    acks: list[list[int]] = []
    kept: list[Receipt] = []
    count = 400
    is_v5 = version == "5"

    async def script(peer: Peer) -> None:
        done = sum(map(len, acks))
        acks.append([])
        await peer.welcome(is_v5=is_v5, present=done > 0)
        peer.write(b"".join(publish(b"a/b", b"%d" % mid, 1, mid, is_v5=is_v5) for mid in range(done + 1, count + 1)))
        while True:
            _, body = await peer.read_kind(4)
            acks[-1].append(int.from_bytes(body[:2], "big"))

    async with Server(script) as server:
        link = settings(server.port, receive_maximum=10, version=version, retry_s=0.05)
        subject = Subject(link, lambda got: kept.extend(p[5] for p in got))
        async with running(subject):
            await until(lambda: kept)
            assert len(kept) == 10
            assert subject.link.counts.excess == count - 160
            while sum(map(len, acks)) < count:
                assert sum(receipt.owed for receipt in kept) <= 10
                for receipt in kept:
                    if receipt.owed:
                        receipt.done()
                subject.link.settle()
                await asyncio.sleep(0)
    assert subject.payloads == [b"%d" % mid for mid in range(1, count + 1)]
    assert [mid for some in acks for mid in some] == list(range(1, count + 1))
    assert server.connections == 3


@pytest.mark.parametrize("present", [True, False])
@on_uvloop
async def test_inputs_that_wait_are_kept_where_the_broker_lost_them(present: bool) -> None:
    """Ten are handled and not acknowledged, thirty wait; then the connection goes, and with it perhaps the session."""
    acks: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(present=present and server.connections > 1)
        if server.connections == 1:
            peer.write(b"".join(publish(b"a/b", b"%d" % mid, 1, mid) for mid in range(1, 41)))
            await until(lambda: len(subject.got) == 10 and len(subject.link.receiver.rest) == 30)
            return
        if present:
            peer.write(b"".join(publish(b"a/b", b"%d" % mid, 1, mid, flags=8) for mid in range(1, 41)))
        peer.write(publish(b"a/b", b"new", 1, 50))
        while True:
            acks.append(int.from_bytes((await peer.read_kind(4))[1][:2], "big"))

    def take(got: list[Inbound]) -> None:
        if server.connections > 1:
            for publish_ in got:
                publish_[5].done()

    async with Server(script) as server:
        subject = Subject(settings(server.port, receive_maximum=10), take)
        async with running(subject):
            await until(lambda: 50 in acks)
    first, handled = [b"%d" % mid for mid in range(1, 11)], [b"%d" % mid for mid in range(11, 41)]
    assert subject.payloads == [*first, *(first if present else []), *handled, b"new"]
    assert acks == ([*range(1, 41)] if present else []) + [50]
    again = [p[5].is_again for p in subject.got[10:]]
    assert again == [present] * (len(again) - 1) + [False]


@on_uvloop
async def test_a_fault_in_handling_settles_only_what_nobody_holds() -> None:
    acks: list[int] = []
    held: list[Receipt] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(b"".join(publish(b"a/b", b"%d" % mid, 1, mid) for mid in (1, 2, 3)))
        while True:
            acks.append(int.from_bytes((await peer.read_kind(4))[1][:2], "big"))

    def take(got: list[Inbound]) -> None:
        got[1][5].hold()
        held.append(got[1][5])
        raise ZeroDivisionError("so it goes")

    async with Server(script) as server:
        subject = Subject(settings(server.port), take)
        async with running(subject):
            await until(lambda: acks)
            assert (acks, held[0].owed) == ([1], 1)
            held[0].done()
            await until(lambda: len(acks) == 3)
            assert subject.link.counts.failures == 1


@on_uvloop
async def test_receipts_of_an_older_connection_acknowledge_nothing() -> None:
    """The server loses its state and uses the same id again for another message."""
    kept: list[Receipt] = []
    acks: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(publish(b"a/b", b"%d" % server.connections, 1, 5))
        if server.connections == 1:
            await until(lambda: kept)
            return
        acks.append((await peer.read_kind(4))[1])

    async with Server(script) as server:
        subject = Subject(settings(server.port), lambda got: kept.extend(p[5] for p in got))
        async with running(subject):
            await until(lambda: len(kept) == 2)
            kept[0].done()
            subject.link.settle()
            assert len(subject.link.ledger) == 1
            kept[1].done()
            subject.link.settle()
            await until(lambda: acks)
    assert acks == [b"\x00\x05"]


# Messages that the broker ends the connection over


class Picky:
    """A broker that ends the connection at a topic that begins with `bad`, in its own way, and takes the others."""

    def __init__(self, is_v5: bool, says: bytes = b"") -> None:
        self.got: list[bytes] = []
        self.bad = 0
        self.most_in_a_read = 0
        self._is_v5 = is_v5
        self._says = says

    async def __call__(self, peer: Peer) -> None:
        await peer.welcome(is_v5=self._is_v5)
        while True:
            head, body = await peer.read()
            if head >> 4 == 12:
                peer.write(b"\xd0\0")
            elif head >> 4 == 3:
                topic, mid, payload = publish_parts(head, body, self._is_v5)
                if topic.startswith(b"bad"):
                    self.bad += 1
                    peer.write(self._says)
                    return
                self.got.append(payload)
                if mid:
                    peer.write(puback(mid))


@pytest.mark.parametrize(("version", "says"), [("5", b"\xe0\x01\x81"), ("5", b"\xe0\x01\x90"), ("5", b""), ("3.1.1", b"")])
@on_uvloop
async def test_a_message_that_ends_the_connection_is_found_among_others(version: str, says: bytes) -> None:
    """At QoS 1 it would be sent again forever: it alone is dropped, counted and named, and nobody else is blamed."""
    broker = Picky(version == "5", says)
    receipts = [Receipt(i) for i in range(100)]
    async with Server(broker) as server:
        subject = Subject(settings(server.port, version=version, inflight=16))
        with capture_logs() as logs:
            async with running(subject):
                for i, receipt in enumerate(receipts):
                    subject.send("bad/\u00e9" if i == 30 else "out", b"%d" % i, 1, receipt=receipt)
                await until(lambda: subject.account.acked == 99)
                assert subject.account.drops.by_reason == {"refused": 1}
                assert subject.link.state == "connected"
    assert list(dict.fromkeys(broker.got)) == [b"%d" % i for i in range(100) if i != 30]
    assert broker.bad == 3
    assert server.connections == 4
    assert not any(receipt.owed for receipt in receipts)
    (named,) = [line for line in logs if line["event"] == "message_refused"]
    assert (named["topic"], named["body"]) == ("bad/\u00e9", b"30")
    assert not any("another client" in line.get("reason", "") for line in logs)


@on_uvloop
async def test_messages_of_qos_0_that_end_the_connection() -> None:
    """They are not sent again, but others of the same kind follow: each costs itself; the good ones behind it get through."""
    broker = Picky(True)
    async with Server(broker) as server:
        subject = Subject(settings(server.port))
        with capture_logs() as logs:
            async with running(subject):
                for i in range(40):
                    connects, refused = subject.link.counts.connects, subject.account.drops.total
                    subject.send("bad" if i < 30 else "out", b"%d" % i)
                    await until(
                        lambda: (
                            subject.link.counts.connects > connects
                            or b"%d" % i in broker.got
                            or subject.account.drops.total > refused
                        )
                    )
                await until(lambda: broker.got[-1:] == [b"39"])
    assert broker.got == [b"%d" % i for i in range(30, 40)]
    assert subject.account.drops.by_reason["refused"] >= 2
    assert broker.bad < 30  # a topic that did it twice is not sent for a while
    assert "bad" in [line.get("topic") for line in logs if line["event"] == "message_refused"]
    assert not any("another client" in line.get("reason", "") for line in logs)


@pytest.mark.parametrize("at", [1, 8, 12])
@on_uvloop
async def test_a_broker_that_ends_connections_over_nothing_costs_no_message(at: int) -> None:
    """It ends them at once, at the subscription or at the first ping, whatever is on its way."""
    good = Picky(True)

    async def script(peer: Peer) -> None:
        if server.connections > 12:
            return await good(peer)
        await peer.welcome()
        if at > 1:
            await peer.read_kind(at)

    async with Server(script) as server:
        limits = {"retry_s": 0.0, "refused_retry_s": (0.0, 0.01), "subscriptions": SUBSCRIPTION}
        subject = Subject(settings(server.port, keepalive_s=1, **limits))
        async with running(subject):
            for i in range(100):
                subject.send("out", b"%d" % i, 1)
            await until(lambda: subject.account.acked == 100, 20.0)
    assert subject.account.drops.total == 0
    assert list(dict.fromkeys(good.got)) == [b"%d" % i for i in range(100)]


@on_uvloop
async def test_a_broker_that_goes_with_messages_on_their_way_costs_none() -> None:
    """Each connection takes some of them and ends in the midst of others: nothing is in flight at three ends in a row."""
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(5):
            head, body = await peer.read_kind(3)
            _, mid, payload = publish_parts(head, body)
            got.append(payload)
            peer.write(puback(mid))

    async with Server(script) as server:
        subject = Subject(settings(server.port, retry_s=0.0, refused_retry_s=(0.0, 0.0), inflight=3))
        async with running(subject):
            for i in range(100):
                subject.send("out", b"%d" % i, 1)
            await until(lambda: subject.account.acked == 100, 20.0)
    assert subject.account.drops.total == 0
    assert server.connections >= 20


# Acknowledgements that never come


@on_uvloop
async def test_a_broker_that_acknowledges_nothing_is_left_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers pings and takes messages: only the acknowledgments are missing. On each connection until they come."""
    monkeypatch.setattr(connection, "UNACKNOWLEDGED_S", 0.0)
    monkeypatch.setattr(connection, "TICK_S", 0.02)
    states: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        states.append(subject.link.state)
        while True:
            head, body = await peer.read()
            if head >> 4 == 12:
                peer.write(b"\xd0\0")
            elif head >> 4 == 3 and server.connections > 3:
                peer.write(puback(publish_parts(head, body)[1]))

    async with Server(script) as server:
        subject = Subject(settings(server.port, keepalive_s=0))
        async with running(subject):
            subject.send("out", b"x", 1)
            await until(lambda: subject.link.state == "degraded")
            assert "acknowledged nothing for" in subject.link.reason
            assert "1 message" in subject.link.reason
            await until(lambda: subject.account.acked == 1)
            await until(lambda: subject.link.state == "connected")
            assert server.connections == 4
    assert subject.account.drops.total == 0


@on_uvloop
async def test_acknowledgments_that_come_slowly_are_acknowledgments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNACKNOWLEDGED_S", 0.4)
    monkeypatch.setattr(connection, "TICK_S", 0.02)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while True:
            head, body = await peer.read_kind(3)
            await pause_on_loop(0.1, "the broker is slow to acknowledge")
            peer.write(puback(publish_parts(head, body)[1]))

    async with Server(script) as server:
        subject = Subject(settings(server.port, keepalive_s=0, inflight=16))
        async with running(subject):
            for i in range(16):
                subject.send("out", b"%d" % i, 1)
            await until(lambda: subject.account.acked == 16)
            assert server.connections == 1


# Subscriptions


@on_uvloop
async def test_a_refused_subscription_is_asked_for_again() -> None:
    """On the same connection, until the broker's rules allow it; one that went meanwhile is not."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while True:
            head, body = await peer.read()
            if head >> 4 == 8:
                asked.append(body[5:-1].lstrip(b"\0"))
                mine = body.count(b"mine")
                peer.write(suback(body[:2], 0x01 if mine and sum(b"mine" in a for a in asked) > 3 else 0x87))
            elif head >> 4 == 10:
                peer.write(packet(0xB0, body[:2] + b"\0\0"))

    async with Server(script) as server:
        mine, gone = Subscription("mine", 1, 1), Subscription("gone", 1, 2)
        wanted = settings(server.port, subscriptions=(mine, gone))
        subject = Subject(wanted)
        async with running(subject):
            await until(lambda: subject.link.state == "degraded" and "'gone'" in subject.link.reason)
            subject.link.configure(replace(wanted, subscriptions=(mine,)))
            await until(lambda: subject.link.state == "connected")
            assert sum(b"mine" in a for a in asked) == 4
            assert server.connections == 1


@on_uvloop
async def test_refused_and_unanswered_subscriptions_are_seen() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for code in (0x87, 0x00):
            _, body = await peer.read_kind(8)
            peer.write(suback(body[:2], code))
        await forever(peer)

    filters = ("forbidden", "weaker", "unanswered")
    async with Server(script) as server:
        asked = tuple(Subscription(f, 1, i + 1) for i, f in enumerate(filters))
        subject = Subject(settings(server.port, subscriptions=asked, connect_timeout_s=0.2))
        async with running(subject):
            await until(lambda: subject.link.state == "degraded" and all(f in subject.link.reason for f in filters))
            assert "refuses the subscription to 'forbidden': Not authorized" in subject.link.reason
            assert "grants only QoS 0 for 'weaker'" in subject.link.reason


# Servers that stay silent, refuse or talk nonsense


@on_both_loops
async def test_silent_after_tcp() -> None:
    async with Server(deaf) as server:
        subject = Subject(settings(server.port, connect_timeout_s=0.1))
        async with running(subject):
            await until(lambda: server.connections > 2)
            assert subject.link.state == "timeout"
            assert "does not answer CONNECT" in subject.link.reason


@on_both_loops
async def test_silent_in_tls() -> None:
    async with Server(deaf) as server:
        subject = Subject(settings(server.port, scheme="mqtts", connect_timeout_s=0.1))
        async with running(subject):
            await until(lambda: server.connections > 2 and subject.link.state == "timeout")  # a slow look-up has its own state
            assert "silent in the TLS handshake" in subject.link.reason


@on_both_loops
async def test_black_hole() -> None:
    """A full backlog answers no SYN."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        subject = Subject(settings(listener.getsockname()[1], connect_timeout_s=0.1))
        async with running(subject):
            await until(lambda: subject.link.state == "timeout")
            assert "does not answer: is it on" in subject.link.reason


@on_uvloop
async def test_silent_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts are given up in time, share one thread, and go on when the answer comes."""
    answer = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        answer.wait(DEADLINE_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await forever(peer)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with Server(script) as server:
        subject = Subject(settings(server.port, host="broker.example", connect_timeout_s=0.05))
        async with running(subject):
            await until(lambda: subject.link.state == "unresolved")
            assert "no answer to the look-up of broker.example" in subject.link.reason
            waiting = threading.active_count()
            for _ in range(50):
                await pause_on_loop(POLL_S, "a thread that should not be would start by now")
            assert threading.active_count() == waiting
            assert asked == ["broker.example"]
            answer.set()
            await until(lambda: subject.link.is_connected)
    await until(lambda: threading.active_count() == waiting - 1)


@on_uvloop
async def test_no_tls_where_tls_is_expected() -> None:
    async def script(peer: Peer) -> None:
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port, scheme="mqtts"))
        async with running(subject):
            await until(lambda: subject.link.state == "tls")
            assert "WRONG_VERSION_NUMBER" in subject.link.reason.upper()


@on_uvloop
async def test_wrong_host_name(certificates: Path) -> None:
    async with Server(deaf, server_context(certificates)) as server:
        subject = Subject(settings(server.port, scheme="mqtts", host="127.0.0.2", ca=certificates / "ca.pem"))
        async with running(subject):
            await until(lambda: subject.link.state in ("tls", "refused"))  # refused: nothing listens at that address


@pytest.mark.parametrize(("code", "state"), [(0x86, "auth"), (0x87, "auth"), (0x85, "refused"), (0x88, "refused")])
@on_uvloop
async def test_connack_refuses(code: int, state: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(code=code)

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            await until(lambda: subject.link.state == state)
            assert "the broker refuses the connection as 'edged-test'" in subject.link.reason


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@on_uvloop
async def test_broker_of_another_version(version: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_kind(1)
        peer.write(connack(is_v5=False, code=1))
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port, version=version))
        async with running(subject):
            await until(lambda: "does not speak this version of MQTT" in subject.link.reason)


@on_uvloop
async def test_taken_over_by_another_client() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(b"\xe0\x02\x8e\x00")
        await peer.read_kind(15)

    async with Server(script) as server:
        subject = Subject(settings(server.port, client_id="edged-pi4"))
        async with running(subject):
            await until(lambda: "3 times" in subject.link.reason)
            assert subject.link.state == "taken_over"
            assert subject.link.reason == (
                "another client took the name edged-pi4 3 times in 1 min: give each client its own device.id or client_id"
            )


# Storms


STORMS = {
    "PINGRESP": b"\xd0\x00" * 131_072,
    "SUBACK": suback(b"\x00\x77", 0) * 43_690,
    "UNSUBACK": packet(0xB0, b"\x00\x77\x00\x00") * 43_690,
    "PUBACK": puback(b"\x00\x77") * 65_536,
    "of all": (b"\xd0\x00" + puback(b"\x30\x01") + suback(b"\x00\x77", 0)) * 20_000,
}


@pytest.mark.parametrize("storm", STORMS.values(), ids=STORMS.keys())
@on_uvloop
async def test_a_storm_of_packets_leaves_turns_to_others(storm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred a turn; what answers nothing ends the connection, and a good one serves afterwards."""
    turns = 0
    most = 0
    seen = 0

    def count(at_once: int) -> None:
        nonlocal most, seen
        most, seen = max(most, at_once), seen + at_once

    feed = FrameParser.feed

    def counted(parser: FrameParser, data: bytes) -> list[Batch]:
        batches = feed(parser, data)
        count(sum(len(batch.acks) + bool(batch.control) for batch in batches))
        return batches

    monkeypatch.setattr(FrameParser, "feed", counted)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        if server.connections == 1:
            peer.write(publish(b"a", b"before") + storm)
        else:
            peer.write(publish(b"a", b"good"))
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            while subject.payloads[-1:] != [b"good"]:
                turns += 1
                await asyncio.sleep(0)
            assert subject.payloads == [b"before", b"good"]
            assert subject.link.counts.protocol_errors == 1
    assert most <= AT_ONCE
    assert MAX_UNASKED < seen < MAX_UNASKED + 2 * AT_ONCE
    assert turns > MAX_UNASKED // AT_ONCE


@on_uvloop
async def test_many_acknowledgments_in_one_read_are_all_taken() -> None:
    """More than a turn takes, and a message behind them, in order; nothing of it waits for more to come."""
    mids: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while len(mids) < 2000:
            mids.append(publish_parts(*await peer.read_kind(3))[1])
        peer.write(b"".join(map(puback, mids)) + publish(b"a", b"last"))
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port, inflight=2000, outbox_items=3000, outbox_bytes=1 << 22))
        async with running(subject):
            for i in range(2000):
                subject.send("out", b"%d" % i, 1)
            await until(lambda: subject.payloads == [b"last"])
            assert subject.account.acked == 2000
            assert server.connections == 1


# TLS


@pytest.mark.parametrize("count", [2, 50, 500])
@on_both_loops
async def test_tls_record_with_many_messages(count: int, certificates: Path) -> None:
    """All are handled without further traffic."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(b"".join(publish(b"a/b", b"%04d" % i) for i in range(count)))
        await forever(peer)

    async with Server(script, server_context(certificates)) as server:
        subject = Subject(settings(server.port, scheme="mqtts", ca=certificates / "ca.pem"))
        async with running(subject):
            await until(lambda: len(subject.got) == count)
            assert subject.payloads == [b"%04d" % i for i in range(count)]


@on_uvloop
async def test_tls_below_1_2_is_refused(certificates: Path) -> None:
    context = server_context(certificates)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Server(deaf, context) as server:
        subject = Subject(settings(server.port, scheme="mqtts", ca=certificates / "ca.pem"))
        async with running(subject):
            await until(lambda: subject.link.state == "tls")


# Packets that no server should send


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (publish(b"a", b"", 2, 1), "begins with 0x34"),
        (b"\x36\x05\x00\x01a\x00\x01", "begins with 0x36"),
        (publish(b"a", b"x" * 2000), "larger than max_packet"),
        (b"\x30\xff\xff\xff\x7f", "larger than max_packet"),
        (b"\x62\x02\x00\x01", "begins with 0x62"),
        (connack(), "a second CONNACK"),
    ],
)
@on_uvloop
async def test_protocol_error_ends_the_connection(data: bytes, reason: str) -> None:
    said: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.write(publish(b"a", b"before") + data + publish(b"a", b"after"))
        said.append((await peer.read_kind(14))[1][0])

    async with Server(script) as server:
        subject = Subject(settings(server.port, max_packet=1000))
        async with running(subject):
            await until(lambda: server.connections > 1 and reason in subject.link.reason)
    assert said[0] >= 0x80
    assert set(subject.payloads) == {b"before"}
    assert subject.link.counts.protocol_errors >= 1


@on_uvloop
async def test_messages_before_connack() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_kind(1)
        peer.write(publish(b"a", b"x"))
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            await until(lambda: "a PUBLISH before CONNACK" in subject.link.reason)
    assert subject.got == []


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@on_uvloop
async def test_mutated_packets_end_connections_not_links(version: str) -> None:
    """No exception reaches the loop, the connection is closed and tried again, and a good one serves afterwards."""
    rng = random.Random(12)
    is_v5 = version == "5"
    rounds = 200

    async def script(peer: Peer) -> None:
        if server.connections <= rounds:
            head = b"" if rng.random() < 0.3 else connack(is_v5)
            await peer.read_kind(1)
            peer.write(head + mqtt_packets.mutated(rng, is_v5))
            peer.writer.write_eof()
            await peer.reader.read()
        else:
            await peer.welcome(is_v5=is_v5)
            peer.write(publish(b"a", b"good", is_v5=is_v5))
            await forever(peer)

    async with Server(script) as server:
        subject = Subject(
            settings(server.port, version=version, retry_s=0.0, refused_retry_s=(0.0, 0.0), subscriptions=SUBSCRIPTION)
        )
        async with running(subject):
            await until(lambda: subject.payloads[-1:] == [b"good"], 20.0)


@on_uvloop
async def test_hundreds_of_reconnects_leave_nothing_behind() -> None:
    """File descriptors and tasks are counted by the runner of the test."""

    async def script(peer: Peer) -> None:
        await peer.welcome()

    async with Server(script) as server:
        subject = Subject(settings(server.port, retry_s=0.0, refused_retry_s=(0.0, 0.0)))
        async with running(subject):
            await until(lambda: subject.link.counts.connects >= 300)


@on_both_loops
async def test_cancelled_while_connecting() -> None:
    for port, scheme in ((free_port(), "mqtt"), (0, "mqtt"), (0, "mqtts")):
        async with Server(deaf) as server:
            subject = Subject(settings(port or server.port, scheme=scheme))
            task = asyncio.get_running_loop().create_task(subject.link.run())
            await until(lambda: server.connections or (port and subject.link.state == "refused"))
            task.cancel()
            await asyncio.wait({task})


@on_uvloop
async def test_close_while_connecting_gives_up_in_time() -> None:
    async with Server(deaf) as server:
        subject = Subject(settings(server.port, connect_timeout_s=60.0))
        async with running(subject, close_s=0.05):
            await until(lambda: server.connections)
            subject.send("a", b"x", 1)
    assert subject.account.drops.by_reason == {"shutdown": 1}


def after_ends(path: Path, count: int, *poison: bytes) -> Suspects:
    """What a run begins with after so many that ended in one stage, and those that are known to have done it."""
    for end in range(count + 1):
        stages = Stages(lambda: 0)
        stages.keep_in(path)
        if end < count:
            stages.handle_alone(digest(b"a/b", poison[end - count]) if end >= count - len(poison) else b"")
            stages.wrap("model.m", lambda: 0)
            path.write_bytes(at_an_end(path.read_bytes()))
    return Suspects(stages, ["main"])


@on_uvloop
async def test_what_comes_again_after_ends_is_handled_one_by_one(tmp_path: Path) -> None:
    """Each until it is settled; what is known to end the process is not handled; then everything is as usual."""
    acks: list[int] = []
    most: list[int] = []
    held: list[Inbound] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(present=True)
        for mid in range(1, 21):  # the third is kept by the broker, and comes with each subscription
            peer.write(publish(b"a/b", b"%d" % mid, 1, mid, flags=1 if mid == 3 else 8 * (mid < 9)))
        while True:
            acks.append(int.from_bytes((await peer.read_kind(4))[1][:2], "big"))

    def take(got: list[Inbound]) -> None:
        held.extend(got)
        most.append(len(held))

    suspects = after_ends(tmp_path / "stage", 4, b"3", b"6")
    assert suspects.is_careful("main")
    async with Server(script) as server:
        subject = Subject(settings(server.port, receive_maximum=20), take, suspects)
        async with running(subject):
            while len(acks) < 20:
                await until(lambda: held or len(acks) == 20)
                for one in held:
                    one[5].done()
                held.clear()
                subject.link.settle()
                await asyncio.sleep(0)
    assert subject.poison == [b"3", b"6"]
    assert subject.payloads == [b"%d" % mid for mid in range(1, 21) if mid not in (3, 6)]
    assert acks == [*range(1, 21)]
    assert most[:7] == [1] * 7  # the six, and the first that is new
    assert max(most) > 1
    assert not suspects.is_careful("main")


@pytest.mark.parametrize("ends", [0, 1])
@on_uvloop
async def test_after_one_end_all_is_as_usual(tmp_path: Path, ends: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(present=True)
        peer.write(b"".join(publish(b"a/b", b"%d" % mid, 1, mid, flags=8) for mid in range(1, 11)))
        await until(lambda: len(subject.got) == 10)
        assert suspects.is_on is (ends == 1)
        peer.write(publish(b"a/b", b"11", 1, 11))
        await forever(peer)  # a second connection would bring all of it again

    def take(got: list[Inbound]) -> None:
        sizes.append(len(got))
        for one in got:
            one[5].done()

    sizes: list[int] = []
    suspects = after_ends(tmp_path / "stage", ends)
    async with Server(script) as server:
        subject = Subject(settings(server.port), take, suspects)
        async with running(subject):
            await until(lambda: len(subject.got) == 11)
    assert max(sizes) > 1
    assert not suspects.is_on  # it got further: another end is the first
