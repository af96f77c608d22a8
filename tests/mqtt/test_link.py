"""The link against a real mosquitto: what it promises its users, through outages of every kind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edged.mqtt.frames import UNREAD, user_property
from edged.mqtt.link import Inbound, Link, Subscription
from edged.notation.values import BrokerUrl, Secret
from edged.records import Message, Receipt
from edged.topics import unfit
from tests.support.broker import Broker, free_port
from tests.support.mqtt_peer import (
    DEADLINE_S,
    Subject,
    make_certificates,
    on_both_loops,
    on_uvloop,
    packet,
    running,
    settings,
    text,
    until,
)
from tests.support.mqtt_peer import publish as publish_packet
from tests.support.ptys import IDLE_THREADS


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


def is_connected(subject: Subject) -> bool:
    return subject.link.state == "connected"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@on_both_loops
async def test_round_trip(broker: Broker, version: str) -> None:
    """What one link sends comes back to it, in order, at both QoS, with what the broker says about it."""
    subscriptions = (Subscription("zero/+", 0, 3), Subscription("one/#", 1, 200))
    subject = Subject(settings(broker.port, version=version, subscriptions=subscriptions))
    async with running(subject):
        for i in range(300):
            subject.send("zero/a", b"%d" % i)
            subject.send("one/b/c", b"%d" % i, 1)
        await until(lambda: len(subject.got) == 600 and not subject.link.sender.in_flight)
        for topic, qos, identifier in ((b"zero/a", 0, 3), (b"one/b/c", 1, 200)):
            mine = [p for p in subject.got if p[0] == topic]
            assert [int(p[1]) for p in mine] == list(range(300))
            assert {p[2:5] for p in mine} == {(qos, False, (identifier,) if version == "5" else ())}
        assert subject.account.acked == 600
        await until(lambda: not subject.link.ledger.unacked)
        assert subject.link.counts.received == 600
    assert subject.link.state == "stopped"


@pytest.mark.parametrize("qos", [0, 1])
@on_both_loops
async def test_an_answer_to_what_came_alone_leaves_at_once_and_others_together(broker: Broker, qos: int) -> None:
    left_at_once: dict[bool, set[bool]] = {True: set(), False: set()}  # by whether the input came alone

    def answer(publishes: list[Inbound]) -> None:
        before = subject.link.counts.bytes_out
        for publish in publishes:
            subject.account.made += 1
            message = Message(b"out", publish[1], qos, account=subject.account, receipt=publish[5])
            publish[5].hold()
            assert subject.link.frame_now([message]) == 1
            publish[5].done()
        left_at_once[len(publishes) == 1].add(subject.link.counts.bytes_out > before)

    subject = Subject(settings(broker.port, subscriptions=(Subscription("in", qos, 1),)), answer)
    async with running(subject):
        await until(lambda: is_connected(subject))
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(packet(0x10, text(b"MQTT") + b"\x05\x02\x00\x3c" + b"\x00" + text(b"sensor")))
        sent = 0
        for size in (1, 1, 10, 1, 10, 10):
            for _ in range(size):
                sent += 1
                writer.write(publish_packet(b"in", b"%d" % sent, qos, sent, True))
            await until(lambda: subject.account.acked == sent and not subject.link.ledger.unacked)
        writer.close()
        await writer.wait_closed()
    assert left_at_once[True] == {True}
    assert left_at_once[False] <= {False}
    assert [int(payload) for payload in subject.payloads] == list(range(1, sent + 1))


@on_uvloop
async def test_a_message_of_a_megabyte_of_user_properties(broker: Broker) -> None:
    """It comes marked, costs its neighbours nothing, and is acknowledged like them."""
    subject = Subject(settings(broker.port, subscriptions=(Subscription("in", 1, 1),)))
    async with running(subject):
        await until(lambda: is_connected(subject))
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(packet(0x10, text(b"MQTT") + b"\x05\x02\x00\x3c" + b"\x00" + text(b"hostile")))
        for i, count in enumerate((0, 200_000, 0)):
            writer.write(publish_packet(b"in", b"%d" % i, 1, 1 + i, True, user_property(b"", b"") * count))
        await until(lambda: len(subject.got) == 3 and not subject.link.ledger.unacked)
        assert [(p[1], p[6] == UNREAD) for p in subject.got] == [(b"0", False), (b"1", True), (b"2", False)]
        assert subject.link.counts.connects == 1
        writer.close()
        await writer.wait_closed()


def test_what_is_no_topic_is_what_mosquitto_ends_the_connection_over(broker: Broker) -> None:
    """Every character of the first 256, and the last and first ones around each class further up."""
    edges = [0xD7FF, 0xE000, 0xFDCF, 0xFDD0, 0xFDEF, 0xFDF0, 0xFFFD, 0xFFFE, 0xFFFF, 0x1FFFD, 0x1FFFE, 0x10FFFF, 0x2028, 0xFEFF]
    hello = packet(0x10, text(b"MQTT") + b"\x05\x02\x00\x3c" + b"\x00" + text(b"asks"))
    sock: socket.socket | None = None
    for code in [*range(256), *edges]:
        if chr(code) in "+#":
            continue
        if sock is None:
            sock = socket.create_connection(("127.0.0.1", broker.port), DEADLINE_S)
            sock.sendall(hello)
            assert sock.recv(100)[0] == 0x20
        sock.sendall(publish_packet(f"a/{chr(code)}b".encode(), b"x", 1, 7))
        is_refused = sock.recv(100)[0] == 0xE0
        assert is_refused == bool(unfit(chr(code))), hex(code)
        if is_refused:
            sock.close()
            sock = None
    assert sock is not None
    sock.close()


@on_uvloop
async def test_large_messages(broker: Broker) -> None:
    """Messages of many reads and many sends."""
    subject = Subject(
        settings(broker.port, max_packet=4 << 20, subscriptions=(Subscription("big", 1, 1),), outbox_bytes=64 << 20)
    )
    bodies = [bytes([i]) * (1 << 20) for i in range(12)]
    async with running(subject):
        for body in bodies:
            subject.send("big", body, 1)
        await until(lambda: len(subject.got) == len(bodies))
    assert subject.payloads == bodies


@on_uvloop
async def test_status_says_online_stopped_and_offline(broker: Broker) -> None:
    watcher = Subject(settings(broker.port, client_id="watcher", subscriptions=(Subscription("s", 1, 1),)))
    async with running(watcher):
        await until(lambda: is_connected(watcher))
        async with running(Subject(settings(broker.port, status_topic="s"))):
            await until(lambda: watcher.payloads == [b"online"])
        await until(lambda: watcher.payloads == [b"online", b"stopped"])
        crashed = asyncio.get_running_loop().create_task(Subject(settings(broker.port, status_topic="s")).link.run())
        await until(lambda: watcher.payloads[2:] == [b"online"])
        crashed.cancel()
        await asyncio.wait({crashed})
        await until(lambda: watcher.payloads[2:] == [b"online", b"offline"])


@on_both_loops
async def test_broker_absent_at_start(tmp_path: Path) -> None:
    """What is sent meanwhile waits and is delivered."""
    broker = Broker(tmp_path, port=free_port())
    subject = Subject(settings(broker.port, subscriptions=(Subscription("a", 1, 1),)))
    try:
        async with running(subject):
            subject.send("a", b"early", 1)
            await until(lambda: subject.link.state == "refused")
            assert f"nothing listens at mqtt://127.0.0.1:{broker.port}" in subject.link.reason
            assert "is the broker running?" in subject.link.reason
            assert subject.account.queued == 1
            broker.start()
            await until(lambda: subject.payloads == [b"early"])
            assert subject.link.reason == ""
    finally:
        broker.stop()


@on_uvloop
async def test_broker_restart_without_its_sessions(broker: Broker) -> None:
    """Subscriptions are made again, messages in flight are sent again, and nothing that was sent is lost."""
    superseded: list[set[Receipt]] = []
    subject = Subject(settings(broker.port, subscriptions=(Subscription("a", 1, 1),)))
    subject.link.connect(superseded.append)
    async with running(subject):
        for _ in range(3):
            await until(lambda: is_connected(subject))
            subject.send("a", b"while here", 1)
            await until(lambda: subject.payloads[-1:] == [b"while here"])
            broker.kill()
            await until(lambda: not is_connected(subject))
            subject.send("a", b"while away", 1)
            broker.start()
            await until(lambda: subject.payloads[-1:] == [b"while away"])
    assert subject.link.counts.connects == 4
    assert superseded == []  # nothing comes again


@on_uvloop
async def test_half_open_connection_is_noticed(broker: Broker) -> None:
    subject = Subject(settings(broker.port, keepalive_s=1, connect_timeout_s=0.2, subscriptions=(Subscription("a", 1, 1),)))
    async with running(subject):
        await until(lambda: is_connected(subject))
        broker.freeze()
        subject.send("a", b"into the void", 1)
        await until(lambda: subject.link.state == "lost" or subject.link.state == "timeout", 4.0)
        broker.thaw()
        await until(lambda: b"into the void" in subject.payloads)
    assert subject.link.counts.pings >= 1


@on_uvloop
async def test_input_is_acknowledged_only_when_its_receipt_is_done(broker: Broker) -> None:
    """Unacknowledged inputs come again after a crash of ours; acknowledged ones do not. Acknowledgements keep the order."""
    kept: list[Receipt] = []

    def take(publishes: list[Inbound]) -> None:
        kept.extend(p[5] for p in publishes)

    mine = settings(broker.port, client_id="inputs", subscriptions=(Subscription("a", 1, 1),))
    sender = Subject(settings(broker.port, client_id="sender"))
    first = Subject(mine, take)
    async with running(sender):
        crashing = asyncio.get_running_loop().create_task(first.link.run())
        await until(lambda: is_connected(first))
        for i in range(5):
            sender.send("a", b"%d" % i, 1)
        await until(lambda: len(first.got) == 5)
        for i in (4, 0, 2):
            kept[i].done()
        first.link.settle()
        await until(lambda: len(first.link.ledger) == 4)  # 0 has left; 2 and 4 wait for 1
        crashing.cancel()
        await asyncio.wait({crashing})
        second = Subject(mine)
        async with running(second):
            await until(lambda: len(second.got) == 4)
        assert second.payloads == [b"1", b"2", b"3", b"4"]
        kept[1].done()  # of an older connection: counts for nothing
    async with running(Subject(mine)) as third:
        await until(lambda: is_connected(third))
        assert third.got == []


@on_uvloop
async def test_forgotten_receipts_are_found_without_a_word(broker: Broker) -> None:
    """A receipt let go in somebody else's turn, without `settle`."""
    kept: list[Receipt] = []
    subject = Subject(settings(broker.port, subscriptions=(Subscription("a", 1, 1),)), lambda got: kept.extend(p[5] for p in got))
    async with running(subject):
        subject.send("a", b"x", 1)
        await until(lambda: kept)
        kept[0].done()
        await until(lambda: not subject.link.ledger.unacked)


