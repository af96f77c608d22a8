"""MQTT over a websocket (RFC 6455): the opening handshake, and a stream that frames what is sent and unframes what comes.

The stream stands in the place of a socket, so that nobody above it knows: non-blocking, with a socket's exceptions. A frame that
the kernel took a part of goes first on the next `send`, which says only then that its bytes are sent.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import ssl

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_HEAD = 16 * 1024
"""Bytes of the answer to the handshake, which is a few lines."""
FRAME_BYTES = 1 << 16
READ_BYTES = 1 << 16
BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA
DATA = (0x0, 0x1, BINARY)
CONTROL_BYTES = 125
FIN, MASKED = 0x80, 0x80


class BadAnswer(Exception):
    """What answers is no websocket for MQTT; the text says what it said."""


def request(host: str, port: int, path: str, key: bytes) -> bytes:
    """The opening handshake. `key` is 16 random bytes, in base64."""
    where = f"[{host}]" if ":" in host else host
    return (
        f"GET {path} HTTP/1.1\r\nHost: {where}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode()


def new_key() -> bytes:
    return base64.b64encode(os.urandom(16))


def check_answer(head: bytes, key: bytes) -> None:
    """`head` goes up to the empty line. Raises BadAnswer."""
    lines = head.decode("latin-1").split("\r\n")
    found = re.match(r"HTTP/1\.[01] (\d{3}) ?(.*)", lines[0])
    if found is None:
        raise BadAnswer(f"it does not speak HTTP, but says {lines[0][:40]!r}")
    if found[1] != "101":
        raise BadAnswer(f"it says {found[1]} {found[2][:60]}".rstrip())
    said = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if said.get("sec-websocket-accept") != base64.b64encode(hashlib.sha1(key + GUID).digest()).decode():
        raise BadAnswer("its answer to the handshake is wrong")
    if said.get("sec-websocket-protocol", "mqtt").lower() != "mqtt":
        raise BadAnswer(f"it speaks {said['sec-websocket-protocol'][:40]!r} and not mqtt")


def frame(kind: int, data: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """One whole frame of a client, which masks what it sends."""
    size = len(data)
    if size <= CONTROL_BYTES:
        head = bytes([FIN | kind, MASKED | size])
    elif size < 1 << 16:
        head = bytes([FIN | kind, MASKED | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([FIN | kind, MASKED | 127]) + size.to_bytes(8, "big")
    pad = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return head + mask + (int.from_bytes(data, "little") ^ pad).to_bytes(size, "little")


class Unframer:
    """What a server sends, without its frames. `pings` are those that are to be answered; `is_closed`: it said goodbye."""

    __slots__ = ("_buffer", "_kind", "_left", "is_closed", "pings")

    def __init__(self) -> None:
        self.pings: list[bytes] = []
        self.is_closed = False
        self._buffer = bytearray()
        self._kind = BINARY
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """The bytes that MQTT is in. Raises OSError where these are no frames of a server."""
        self._buffer += data
        buffer, out, at = self._buffer, bytearray(), 0
        while not self.is_closed:
            if self._left and self._kind in DATA:
                part = buffer[at : at + self._left]
                out += part
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
            head = self._head(at)
            if head is None:
                break
            kind, size, start = head
            if kind in DATA:
                self._kind, self._left, at = kind, size, start
                continue
            if len(buffer) - start < size:
                break
            if kind == CLOSE:
                self.is_closed = True
            elif kind == PING:
                self.pings.append(bytes(buffer[start : start + size]))
            at = start + size
        del buffer[:at]
        return bytes(out)

    def _head(self, at: int) -> tuple[int, int, int] | None:
        """Kind and size of the frame that begins at `at`, and where its data does; None where the rest of its head is to come."""
        buffer = self._buffer
        if len(buffer) - at < 2:
            return None
        first, size = buffer[at], buffer[at + 1]
        kind = first & 0x0F
        is_control = kind in (CLOSE, PING, PONG)
        if first & 0x70 or size & MASKED or (kind not in DATA and not is_control):
            raise ConnectionError(f"a websocket frame that begins with {first:#04x} {size:#04x}")
        if is_control and (size > CONTROL_BYTES or not first & FIN):
            raise ConnectionError("a control frame of the websocket that is too long")
        start = at + 2
        if size >= 126:
            more = 2 if size == 126 else 8
            if len(buffer) - start < more:
                return None
            size = int.from_bytes(buffer[start : start + more], "big")
            start += more
        return kind, size, start


class WebSocket:
    """A connected socket after the handshake; `sock` is plain or TLS. `rest` is what came behind the answer."""

    __slots__ = ("_came", "_covered", "_frame", "_unframer", "sock")

    def __init__(self, sock: socket.socket, rest: bytes = b"") -> None:
        self.sock = sock
        self._unframer = Unframer()
        self._came = self._unframer.feed(rest)
        self._frame = b""
        """What is left to send of a frame, or of an answer to a ping."""
        self._covered = 0
        """Bytes of the caller's that are in it."""

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes | bytearray) -> int:
        """How many bytes went; those of a frame go together. Raises as a non-blocking socket does."""
        if not self._covered:
            self._push()  # the answer to a ping
            part = bytes(data[:FRAME_BYTES])
            self._frame, self._covered = frame(BINARY, part, os.urandom(4)), len(part)
        self._push()
        sent, self._covered = self._covered, 0
        return sent

    def recv_into(self, view: memoryview) -> int:
        """How many bytes came; 0: the other side said goodbye. Raises as a non-blocking socket does."""
        while not self._came:
            if self._unframer.is_closed:
                return 0
            data = self.sock.recv(READ_BYTES)
            if not data:
                return 0
            self._came = self._unframer.feed(data)
            if self._unframer.pings:
                self._answer()
        size = min(len(view), len(self._came))
        view[:size] = self._came[:size]
        self._came = self._came[size:]
        return size

    def _push(self) -> None:
        while self._frame:
            self._frame = self._frame[self.sock.send(self._frame) :]

    def _answer(self) -> None:
        """The newest ping, as the standard allows; none while a frame is on its way, whose sender is answer enough."""
        ping = self._unframer.pings[-1]
        self._unframer.pings.clear()
        if self._frame:
            return
        self._frame = frame(PONG, ping, os.urandom(4))
        try:
            self._push()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # it goes with what is sent next
