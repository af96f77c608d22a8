from __future__ import annotations

import asyncio
import socket

from tests.support.mqtt_peer import Subject, on_both_loops, running, settings, until

CONNACK, PINGRESP = b"\x20\x03\x00\x00\x00", b"\xd0\x00"


@on_both_loops
async def test_last_words_and_a_reset_in_one_wake_up() -> None:
    """A broker that is killed with our packets unread: the kernel resets the connection right behind what it had sent."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        subject = Subject(settings(server.getsockname()[1], keepalive_s=60))
        async with running(subject):
            peer, _ = await loop.sock_accept(server)
            with peer:
                peer.setblocking(False)
                await loop.sock_recv(peer, 1000)
                await loop.sock_sendall(peer, CONNACK)
                await until(lambda: subject.link.state == "connected")
                subject.send("out", b"unread")
                await until(lambda: _waiting(peer))
                peer.send(PINGRESP)  # with the close below in one turn of the loop: the link sees both at once
            await until(lambda: subject.link.state != "connected", 3.0)
            assert subject.link.state == "lost"


def _waiting(peer: socket.socket) -> bool:
    try:
        return bool(peer.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