@on_uvloop
async def test_a_failing_handler_does_not_end_the_link(broker: Broker) -> None:
    """The message is handled once, acknowledged once, and its neighbours go on."""

    def take(publishes: list[Inbound]) -> None:
        for publish in publishes:
            if publish[1] == b"bad":
                raise ValueError("bad")
            publish[5].done()

    subject = Subject(settings(broker.port, subscriptions=(Subscription("a", 1, 1),)), take)
    async with running(subject):
        for body in (b"1", b"bad", b"2"):
            subject.send("a", body, 1)
            await until(lambda: body in subject.payloads)
        await until(lambda: not subject.link.ledger.unacked)
    assert subject.payloads == [b"1", b"bad", b"2"]
    assert subject.link.counts.failures == 1
    assert subject.link.counts.connects == 1


@on_uvloop
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_message_that_cannot_be_framed_does_not_end_the_link(broker: Broker, qos: int) -> None:
    """A fault of edged: it is counted and logged, and those around it arrive."""
    subject = Subject(settings(broker.port, subscriptions=(Subscription("a", 1, 1),)))
    with capture_logs() as logs:
        async with running(subject):
            await until(lambda: subject.link.is_connected)
            for body in (b"1", "text", b"2"):
                subject.send("a", body, qos)  # type: ignore[arg-type]
            await until(lambda: subject.payloads == [b"1", b"2"])
            assert subject.link.state == "connected"
    assert (subject.link.counts.failures, subject.link.counts.connects) == (1, 1)
    assert subject.account.drops.by_reason == {"internal_error": 1}
    assert [one["topic"] for one in logs if one["event"] == "messages_failed"] == ["a"]


