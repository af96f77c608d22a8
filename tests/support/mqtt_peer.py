"""What the tests of the MQTT transport share: a server that does what a script says, certificates, and a way to run.

`on_uvloop` and `on_both_loops` run an async test and fail it when it leaves a task or a file descriptor behind, or when
an exception reached the loop's handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from edged.clock.clock import Clock
from edged.mqtt.link import Inbound, Link, LinkSettings
from edged.mqtt.suspects import Suspects
from edged.notation.values import BrokerUrl
from edged.records import Message
from edged.telemetry import PublishCounts
from tests.support.pause import pause_on_loop

DEADLINE_S = 10.0
POLL_S = 0.002
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
uvloop.new_event_loop().close()  # opens a pipe that stays for the life of the process


def run(scenario: Callable[[], Awaitable[None]], loop_name: str = "uvloop") -> None:
    gc.collect()  # what earlier tests left to be collected is not ours
    before = len(os.listdir("/proc/self/fd"))
    loop = LOOPS[loop_name]()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    try:
        loop.run_until_complete(asyncio.wait_for(scenario(), 3 * DEADLINE_S))
        assert not asyncio.all_tasks(loop)
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    gc.collect()
    assert faults == []
    assert len(os.listdir("/proc/self/fd")) == before


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        run(lambda: test(*args, **kwargs))

    return wrapper


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    def wrapper(loop_name: str, *args: Any, **kwargs: Any) -> None:
        run(lambda: test(*args, **kwargs), loop_name)

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    names = list(test.__code__.co_varnames[: test.__code__.co_argcount])
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("loop_name", *names)]
    vars(wrapper)["__signature__"] = inspect.Signature(parameters)
    both: Callable[..., None] = pytest.mark.parametrize("loop_name", list(LOOPS))(wrapper)
    return both


async def until(fact: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Waits until something holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while not fact():
        assert loop.time() < deadline, "waited in vain"
        await pause_on_loop(POLL_S, "between two looks")


class Subject:
    """A link under test with all that it was told."""

    def __init__(
        self, settings: LinkSettings, take: Callable[[list[Inbound]], None] | None = None, suspects: Suspects | None = None
    ) -> None:
        self.got: list[Inbound] = []
        self.poison: list[bytes] = []
        self.account = PublishCounts("test")
        self.take = take
        self.states: list[tuple[str, str]] = []
        log = structlog.get_logger("test")
        self.link = Link(settings, self.on_publishes, Clock(), log, suspects=suspects, on_poison=self.on_poison)

    def on_publishes(self, publishes: list[Inbound]) -> None:
        self.got += publishes
        if self.take:
            self.take(publishes)
        else:
            for publish in publishes:
                publish[5].done()

    def on_poison(self, publish: Inbound) -> None:
        self.poison.append(publish[1])
        publish[5].done()

    def send(self, topic: str, body: bytes, qos: int = 0, **more: Any) -> None:
        self.account.made += 1
        self.link.send(Message(topic.encode(), body, qos, account=self.account, **more))

    @property
    def payloads(self) -> list[bytes]:
        return [p[1] for p in self.got]


@contextlib.asynccontextmanager
async def running(subject: Subject, close_s: float = 2.0) -> AsyncIterator[Subject]:
    task = asyncio.get_running_loop().create_task(subject.link.run())
    await asyncio.sleep(0)
    try:
        yield subject
    finally:
        await subject.link.close(close_s)
        await task
    assert subject.account.balance() == 0


def settings(port: int, **more: Any) -> LinkSettings:
    """Short waits, so that tests need not be long."""
    scheme, host = more.pop("scheme", "mqtt"), more.pop("host", "127.0.0.1")
    usual: dict[str, Any] = {
        "name": "main",
        "url": BrokerUrl(scheme, host, port),
        "client_id": "edged-test",
        "retry_s": 0.02,
        "refused_retry_s": (0.02, 0.05),
    }
    return LinkSettings(**{**usual, **more})


# Packets as a server sends them


def text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def sized(body: bytes) -> bytes:
    """With its length before it, as MQTT writes it."""
    size, length = len(body), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes(length) + body


def packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + sized(body)


def connack(is_v5: bool = True, present: bool = False, code: int = 0, properties: bytes = b"") -> bytes:
    return packet(0x20, bytes([present, code]) + (bytes([len(properties)]) + properties if is_v5 else b""))


def suback(mid: bytes, code: int, is_v5: bool = True) -> bytes:
    return packet(0x90, mid + (b"\0" if is_v5 else b"") + bytes([code]))


def puback(mid: bytes, code: int = 0) -> bytes:
    return packet(0x40, mid + (bytes([code]) if code else b""))


def publish(
    topic: bytes, body: bytes, qos: int = 0, mid: int = 0, is_v5: bool = True, properties: bytes = b"", flags: int = 0
) -> bytes:
    head = text(topic) + (mid.to_bytes(2, "big") if qos else b"")
    if is_v5:
        head += sized(properties)
    return packet(0x30 | qos << 1 | flags, head + body)


class Peer:
    """One client's connection, as the script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> tuple[int, bytes]:
        """The next packet: (first byte, body)."""
        head = (await self.reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return head, await self.reader.readexactly(size)

    async def read_kind(self, kind: int) -> tuple[int, bytes]:
        """The next packet of a kind (high four bits of its first byte); others are passed over."""
        while True:
            head, body = await self.read()
            if head >> 4 == kind:
                return head, body

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def welcome(self, **said: Any) -> bytes:
        """Reads CONNECT, answers CONNACK, returns CONNECT's body."""
        _, body = await self.read_kind(1)
        self.write(connack(**said))
        return body


def publish_parts(head: int, body: bytes, is_v5: bool = True) -> tuple[bytes, bytes, bytes]:
    """(topic, message id, payload) of a client's PUBLISH without properties."""
    size = int.from_bytes(body[:2], "big")
    at = 2 + size
    mid = b""
    if head & 6:
        mid, at = body[at : at + 2], at + 2
    return body[2 : 2 + size], mid, body[at + is_v5 :]


class Server:
    """Runs `script(peer)` for each connection, and closes it when the script ends."""

    def __init__(self, script: Callable[[Peer], Awaitable[None]], context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.context = context
        self.port = 0
        self.connections = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        assert self.errors == []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        try:
            await self.script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def forever(peer: Peer) -> None:
    """Says nothing until the client leaves."""
    while (await peer.read())[0] != 0xE0:
        pass


async def deaf(_: Peer) -> None:
    """Reads nothing and says nothing."""
    await asyncio.get_running_loop().create_future()


def make_certificates(folder: Path, client: bool = False) -> None:
    """ca.pem, server.pem/.key for 127.0.0.1 and localhost, and client.pem/.key where asked for."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA")
    for name in ("server", "client") if client else ("server",):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext")
        openssl("x509", "-req", "-in", f"{name}.csr", "-days", "2", "-out", f"{name}.pem", *signer)


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context
