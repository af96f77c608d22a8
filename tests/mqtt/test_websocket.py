"""Websockets: frames by themselves, and MQTT over those of a real mosquitto."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edged.mqtt.link import Subscription
from edged.mqtt.websocket import BINARY, PONG, BadAnswer, Unframer, WebSocket, check_answer, frame, request
from edged.notation.values import BrokerUrl
from tests.support.broker import Broker, free_port
from tests.support.mqtt_peer import Peer, Server, Subject, on_both_loops, on_uvloop, running, settings, until

WS = "listener {port} 127.0.0.1\nprotocol websockets\nsocket_domain ipv4\n"


def served(data: bytes, kind: int = BINARY, fin: bool = True) -> bytes:
    """As a server sends it: unmasked."""
    size = len(data)
    head = bytes([fin << 7 | kind, size]) if size < 126 else bytes([fin << 7 | kind, 126]) + size.to_bytes(2, "big")
    return head + data


def unmasked(data: bytes) -> tuple[int, bytes]:
    """What a server makes of one frame."""
    size, at = data[1] & 127, 2
    if size > 125:
        more = 2 if size == 126 else 8
        size, at = int.from_bytes(data[2 : 2 + more], "big"), 2 + more
    mask = data[at : at + 4]
    return data[0] & 15, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[at + 4 : at + 4 + size]))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65535, 65536, 70001])
def test_a_frame_is_what_was_put_in(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert unmasked(frame(BINARY, data, b"\x01\xf2\x03\x04")) == (BINARY, data)


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_what_comes_is_the_same_however_it_is_cut(step: int) -> None:
    stream = served(b"ab") + served(b"hi", 0x9) + served(b"c" * 300, fin=False) + served(b"d", 0x0) + served(b"") + served(b"e")
    unframer, out = Unframer(), b""
    for at in range(0, len(stream), step):
        out += unframer.feed(stream[at : at + step])
    assert out == b"ab" + b"c" * 300 + b"de"
    assert unframer.pings == [b"hi"]
    assert unframer.feed(served(b"\x03\xe8", 0x8) + served(b"never")) == b""
    assert unframer.is_closed


@pytest.mark.parametrize("data", [b"\xc2\x00", b"\x82\x81", b"\x83\x00", b"\x89\x7e\x01\x00", b"\x09\x00"])
def test_what_no_server_may_send(data: bytes) -> None:
    with pytest.raises(ConnectionError):
        Unframer().feed(data)


def test_a_frame_that_the_kernel_takes_in_parts_is_sent_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stream = WebSocket(ours)
        data = bytearray(bytes(i % 251 for i in range(200_000)))
        got, unsent = b"", data.copy()
        while unsent:
            try:
                del unsent[: stream.send(unsent)]
            except BlockingIOError:
                got += theirs.recv(1 << 20)
        theirs.setblocking(False)
        while True:
            try:
                got += theirs.recv(1 << 20)
            except BlockingIOError:
                break
        out, at = b"", 0
        while at < len(got):
            kind, part = unmasked(got[at:])
            assert kind == BINARY
            out, at = out + part, at + len(frame(BINARY, part, b"\0\0\0\0"))
        assert out == data


def test_a_ping_is_answered() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream = WebSocket(ours)
        theirs.sendall(served(b"are you there", 0x9))
        with pytest.raises(BlockingIOError):
            stream.recv_into(memoryview(bytearray(100)))
        assert unmasked(theirs.recv(1000)) == (PONG, b"are you there")


def test_the_handshake() -> None:
    key = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    check_answer(head, key)
    assert b"\r\nHost: [::1]:80\r\n" in request("::1", 80, "/mqtt", key)
    for wrong, said in (
        (b"HTTP/1.1 404 Not Found\r\n", "404 Not Found"),
        (b"\x15\x03\x01", "does not speak HTTP"),
        (head.replace(b"s3pP", b"aaaa"), "handshake is wrong"),
        (head + b"\r\nSec-WebSocket-Protocol: chat", "speaks 'chat'"),
    ):
        with pytest.raises(BadAnswer, match=said):
            check_answer(wrong, key)


def over_websocket(port: int, scheme: str = "ws") -> BrokerUrl:
    return BrokerUrl(scheme, "127.0.0.1", port, "/mqtt")


@on_both_loops
async def test_round_trip_through_mosquitto(tmp_path: Path) -> None:
    """Small messages and large ones, both ways, in order."""
    plain = f"listener {free_port()} 127.0.0.1"  # mosquitto 2.0.11 does not start with a websocket alone
    with Broker(tmp_path, listener=WS + plain) as broker:
        url = over_websocket(broker.port)
        subject = Subject(settings(broker.port, url=url, max_packet=1 << 22, subscriptions=(Subscription("a/#", 1, 3),)))
        bodies = [b"%d" % i for i in range(200)] + [b"x" * 20_000]  # mosquitto sends 4 KiB in 100 ms
        async with running(subject):
            for body in bodies:
                subject.send("a/b", body, 1)
            await until(lambda: len(subject.got) == len(bodies) and not subject.link.sender.in_flight)
        assert subject.payloads == bodies


@on_uvloop
async def test_a_port_without_websockets_is_named(tmp_path: Path) -> None:
    async def web(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with Server(web) as server:
        subject = Subject(settings(server.port, url=over_websocket(server.port)))
        async with running(subject):
            await until(lambda: subject.link.state == "websocket")
            assert (
                f"ws://127.0.0.1:{server.port}/mqtt does not serve MQTT over a websocket: it says 404 Not Found"
                in subject.link.reason
            )
    subject = Subject(settings(1, url=over_websocket(free_port())))
    async with running(subject):
        await until(lambda: subject.link.state == "refused")