@on_uvloop
async def test_taken_over(broker: Broker) -> None:
    subscription = (Subscription("a", 1, 1),)
    one, two = (Subject(settings(broker.port, client_id="edged-pi4", subscriptions=subscription)) for _ in range(2))
    async with running(one), running(two):
        await until(lambda: "3 times soon after connecting: does another client have the name edged-pi4?" in one.link.reason)
        assert one.link.reason.endswith("give each client its own device.id or client_id")


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    # A line as mosquitto_passwd writes it for "me" and "right": PBKDF2 of SHA-512.
    salt = b"edged-test-1"
    derived = hashlib.pbkdf2_hmac("sha512", b"right", salt, 101)
    path = tmp_path / "passwords"
    path.write_text(f"me:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}\n")
    return path


@on_uvloop
async def test_wrong_password(tmp_path: Path, passwords: Path) -> None:
    with Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        wrong = Subject(settings(broker.port, username="me", password=Secret("wrong")))
        async with running(wrong):
            await until(lambda: wrong.link.state == "auth")
            assert "check username and password" in wrong.link.reason
            assert "wrong" not in wrong.link.reason
        right = Subject(settings(broker.port, username="me", password=Secret("right")))
        async with running(right):
            await until(lambda: is_connected(right))


@on_uvloop
async def test_unix_socket(tmp_path: Path) -> None:
    listener = f"listener {free_port()} 127.0.0.1\nlistener 0 {{dir}}/broker.sock"
    with Broker(tmp_path, listener=listener, port=int(listener.split()[1])):
        url = BrokerUrl("unix", path=str(tmp_path / "broker.sock"))
        subject = Subject(settings(0, subscriptions=(Subscription("a", 1, 1),)))
        subject = Subject(type(subject.link.settings)("main", url, "unix", subscriptions=(Subscription("a", 1, 1),)))
        async with running(subject):
            subject.send("a", b"x", 1)
            await until(lambda: subject.payloads == [b"x"])


