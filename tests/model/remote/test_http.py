"""The HTTP client against a real peer, as bad as it may be."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from edged.model.remote.http import Client
from edged.model.remote.records import NoAnswer, Request
from edged.notation.values import HttpUrl
from tests.support.http_peer import (
    Asked,
    Behaviour,
    HttpPeer,
    answer,
    babbles,
    floods,
    hangs,
    is_huge,
    linger,
    redirects,
    resets,
    says,
)
from tests.support.mqtt_peer import make_certificates

POST = Request("POST", "/x?y=1", (("Content-Type", "text/plain"),), b"body")


def client(port: int) -> Client:
    return Client(HttpUrl("http", "127.0.0.1", port, "/"), None, [("Authorization", "Bearer sesame")], 2)


async def test_a_connection_is_kept_and_one_that_is_gone_is_made_again() -> None:
    ports: list[int] = []

    def once(one: socket.socket, asked: Asked) -> bool:
        ports.append(one.getpeername()[1])
        return answer(one, b"{}") and len(ports) != 2

    with HttpPeer(once) as peer, closing(client(peer.port)) as mine:
        for _ in range(4):
            assert (await mine.ask(POST, 1000, 5.0)).body == b"{}"
    assert ports[0] == ports[1] != ports[2] == ports[3]
    assert peer.asked[0].headers["authorization"] == "Bearer sesame"
    assert (peer.asked[0].path, peer.asked[0].body) == ("/x?y=1", b"body")


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (hangs, "no answer within 0.2 s"),
        (resets, "reset|hung up|without sending"),
        (babbles, "the answer is not HTTP"),
        (floods, r"larger than max_bytes \(10 KiB\)|no answer within"),
        (is_huge, r"larger than max_bytes \(10 KiB\)"),
        (
            lambda one, asked: one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx") is not None,
            "without sending complete|hung up",
        ),
        (lambda one, asked: one.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000) is not None, "not HTTP"),
    ],
)
async def test_bad_peers_are_no_answer(behaviour: Behaviour, said: str) -> None:
    with HttpPeer(behaviour) as peer, closing(client(peer.port)) as mine:
        for _ in range(2):
            with pytest.raises(NoAnswer, match=said):
                await mine.ask(POST, 10 * 1024, 0.2 if behaviour in (hangs, floods) else 5.0)


async def test_redirects_are_not_followed_and_errors_have_their_text() -> None:
    with HttpPeer(redirects) as peer, closing(client(peer.port)) as mine:
        reply = await mine.ask(POST, 1000, 5.0)
        assert (reply.status, len(peer.asked)) == (302, 1)
        peer.behaviour = says({"error": "busy"}, 503, {"Retry-After": "3"})
        reply = await mine.ask(POST, 1000, 5.0)
        assert (reply.status, reply.headers["retry-after"], reply.body) == (503, "3", b'{"error": "busy"}')


async def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with closing(client(port)) as mine, pytest.raises(NoAnswer, match=r"[Cc]onnect"):
        await mine.ask(POST, 1000, 5.0)


async def test_a_certificate_is_always_verified(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with HttpPeer(says({}), tls=(tmp_path / "server.pem", tmp_path / "server.key")) as peer:
        url = HttpUrl("https", "127.0.0.1", peer.port, "/")
        with closing(Client(url, None, [], 2)) as stranger, pytest.raises(NoAnswer, match="its certificate is refused"):
            await stranger.ask(POST, 1000, 5.0)
        assert peer.asked == []
        with closing(Client(url, tmp_path / "ca.pem", [], 2)) as mine:
            assert (await mine.ask(POST, 1000, 5.0)).body == b"{}"
        other = HttpUrl("https", "localhost.localdomain", peer.port, "/")
        with closing(Client(other, tmp_path / "ca.pem", [], 2)) as mine, pytest.raises(NoAnswer):
            await mine.ask(POST, 1000, 5.0)


def sends(raw: bytes, is_kept: bool = False) -> Behaviour:
    def behave(one: socket.socket, asked: Asked) -> bool:
        one.sendall(raw)
        return is_kept

    return behave


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-Trailer: y\r\n\r\n",
        b"HTTP/1.1 200 \r\nContent-Length: 2\r\nContent-Length: 2\r\nX: \xe4\xff\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_every_form_of_an_answer_is_read(raw: bytes) -> None:
    with HttpPeer(sends(raw)) as peer, closing(client(peer.port)) as mine:
        for _ in range(2):
            reply = await mine.ask(POST, 1000, 5.0)
            assert (reply.status, reply.body) == (200, b"{}")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "no_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", "no_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, x\r\n\r\n{}", "no_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}", "no_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n{}", "no_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n{}", "connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "connection"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "no_http"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", "encoding"),
        (b"ICY 200 OK\r\n\r\n{}", "no_http"),
        (b"", "connection"),
    ],
)
async def test_what_cannot_be_read_has_its_reason(raw: bytes, reason: str) -> None:
    with HttpPeer(sends(raw)) as peer, closing(client(peer.port)) as mine, pytest.raises(NoAnswer) as caught:
        await mine.ask(POST, 1000, 5.0)
    assert caught.value.reason == reason


async def test_what_comes_beside_an_answer_is_nobodys_answer() -> None:
    """A peer that says more than its answer, at once or while the connection waits, would answer every later row with the answer
    of the one before."""
    good, wrong = b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"a"', b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"b"'
    with HttpPeer(sends(good + wrong, True)) as peer, closing(client(peer.port)) as mine:
        for _ in range(3):
            assert (await mine.ask(POST, 1000, 5.0)).body == b'"a"'
        late = threading.Event()

        def says_more_later(one: socket.socket, asked: Asked) -> bool:
            one.sendall(good)
            linger(one, 0.05)
            one.sendall(wrong)
            late.set()
            return True

        peer.behaviour = says_more_later
        for _ in range(3):
            late.clear()
            assert (await mine.ask(POST, 1000, 5.0)).body == b'"a"'
            await asyncio.to_thread(late.wait, 5.0)


async def test_a_peer_may_refuse_what_it_has_not_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, closing(client(listener.getsockname()[1])) as mine:

        def serve() -> None:
            one, _ = listener.accept()
            with one:
                one.recv(1000)
                one.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                done.wait(10.0)

        done = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        large = Request("POST", "/", (), b"x" * 50_000_000)
        try:
            assert (await mine.ask(large, 1000, 5.0)).status == 413
        finally:
            done.set()
            thread.join()


async def test_one_that_hangs_up_while_it_waits_is_no_failure() -> None:
    gone = threading.Event()

    def hangs_up(one: socket.socket, asked: Asked) -> bool:
        answer(one, b"{}")
        one.shutdown(socket.SHUT_RDWR)
        gone.set()
        return False

    with HttpPeer(hangs_up) as peer, closing(client(peer.port)) as mine:
        for n in range(1, 4):
            assert (await mine.ask(POST, 1000, 5.0)).status == 200
            assert len(peer.asked) == n
