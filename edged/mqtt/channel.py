"""Bytes in and out of one connected stream, TCP, TLS, unix or websocket, on the event loop.

Owns the socket's file descriptor: removes reader and writer and closes it, in that order, once. Knows nothing of MQTT.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import sys
import termios
from collections.abc import Callable
from functools import partial
from typing import Protocol

from edged.errors import Retryable
from edged.mqtt.connect import explain_tls
from edged.mqtt.settings import LinkCounts
from edged.mqtt.websocket import WebSocket

TLS_ALERT = b"\x15\x03"  # how a TLS server answers what is no TLS
READ_BYTES = 1 << 18  # one wake-up reads at most so much, then others have their turn
HANG_UPS = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)


class HungUp(Retryable):
    """The peer ended the connection: by an end of file or a reset, for a reason of its own."""


class Dismissed(HungUp):
    """The peer ended the connection and said why."""


class Stream(Protocol):
    """What of a non-blocking socket is used."""

    def fileno(self) -> int: ...
    def send(self, data: bytearray, /) -> int: ...
    def recv_into(self, view: memoryview, /) -> int: ...
    def close(self) -> None: ...


def _nobody(*_: object) -> None:
    """Who is called back by a closed channel."""


class Channel:
    """`on_bytes` gets what one wake-up read; `on_lost` is called once, when the peer or the network ends it; `on_writable`
    when `flush` had to wait for the kernel and all of `out` has left since. None of them may raise."""

    __slots__ = (
        *("_has_heard", "is_held", "is_closed", "is_stuck", "out"),
        *(
            "_bytes_seen",
            "_counts",
            "_fd",
            "_is_plain",
            "_loop",
            "_on_bytes",
            "_on_lost",
            "_on_writable",
            "_read",
            "_sock",
            "_view",
        ),
    )

    def __init__(
        self,
        sock: Stream,
        counts: LinkCounts,
        on_bytes: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_lost: Callable[[Retryable], None],
    ) -> None:
        self.out = bytearray()
        self.is_stuck = False
        self._has_heard = False
        self._bytes_seen = 0
        self.is_held = False
        self.is_closed = False
        self._sock = sock
        self._counts = counts
        self._fd = sock.fileno()
        self._loop = asyncio.get_running_loop()
        self._on_bytes = on_bytes
        self._on_writable = on_writable
        self._on_lost = on_lost
        self._view = memoryview(bytearray(READ_BYTES))
        self._is_plain = not isinstance(sock, ssl.SSLSocket | WebSocket)
        self._read: Callable[[], int] = partial(sock.recv_into, self._view) if self._is_plain else self._read_all

    def open(self) -> None:
        self._loop.add_reader(self._fd, self._readable)

    def look(self) -> None:
        """To be called now and then: when the last bytes and a reset come in one wake-up, uvloop tells of the bytes alone, and
        never again of anything."""
        self._readable()

    def hold(self, is_held: bool) -> None:
        """Whether reading is to wait: what was read is still being handled."""
        if is_held == self.is_held or self.is_closed:
            return
        self.is_held = is_held
        if is_held:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.add_reader(self._fd, self._readable)
            self._loop.call_soon(self._readable)  # what OpenSSL holds would never wake the loop

    def has_heard_since(self) -> bool:
        """Whether anything came in since this was asked before."""
        before, self._bytes_seen = self._bytes_seen, self._counts.bytes_in
        return self._bytes_seen > before

    @property
    def delivered(self) -> int:
        """Bytes that the peer's kernel has taken, of all that the link ever sent."""
        try:
            left = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return self._counts.bytes_out
        return self._counts.bytes_out - int.from_bytes(left, sys.byteorder)

    def close(self) -> None:
        """Calls nobody back from now on, and knows nobody: who made it may go at once, with its buffer."""
        if self.is_closed:
            return
        self.is_closed = True
        self._on_bytes = self._on_writable = self._on_lost = _nobody
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()

    def flush(self) -> None:
        """Sends what `out` holds; what the kernel does not take stays there and leaves when it can."""
        out = self.out
        try:
            while out:
                sent = self._sock.send(out)
                self._counts.bytes_out += sent
                del out[:sent]
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            if not self.is_stuck:
                self.is_stuck = True
                self._loop.add_writer(self._fd, self._writable)
        except OSError as error:
            self.is_stuck = True
            out.clear()
            self._loop.call_soon(self._lose_after_reading, error)

    def _lose_after_reading(self, error: OSError) -> None:
        """The peer may have said why it ended the connection before it did."""
        self._readable()
        if not self.is_closed:
            self._lose(error.strerror or str(error), isinstance(error, HANG_UPS))

    def _writable(self) -> None:
        if self.is_closed:
            return
        self.flush()
        if not self.out and self.is_stuck and not self.is_closed:
            self.is_stuck = False
            self._loop.remove_writer(self._fd)
            self._on_writable()

    def _readable(self) -> None:
        if self.is_closed or self.is_held:
            return
        try:
            size = self._read()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLError as error:  # a TLS 1.3 server says only now that it does not like our certificate
            return self._lose(f"TLS: {explain_tls(error)}", isinstance(error, HANG_UPS))
        except OSError as error:
            return self._lose(error.strerror or str(error), isinstance(error, HANG_UPS))
        if not size:
            return self._lose("the broker closed the connection" + ("" if self._has_heard else self._silent_fix()), True)
        if not self._has_heard:
            self._has_heard = True
            if self._is_plain and self._view[:2] == TLS_ALERT:
                return self._lose("what answers speaks TLS: write mqtts:// (usually port 8883)")
        self._counts.bytes_in += size
        self._on_bytes(bytes(self._view[:size]))

    def _silent_fix(self) -> str:
        """Of a broker that closed before it said a word."""
        tls = "is this its TLS port (mqtts://)? else " if self._is_plain else ""
        return f" before it answered: {tls}see the broker's log"

    def _read_all(self) -> int:
        """Reads records or frames until there are none: what was taken from the kernel already would never wake the loop."""
        size = 0
        try:
            while size < READ_BYTES:
                got = self._sock.recv_into(self._view[size:])
                size += got
                if not got:
                    break
            if size:
                self._loop.call_soon(self._readable)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLZeroReturnError):
            if not size:
                raise
        except OSError:
            if not size:
                raise
            self._loop.call_soon(self._readable)  # what came before the error first
        return size

    def _lose(self, why: str, by_peer: bool = False) -> None:
        on_lost = self._on_lost
        self.close()
        on_lost((HungUp if by_peer else Retryable)("lost", f"connection lost: {why}"))