@on_both_loops
async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    make_certificates(tmp_path, client=True)
    tls = "listener {port} 127.0.0.1\ncafile {dir}/ca.pem\ncertfile {dir}/server.pem\nkeyfile {dir}/server.key"
    with Broker(tmp_path, listener=f"{tls}\nrequire_certificate true") as broker:
        common = {"scheme": "mqtts", "subscriptions": (Subscription("a", 1, 1),)}
        key = Secret((tmp_path / "client.key").read_text())
        good = Subject(settings(broker.port, **common, ca=tmp_path / "ca.pem", cert=tmp_path / "client.pem", key=key))
        async with running(good):
            for i in range(1000):
                good.send("a", b"%04d" % i * 100, 1)
            await until(lambda: len(good.got) == 1000)
        anonymous = Subject(settings(broker.port, **common, ca=tmp_path / "ca.pem"))
        async with running(anonymous):
            await until(lambda: anonymous.link.state in ("tls", "lost"))
        stranger = Subject(settings(broker.port, **common, cert=tmp_path / "client.pem", key=key))
        async with running(stranger):
            await until(lambda: stranger.link.state == "tls")
            assert "certificate" in stranger.link.reason
        elsewhere = Subject(settings(broker.port, host="ip6-localhost.invalid", **common, ca=tmp_path / "ca.pem"))
        async with running(elsewhere):
            await until(lambda: elsewhere.link.state == "unresolved")
        nonsense = Subject(settings(broker.port, **common, ca=tmp_path / "client.key"))
        async with running(nonsense):
            await until(lambda: nonsense.link.state == "files")
    assert threading.active_count() == IDLE_THREADS


@on_uvloop
async def test_name_is_looked_up_in_a_thread_that_ends(broker: Broker) -> None:
    subject = Subject(settings(broker.port, host="localhost"))
    async with running(subject):
        await until(lambda: is_connected(subject))
        await until(lambda: threading.active_count() == IDLE_THREADS)


@on_uvloop
async def test_close_delivers_what_waits(broker: Broker) -> None:
    watcher = Subject(settings(broker.port, client_id="watcher", subscriptions=(Subscription("a", 1, 1),)))
    async with running(watcher):
        await until(lambda: is_connected(watcher))
        subject = Subject(settings(broker.port))
        async with running(subject):
            for i in range(900):
                subject.send("a", b"%d" % i, 1)
        assert subject.account.acked == 900
        await until(lambda: len(watcher.got) == 900)
    subject.send("a", b"too late")
    assert subject.account.drops.by_reason == {"shutdown": 1}
    assert subject.account.balance() == 0


@on_uvloop
async def test_close_while_the_broker_is_away_does_not_wait() -> None:
    subject = Subject(settings(free_port(), retry_s=60.0))
    async with running(subject, close_s=60.0):
        subject.send("a", b"x", 1)
        await until(lambda: subject.link.state == "refused")
    assert subject.account.drops.by_reason == {"shutdown": 1}


@on_uvloop
async def test_close_without_run() -> None:
    subject = Subject(settings(1))
    subject.send("a", b"x")
    await subject.link.close(1.0)
    assert (subject.link.state, subject.account.drops.by_reason) == ("stopped", {"shutdown": 1})


def test_link_needs_no_loop_to_be_made() -> None:
    assert isinstance(Subject(settings(1)).link, Link)
