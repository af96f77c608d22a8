"""Brokers as they are: without MQTT 5, without retained messages, behind ALPN, with terms of their own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

from edged.mqtt.link import Subscription
from edged.notation.values import Secret
from tests.support.broker import Broker
from tests.support.mqtt_peer import (
    Peer,
    Server,
    Subject,
    connack,
    forever,
    make_certificates,
    on_uvloop,
    running,
    server_context,
    settings,
    text,
    until,
)


def level(connect: bytes) -> int:
    """The version in a CONNECT."""
    return connect[6]


def old_broker(refusal: bytes) -> tuple[list[int], Server]:
    """One that knows MQTT 3.1.1 alone, and what it was asked in; `refusal` is what it says to others."""
    asked: list[int] = []

    async def script(peer: Peer) -> None:
        _, connect = await peer.read_kind(1)
        asked.append(level(connect))
        if asked[-1] == 4:
            peer.write(connack(False))
            await forever(peer)
        peer.write(refusal)

    return asked, Server(script)


@on_uvloop
async def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1_at_once() -> None:
    for refusal in (b"\x20\x02\x00\x01", b"\x20\x02\x00\x00", b"\x20\x03\x00\x84\x00", b""):
        asked, server = old_broker(refusal)
        async with server:
            subject = Subject(settings(server.port, retry_s=60.0, refused_retry_s=(60.0, 60.0)))
            async with running(subject):
                await until(lambda: subject.link.state == "connected")
            assert asked == [5, 4], refusal


@on_uvloop
async def test_what_was_learnt_is_remembered_at_the_next_connection() -> None:
    asked: list[int] = []

    async def script(peer: Peer) -> None:
        _, connect = await peer.read_kind(1)
        asked.append(level(connect))
        peer.write(b"\x20\x02\x00\x01" if asked[-1] == 5 else connack(False))

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            await until(lambda: len(asked) >= 4)
    assert asked[:4] == [5, 4, 4, 4]


@on_uvloop
async def test_messages_that_wait_are_framed_for_the_version_that_is_spoken() -> None:
    got: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        _, connect = await peer.read_kind(1)
        if level(connect) == 5:
            return peer.write(b"\x20\x02\x00\x01")
        peer.write(connack(False))
        got.append(await peer.read_kind(3))
        peer.write(b"\x40\x02" + got[0][1][5:7])
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        subject.send("a/b", b"1", 1)
        async with running(subject):
            await until(lambda: subject.account.acked == 1)
    (head, body), *_ = got
    assert (head, body[:5], body[7:]) == (0x32, text(b"a/b"), b"1")  # no properties between id and payload


@on_uvloop
async def test_a_broker_without_retain_takes_us_with_will_and_status(tmp_path: Path) -> None:
    """Mosquitto with retain switched off refuses a retained will; results that ask for retain go unretained."""
    with Broker(tmp_path, "retain_available false") as broker:
        subject = Subject(
            settings(broker.port, status_topic="edged/t/status", subscriptions=(Subscription("#", 1, 1),), retry_s=60.0)
        )
        async with running(subject):
            await until(lambda: subject.link.state == "connected")
            subject.send("a", b"1", 1, retain=True)
            await until(lambda: subject.account.acked == 1 and len(subject.got) == 2)
            assert {(p[0], p[1], p[3]) for p in subject.got} == {(b"edged/t/status", b"online", False), (b"a", b"1", False)}


@on_uvloop
async def test_retain_can_be_switched_off_for_brokers_that_do_not_say_so(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        subject = Subject(settings(broker.port, status_topic="edged/t/status", may_retain=False))
        async with running(subject):
            await until(lambda: subject.link.state == "connected")
            subject.send("a", b"1", 1, retain=True)
            await until(lambda: subject.account.acked == 1)
        assert "(d0, q0, r0, m0, 'edged/t/status'" in broker.log
        assert "will_retain=0" in broker.log or "Will message specified (7 bytes) (r0, q0)" in broker.log
        assert "r1" not in broker.log


@on_uvloop
async def test_what_the_broker_says_of_a_refusal_is_shown() -> None:
    reason = b"\x1f" + text(b"out of\x07 licences")

    async def script(peer: Peer) -> None:
        await peer.read_kind(1)
        peer.write(connack(code=0x97, properties=reason))

    async with Server(script) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            await until(lambda: subject.link.state == "refused")
            assert subject.link.reason == "the broker refuses the connection as 'edged-test': Quota exceeded (out of  licences)"


@on_uvloop
async def test_a_session_expiry_that_the_broker_lowered_is_a_fault_of_the_link() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(properties=b"\x11" + (60).to_bytes(4, "big"))
        await forever(peer)

    async with Server(script) as server:
        subject = Subject(settings(server.port, session_expiry_s=3600, subscriptions=(Subscription("a", 1, 1),)))
        async with running(subject):
            await until(lambda: subject.link.state == "degraded")
            assert "keeps the session for 60 s and not for 3600 s" in subject.link.reason
            assert 'session_expiry = "60s"' in subject.link.reason
        content = Subject(settings(server.port, session_expiry_s=60, subscriptions=(Subscription("a", 1, 1),)))
        async with running(content):
            await until(lambda: content.link.state == "connected")


@on_uvloop
async def test_requests_that_a_broker_cannot_carry_are_a_fault_of_the_link() -> None:
    _, server = old_broker(b"\x20\x02\x00\x01")
    async with server:
        subject = Subject(settings(server.port, subscriptions=(Subscription("ask/it", 1, 1, has_replies=True),)))
        async with running(subject):
            await until(lambda: subject.link.state == "degraded")
            assert "no request says where its answer goes: those on ask/it get none" in subject.link.reason


@on_uvloop
async def test_alpn_and_the_name_of_the_host_come_with_the_handshake(tmp_path: Path) -> None:
    """As a broker behind port 443 wants them: another protocol ends the handshake."""
    make_certificates(tmp_path)
    context = server_context(tmp_path)
    context.set_alpn_protocols(["x-amzn-mqtt-ca"])
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, _: names.append(name)
    spoken: list[str | None] = []

    async def script(peer: Peer) -> None:
        spoken.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        if spoken[-1] is None:
            return
        await peer.welcome()
        await forever(peer)

    async with Server(script, context) as server:
        tls = {"scheme": "mqtts", "host": "localhost", "ca": tmp_path / "ca.pem"}
        subject = Subject(settings(server.port, alpn="x-amzn-mqtt-ca", **tls))
        async with running(subject):
            await until(lambda: subject.link.state == "connected")
        assert (spoken, names) == (["x-amzn-mqtt-ca"], ["localhost"])
        without = Subject(settings(server.port, **tls))
        async with running(without):
            await until(lambda: without.link.state == "lost")


@on_uvloop
async def test_a_key_with_a_pass_phrase(tmp_path: Path) -> None:
    make_certificates(tmp_path, client=True)
    command = ["openssl", "pkey", "-aes256", "-in", "client.key", "-passout", "pass:hunter2", "-out", "locked.key"]
    await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True, capture_output=True)
    context = server_context(tmp_path)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await forever(peer)

    tls = {"scheme": "mqtts", "ca": tmp_path / "ca.pem", "cert": tmp_path / "client.pem"}
    key = Secret((tmp_path / "locked.key").read_text())
    async with Server(script, context) as server:
        subject = Subject(settings(server.port, key=key, key_password=Secret("hunter2"), **tls))
        async with running(subject):
            await until(lambda: subject.link.state == "connected")
        wrong = Subject(settings(server.port, key=key, key_password=Secret("hunter3"), **tls))
        async with running(wrong):
            await until(lambda: wrong.link.state == "files")
            assert "key_password is not the pass phrase of key" in wrong.link.reason
            assert "hunter" not in wrong.link.reason


@on_uvloop
async def test_two_filters_that_overlap_bring_one_copy_where_nothing_tells_copies_apart(tmp_path: Path) -> None:
    """Under 3.1.1 the wider one is subscribed alone, with the QoS of both; what it cannot cover is a fault that is shown."""
    with Broker(tmp_path, "allow_duplicate_messages true") as broker:
        wanted = (Subscription("z/a/t", 1, 2), Subscription("z/+/t", 0, 1))
        subject = Subject(settings(broker.port, version="3.1.1", subscriptions=wanted))
        async with running(subject):
            await until(lambda: subject.link.state == "connected")
            subject.send("z/a/t", b"1", 1)
            subject.send("z/b/t", b"2", 1)
            await until(lambda: len(subject.got) == 2 and subject.account.acked == 2)
            assert [(p[0], p[1], p[2]) for p in subject.got] == [(b"z/a/t", b"1", 1), (b"z/b/t", b"2", 1)]
        across = (Subscription("z/a/+", 1, 2), Subscription("z/+/t", 1, 1))
        subject = Subject(settings(broker.port, version="3.1.1", subscriptions=across))
        async with running(subject):
            await until(lambda: subject.link.state == "degraded")
            assert "'z/a/+' and 'z/+/t' overlap" in subject.link.reason
