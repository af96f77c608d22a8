"""A small HTTP/1.1 server on the loop: reads a request, writes an answer, changes nothing. The protocol is h11's.

It is for a browser and for machines that look; whoever misbehaves costs a place for a moment. The Host header must name this
machine by its address, `localhost` or its own name: so a web page elsewhere cannot make a browser read it under a name of that
page's (DNS rebinding). With a token every request must bring it, as `Authorization: Bearer TOKEN` or as `?token=TOKEN`.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import h11
import structlog

MAX_CLIENTS = 16
MAX_LISTENERS = 4
"""Of the clients those that listen to events."""
REQUEST_S = 10.0
"""For a request to come, or an answer to be taken."""
MAX_HEADER = 16 * 1024
MAX_UNREAD = 256 * 1024
"""Bytes that wait for a listener; one that reads more slowly is let go."""

log: Any = structlog.get_logger("edged")


class Answer(NamedTuple):
    body: bytes
    type: str = "text/plain; charset=utf-8"
    status: int = 200


Page = Callable[[str], Answer]
"""Makes the answer to a path, given which types of content the client accepts."""

HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"),
)


class Server:
    """`async with Server((host, port), token, pages, events, every_s)`. `pages` by path; `events()` is what listeners at
    `/events` get each `every_s`. Where it cannot listen the daemon goes on, and says so."""

    def __init__(
        self,
        address: tuple[str, int],
        token: str | None,
        pages: Mapping[str, Page],
        events: Callable[[], bytes],
        every_s: float = 1.0,
    ) -> None:
        self._address = address
        self._token = token
        self._pages = pages
        self._events = events
        self._every_s = every_s
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._listeners = 0
        self._names = {"localhost", socket.gethostname().lower(), address[0].lower()}

    async def __aenter__(self) -> Server:
        host, port = self._address
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEADER)
        except OSError as error:
            log.error(
                "http", listen=f"{host}:{port}", reason=f"cannot listen: {error.strerror or error}; the daemon runs without it"
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MAX_CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests, one after the other, as long as the client keeps the connection."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
        while True:
            try:
                request = await asyncio.wait_for(_request(connection, reader), REQUEST_S)
            except h11.RemoteProtocolError as error:
                if connection.our_state is h11.IDLE:
                    await _answer(connection, writer, Answer(f"{error}\n".encode(), status=error.error_status_hint), False)
                return
            if request is None:
                return
            url = urlsplit(request.target.decode("ascii", "replace"))
            answer = self._refused(request, url.query)
            if answer is None and url.path == "/events" and request.method == b"GET":
                return await self._stream(connection, writer)
            if answer is None:
                page = self._pages.get(url.path)
                accept = dict(request.headers).get(b"accept", b"").decode("ascii", "replace")
                answer = (
                    page(accept)
                    if page is not None
                    else Answer(f"not found; the pages are {' '.join(self._pages)}\n".encode(), status=404)
                )
            await _answer(connection, writer, answer, request.method == b"HEAD")
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()

    def _refused(self, request: h11.Request, query: str) -> Answer | None:
        """Why a request gets nothing, if it is so."""
        headers = dict(request.headers)
        if request.method not in (b"GET", b"HEAD"):
            return Answer(b"nothing here can be changed: only GET and HEAD\n", status=405)
        if not self._is_ours(headers.get(b"host", b"").decode("ascii", "replace")):
            return Answer(b"the Host header names another machine: ask by address, or by the name of this one\n", status=421)
        if self._token is None:
            return None
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ") or parse_qs(query).get("token", [""])[0].encode()
        if hmac.compare_digest(given, self._token.encode()):
            return None
        return Answer(b"this needs the token of [http]: Authorization: Bearer TOKEN, or ?token=TOKEN\n", status=401)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = name.strip("[]").lower().rstrip(".")
        with suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return name.removesuffix(".local") in self._names or name in self._names

    async def _stream(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        """Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), until the client goes."""
        if self._listeners >= MAX_LISTENERS:
            return await _answer(
                connection, writer, Answer(f"{MAX_LISTENERS} other clients listen already\n".encode(), status=503), False
            )
        self._listeners += 1
        try:
            headers = [*HEADERS, ("Content-Type", "text/event-stream"), ("Connection", "close")]
            writer.write(connection.send(h11.Response(status_code=200, headers=headers)) or b"")
            while not writer.is_closing() and writer.transport.get_write_buffer_size() < MAX_UNREAD:
                writer.write(connection.send(h11.Data(data=b"data: " + self._events() + b"\n\n")) or b"")
                await asyncio.sleep(self._every_s)
            writer.transport.abort()
        finally:
            self._listeners -= 1


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next whole request; None when the client has closed."""
    found: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(MAX_HEADER))
        elif isinstance(event, h11.Request):
            found = event
        elif isinstance(event, h11.EndOfMessage):
            return found
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


async def _answer(connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, is_head: bool) -> None:
    headers = [*HEADERS, ("Content-Type", answer.type), ("Content-Length", str(len(answer.body)))]
    parts = [connection.send(h11.Response(status_code=answer.status, headers=headers))]
    parts += [] if is_head else [connection.send(h11.Data(data=answer.body))]
    parts.append(connection.send(h11.EndOfMessage()))
    writer.write(b"".join(part or b"" for part in parts))
    await asyncio.wait_for(writer.drain(), REQUEST_S)
