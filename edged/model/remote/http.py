"""A small HTTP/1.1 client on the loop, for one peer. The protocol is h11's.

Why not a library: its import and one request cost the process 18 MiB with httpx, 12 MiB with aiohttp and 1 MiB so, beside
numpy, msgspec and uvloop (CPython 3.11, x86-64), and `[http]` has h11 already. What is wanted is little: one peer, bounded
answers, parts as they come. Redirects are not followed: a request with a token goes to the address in the file and nowhere else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import h11

from edged.config.values import HttpUrl
from edged.model.remote.records import NoAnswer, Reply, Request
from edged.system.one_shot import in_one_shot_thread

READ = 64 * 1024
MAX_HEADER = 16 * 1024
EVENTS = 8
"""Parts of an answer between two pauses: a peer may send each byte as a part of its own, which costs 30 us here."""
SHORT_S, LONG_S, MANY = 0.001, 0.01, 1024
"""The pauses: short ones up to so many parts, long ones from there on."""

OnPart = Callable[[bytes], None]


class _Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER)

    def abort(self) -> None:
        self.writer.transport.abort()


class Client:
    """`ask` may run as often at once as the caller wants; idle connections are kept, at most `most_idle`."""

    def __init__(self, url: HttpUrl, ca: Path | None, headers: Sequence[tuple[str, str]], most_idle: int) -> None:
        self._url = url
        self._ca = ca
        self._headers = [("Host", url.authority), ("User-Agent", "edged"), ("Accept-Encoding", "identity"), *headers]
        self._most_idle = most_idle
        self._idle: list[_Line] = []
        self._context: ssl.SSLContext | None = None
        self._is_closed = False

    async def ask(self, request: Request, max_bytes: int, timeout_s: float, on_part: OnPart | None = None) -> Reply:
        """One request and its answer. `on_part` gets the body of a good answer as it comes. Raises NoAnswer."""
        try:
            return await asyncio.wait_for(self._ask(request, max_bytes, on_part), timeout_s)
        except asyncio.TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s", "timeout") from None
        except ssl.SSLCertVerificationError as error:
            raise NoAnswer(f"its certificate is refused: {error.verify_message}", "certificate") from None
        except (OSError, EOFError) as error:
            raise NoAnswer(getattr(error, "strerror", None) or str(error) or type(error).__name__, "connection") from None
        except h11.ProtocolError as error:
            raise NoAnswer(f"what came is no HTTP: {error}", "no_http") from None

    async def _ask(self, request: Request, max_bytes: int, on_part: OnPart | None) -> Reply:
        while self._idle:
            line = self._idle.pop()
            if line.reader.at_eof():
                line.abort()
                continue
            with suppress(_Stale):  # the peer had hung up meanwhile: that is no failure
                return await self._converse(line, request, max_bytes, on_part, True)
        return await self._converse(await self._connect(), request, max_bytes, on_part, False)

    async def _connect(self) -> _Line:
        if self._url.is_tls and self._context is None:
            self._context = await in_one_shot_thread("edged-ca", self._make_context, lambda _: None)
        reader, writer = await asyncio.open_connection(self._url.host, self._url.port, limit=READ, ssl=self._context)
        return _Line(reader, writer)

    def _make_context(self) -> ssl.SSLContext:
        """Reads files: blocks."""
        context = ssl.create_default_context(cafile=str(self._ca) if self._ca is not None else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as for brokers: home-made authorities on every Python alike
        return context

    async def _converse(self, line: _Line, request: Request, max_bytes: int, on_part: OnPart | None, is_reused: bool) -> Reply:
        is_kept = False
        try:
            await self._send(line, request, is_reused)
            reply = await self._read(line, max_bytes, on_part, is_reused)
            if line.http.our_state is h11.DONE and line.http.their_state is h11.DONE and not self._is_closed:
                line.http.start_next_cycle()
                is_kept = len(self._idle) < self._most_idle
            return reply
        finally:
            if is_kept:
                self._idle.append(line)
            else:
                line.abort()

    async def _send(self, line: _Line, request: Request, is_reused: bool) -> None:
        headers = [*self._headers, *request.headers]
        if request.body:
            headers.append(("Content-Length", str(len(request.body))))
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        for event in (head, *([h11.Data(request.body)] if request.body else []), h11.EndOfMessage()):
            data = line.http.send(event)
            if data:
                line.writer.write(data)
        try:
            await line.writer.drain()
        except ConnectionError:
            if is_reused:
                raise _Stale from None
            raise

    async def _read(self, line: _Line, max_bytes: int, on_part: OnPart | None, is_reused: bool) -> Reply:
        status, answered, body, seen, has_begun = 0, dict[str, str](), bytearray(), 0, False
        while True:
            event = line.http.next_event()
            seen += 1
            if seen % EVENTS == 0:
                await asyncio.sleep(SHORT_S if seen < MANY else LONG_S)
            if event is h11.NEED_DATA:
                line.http.receive_data(await self._bytes(line, is_reused and not has_begun))
                has_begun = True
            elif isinstance(event, h11.Response):
                status = event.status_code
                answered = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                with suppress(ValueError):
                    if int(answered.get("content-length", "0")) > max_bytes:
                        raise NoAnswer(_too_large(max_bytes), "too_large", is_final=True)
            elif isinstance(event, h11.Data):
                if len(body) + len(event.data) > max_bytes:
                    raise NoAnswer(_too_large(max_bytes), "too_large", is_final=True)
                body += event.data
                if on_part is not None and status == 200:
                    on_part(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Reply(status, answered, bytes(body))
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise EOFError("the peer hung up before its answer was whole")

    async def _bytes(self, line: _Line, may_be_stale: bool) -> bytes:
        """What comes next; b"" at the end."""
        try:
            data = await line.reader.read(READ)
        except ConnectionError:
            if may_be_stale:
                raise _Stale from None
            raise
        if not data and may_be_stale:
            raise _Stale
        return data

    def close(self) -> None:
        self._is_closed = True
        while self._idle:
            self._idle.pop().abort()


class _Stale(Exception):
    """A connection that was kept is no more."""


def _too_large(max_bytes: int) -> str:
    return f"the answer is larger than max_bytes ({max_bytes // 1024} KiB)"
