"""A small HTTP/1.1 client on the loop, for one peer. The protocol is h11's.

Why not a library: its import and one request cost the process 18 MiB with httpx, 12 MiB with aiohttp and 1 MiB so, beside
numpy, msgspec and uvloop (CPython 3.11, x86-64), and `[http]` has h11 already. What is wanted is little: one peer, bounded
answers, parts as they come. Redirects are not followed: a request with a token goes to the address in the file and nowhere else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import h11

from edged.model.remote.records import NoAnswer, Reply, Request
from edged.notation.values import HttpUrl
from edged.system.one_shot import in_one_shot_thread

READ = 64 * 1024
MAX_HEADER = 16 * 1024
EVENTS = 8
"""Parts of an answer between two pauses: a peer may send each byte as a part of its own, which costs 30 us here."""
SHORT_S, LONG_S, MANY = 0.001, 0.01, 1024
"""The pauses: short ones up to so many parts, long ones from there on."""
CUT_OFF = "the peer hung up before its answer was whole"

OnPart = Callable[[bytes], None]


class _Line(asyncio.Protocol):
    """One connection. What comes while nobody reads ends it: it belongs to no request."""

    def __init__(self) -> None:
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER)
        self.is_used = True
        self._transport: asyncio.Transport
        self._came = bytearray()
        self._end: Exception | None = None
        self._is_full = False  # the other side takes nothing now
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of that

    def data_received(self, data: bytes) -> None:
        if not self.is_used:
            return self.abort()
        self._came += data
        if len(self._came) > READ:
            self._transport.pause_reading()
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        self._end = self._end or error or EOFError(CUT_OFF)
        self._tell()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    async def send(self, data: bytes) -> None:
        """Until most of it is out, or the other side says something: it may refuse what it has not read."""
        self._transport.write(data)
        while self._is_full and not self._came and self._end is None:
            await self._wait()

    async def read(self) -> bytes:
        """What comes next; b"" at the end. Raises OSError."""
        while not self._came and self._end is None:
            await self._wait()
        if not self._came:
            if isinstance(self._end, OSError):
                raise self._end
            return b""
        data = bytes(self._came)
        self._came.clear()
        self._transport.resume_reading()
        return data

    def lay_by(self) -> bool:
        """After an answer: whether another request may go this way."""
        http, is_left = self.http, bool(self._came) or self._is_full or self._end is not None
        if is_left or http.our_state is not h11.DONE or http.their_state is not h11.DONE or http.trailing_data[0]:
            return False
        http.start_next_cycle()
        self.is_used = False
        return True

    @property
    def is_over(self) -> bool:
        return self._end is not None or self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()


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
            raise NoAnswer(f"the answer is not HTTP: {error}", "no_http") from None

    async def _ask(self, request: Request, max_bytes: int, on_part: OnPart | None) -> Reply:
        while self._idle:
            line = self._idle.pop()
            if line.is_over:
                continue
            line.is_used = True
            with suppress(_Stale):  # the peer had hung up meanwhile: that is no failure
                return await self._converse(line, request, max_bytes, on_part, True)
        return await self._converse(await self._connect(), request, max_bytes, on_part, False)

    async def _connect(self) -> _Line:
        if self._url.is_tls and self._context is None:
            self._context = await in_one_shot_thread("edged-ca", self._make_context, lambda _: None)
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(_Line, self._url.host, self._url.port, ssl=self._context)
        return line

    def _make_context(self) -> ssl.SSLContext:
        """Reads files: blocks."""
        context = ssl.create_default_context(cafile=str(self._ca) if self._ca is not None else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as for brokers: home-made authorities on every Python alike
        return context

    async def _converse(self, line: _Line, request: Request, max_bytes: int, on_part: OnPart | None, is_reused: bool) -> Reply:
        is_kept = False
        try:
            await line.send(self._framed(line, request))
            reply = await self._read(line, max_bytes, on_part, is_reused)
            is_kept = not self._is_closed and len(self._idle) < self._most_idle and line.lay_by()
            return reply
        finally:
            if is_kept:
                self._idle.append(line)
            else:
                line.abort()

    def _framed(self, line: _Line, request: Request) -> bytes:
        headers = [*self._headers, *request.headers]
        if request.body:
            headers.append(("Content-Length", str(len(request.body))))
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        events = (head, *([h11.Data(request.body)] if request.body else []), h11.EndOfMessage())
        return b"".join(filter(None, map(line.http.send, events)))

    async def _read(self, line: _Line, max_bytes: int, on_part: OnPart | None, is_reused: bool) -> Reply:
        status, answered, body, seen, has_begun, has_ended = 0, dict[str, str](), bytearray(), 0, False, False
        while True:
            try:
                event = line.http.next_event()
            except h11.RemoteProtocolError:
                if has_ended:
                    raise EOFError(CUT_OFF) from None
                raise
            seen += 1
            if seen % EVENTS == 0:
                await asyncio.sleep(SHORT_S if seen < MANY else LONG_S)
            if event is h11.NEED_DATA:
                data = await self._more(line, is_reused and not has_begun)
                line.http.receive_data(data)
                has_begun, has_ended = True, not data
            elif isinstance(event, h11.Response):
                status = event.status_code
                answered = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                _check(answered, max_bytes)
            elif isinstance(event, h11.Data):
                if len(body) + len(event.data) > max_bytes:
                    raise NoAnswer(_too_large(max_bytes), "too_large", is_final=True)
                body += event.data
                if on_part is not None and status == 200:
                    on_part(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Reply(status, answered, bytes(body))
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise EOFError(CUT_OFF)

    async def _more(self, line: _Line, may_be_stale: bool) -> bytes:
        """What comes next; b"" at the end."""
        try:
            data = await line.read()
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


def _check(headers: Mapping[str, str], max_bytes: int) -> None:
    """Raises NoAnswer for an answer that will not be read. (Of lengths h11 has made sure.)"""
    if int(headers.get("content-length", "0")) > max_bytes:
        raise NoAnswer(_too_large(max_bytes), "too_large", is_final=True)
    if (coding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise NoAnswer(f"the answer is compressed ({coding:.40}), although none was asked for that is", "encoding", is_final=True)


def _too_large(max_bytes: int) -> str:
    return f"the answer is larger than max_bytes ({max_bytes // 1024} KiB)"
