"""A closed loop over MQTT 3.1.1 on a bare socket: at most so many requests without an answer, answers matched in order.

Frames are prebuilt and sent in one piece a wake-up; answers are counted by walking over the frame headers of a large read,
so that the load costs a fraction of what it measures.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

CYCLE = 1024
"""Frames prebuilt; at QoS 1 each with a packet identifier of its own. More must never be in flight."""

READ_BYTES = 1 << 18
SILENCE_S = 5.0
"""Without an answer for so long, the rest is taken as lost."""


class Lost(Exception):
    """Answers stayed away."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one load: answers a second, and the time from request to answer (median, 99th percentile)."""

    per_s: float
    p50_us: float
    p99_us: float


class Load:
    """Publishes `payload` to the topics in turn and counts what comes on another. Use as a context manager."""

    def __init__(self, port: int, topics_in: Sequence[str], topic_out: str, payload: bytes, qos: int) -> None:
        """`topics_in` are of the same length."""
        self._port = port
        self._topic_out = topic_out
        self._qos = qos
        self._topics = len(topics_in)
        self._count = CYCLE // self._topics * self._topics
        frames = [publish_frame(topics_in[i % self._topics], payload, qos, i + 1) for i in range(self._count)]
        self._size = len(frames[0])
        self._cycle = memoryview(b"".join(frames * 2))
        self._sent = 0
        self._acks = b""
        self._rest = b""

    def __enter__(self) -> Load:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=SILENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(connect_frame() + subscribe_frame(self._topic_out, self._qos))
        expected = 4 + 5  # CONNACK and SUBACK
        while expected:
            expected -= len(self._socket.recv(expected))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def wait_until_answered(self, limit_s: float) -> None:
        """Knocks on every topic until there is an answer, then lets late ones run out. Raises Lost after `limit_s`."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self._send(self._topics)
            if self._drain(0.05):
                if self._topics > 1:  # the round in which the other side subscribed may have missed some
                    self._send(self._topics)
                while self._drain(0.3):
                    pass
                return
        raise Lost(f"no answer within {limit_s:.0f} s")

    def drive(self, count: int, in_flight: int) -> Measured:
        """Sends `count` requests and waits for all answers. Raises Lost when some do not come."""
        self._socket.settimeout(SILENCE_S)
        times = np.empty(count)
        waits = np.empty(count)
        sent = got = 0
        now = began = time.perf_counter()
        while got < count:
            room = min(in_flight - (sent - got), count - sent)
            times[sent : sent + room] = now
            sent += room
            self._send(room)
            try:
                answers = self._receive()
            except TimeoutError:
                raise Lost(f"{count - got} of {count} answers are missing") from None
            now = time.perf_counter()
            waits[got : got + answers] = now - times[got : got + answers]
            got += answers
        if got > count:
            raise Lost(f"{got - count} answers too many")
        p50, p99 = np.percentile(waits, (50, 99)) * 1e6
        return Measured(count / (now - began), float(p50), float(p99))

    def count_answers(self, expected: int) -> None:
        """Waits for so many answers to somebody else's requests. Raises Lost when they stay away."""
        self._socket.settimeout(SILENCE_S)
        got = 0
        while got < expected:
            try:
                got += self._receive()
            except TimeoutError:
                raise Lost(f"{expected - got} of {expected} answers are missing") from None
            self._send(0)

    def _drain(self, wait_s: float) -> int:
        """Answers that come within `wait_s`, at least one if there is any."""
        end = time.monotonic() + wait_s
        answers = 0
        while not answers and (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                answers = self._receive()
            except TimeoutError:
                break
            self._send(0)
        return answers

    def _send(self, count: int) -> None:
        start = self._sent % self._count * self._size
        self._sent += count
        frames = self._cycle[start : start + count * self._size]
        if self._acks:
            self._socket.sendall(self._acks + frames)
            self._acks = b""
        elif count:
            self._socket.sendall(frames)

    def _receive(self) -> int:
        """One read; the number of whole PUBLISH frames in it. Those of QoS 1 are acknowledged with the next `_send`."""
        read = self._socket.recv(READ_BYTES)
        if not read:
            raise Lost("the broker closed the connection")
        data = self._rest + read
        at, end, answers, acks = 0, len(data), 0, []
        while at + 3 <= end:
            length, body = data[at + 1], at + 2
            if length & 0x80:  # answers are shorter than 16 KB: two bytes of length at most
                length, body = length & 0x7F | data[at + 2] << 7, at + 3
            if body + length > end:
                break
            if data[at] >> 4 == 3:
                answers += 1
                if data[at] & 6:
                    topic_end = body + 2 + (data[body] << 8 | data[body + 1])
                    acks.append(b"\x40\x02" + data[topic_end : topic_end + 2])
            at = body + length
        self._rest = data[at:]
        self._acks += b"".join(acks)
        return answers


def publish_frame(topic: str, payload: bytes, qos: int, packet: int) -> bytes:
    body = _text(topic) + (struct.pack(">H", packet) if qos else b"") + payload
    return bytes((0x30 | qos << 1,)) + _length(len(body)) + body


def connect_frame() -> bytes:
    body = _text("MQTT") + b"\x04\x02\x00\x00" + _text("")  # level 4, clean session, no keep-alive, no name
    return b"\x10" + _length(len(body)) + body


def subscribe_frame(topic: str, qos: int) -> bytes:
    body = b"\x00\x01" + _text(topic) + bytes((qos,))
    return b"\x82" + _length(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
