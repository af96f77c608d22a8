"""The HTTP client against a real peer, as bad as it may be."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from edged.config.values import HttpUrl
from edged.model.remote.http import Client
from edged.model.remote.records import NoAnswer, Request
from tests.support.http_peer import Asked, Behaviour, HttpPeer, answer, babbles, floods, hangs, is_huge, redirects, resets, says
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
        (babbles, "what came is no HTTP"),
        (floods, r"larger than max_bytes \(10 KiB\)|no answer within"),
        (is_huge, r"larger than max_bytes \(10 KiB\)"),
        (
            lambda one, asked: one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx") is not None,
            "without sending complete|hung up",
        ),
        (lambda one, asked: one.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000) is not None, "no HTTP"),
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
