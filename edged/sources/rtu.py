"""Modbus RTU: which registers are asked for together, how a question is written, and what an answer says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edged.config.schema import FieldSpec
from edged.decode.checksums import KINDS

FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
MAX_REGISTERS, MAX_BITS = 125, 2000
"""What one request may ask for."""
EXCEPTIONS = {
    1: ("illegal_function", "it does not know this kind of register: is table right?"),
    2: ("illegal_data_address", "it has no such register: are register and table right? Both count from 0 on the wire"),
    3: ("illegal_data_value", "it does not return so many at once"),
    4: ("device_failure", "it could not read them"),
    5: ("acknowledge", "it needs more time"),
    6: ("device_busy", "it is busy"),
    8: ("memory_parity_error", "its memory is damaged"),
    10: ("gateway_path_unavailable", "the gateway has no path to it"),
    11: ("gateway_target_failed", "it does not answer the gateway"),
}
"""By the code of an exception answer: the reason under which it is counted, and what it means."""
_AROUND = 5
"""Bytes of an answer beside its data: address, function, count, checksum."""
REQUEST_BYTES = 8
GAP_CHARACTERS = 3.5
MIN_GAP_S = 0.00175
"""The silence between two frames, above 19200 baud."""


class Refusal(NamedTuple):
    """Why there is no data: the reason under which it is counted."""

    reason: str
    detail: str


class Request(msgspec.Struct, frozen=True):
    """`count` registers, or bits, of one table from `start` on."""

    table: str
    start: int
    count: int

    @property
    def is_of_bits(self) -> bool:
        return self.table in ("coil", "discrete")

    @property
    def data_bytes(self) -> int:
        return (self.count + 7) // 8 if self.is_of_bits else 2 * self.count

    def written(self, address: int) -> bytes:
        body = bytes((address, FUNCTIONS[self.table])) + self.start.to_bytes(2, "big") + self.count.to_bytes(2, "big")
        return body + _crc(body)

    def answer(self, received: bytes, sent: bytes) -> bytes | Refusal | None:
        """The data of the answer among what came, or what it says instead; None while it is not whole.

        What stands before it is passed over: an adapter that hears itself, the end of a late answer of another unit, and
        the glitch of a transmitter that was switched.
        """
        received = received.removeprefix(sent)
        address, function = sent[0], sent[1]
        good, bad = bytes((address, function, self.data_bytes)), bytes((address, function | 0x80))
        at = received.find(good)
        while at >= 0:
            frame = received[at : at + _AROUND + self.data_bytes]
            if len(frame) == _AROUND + self.data_bytes and _crc(frame[:-2]) == frame[-2:]:
                return frame[3:-2]
            at = received.find(good, at + 1)
        at = received.find(bad)
        while at >= 0:
            frame = received[at : at + _AROUND]
            if len(frame) == _AROUND and _crc(frame[:-2]) == frame[-2:]:
                reason, meaning = EXCEPTIONS.get(frame[2], (f"exception_{frame[2]}", "an exception that is not of the standard"))
                return Refusal(reason, f"unit {address}, {self.said()}: {meaning}")
            at = received.find(bad, at + 1)
        return None

    def no_answer(self, received: bytes, sent: bytes, waited_s: float) -> Refusal:
        """What is said when time is over."""
        address, received = sent[0], received.removeprefix(sent)
        if not received:
            return Refusal("no_answer", f"unit {address}, {self.said()}: nothing came within {waited_s * 1e3:.0f} ms")
        found = received[:32].hex(" ")
        if received[0] != address or len(received) < _AROUND + self.data_bytes:
            return Refusal("malformed", f"unit {address}, {self.said()}: what came does not answer it: {found}")
        return Refusal("checksum", f"unit {address}, {self.said()}: the CRC is wrong: {found}")

    def said(self) -> str:
        last = self.start + self.count - 1
        return f"{self.table} {self.start}" + (f" to {last}" if self.count > 1 else "")


class Place(NamedTuple):
    """Where the value of a field lies: in the answer to which request, from which register or bit on, and how many."""

    request: int
    offset: int
    size: int


class Poll(msgspec.Struct, frozen=True):
    """What one sample takes: `places` are those of the fields, in their order."""

    requests: tuple[Request, ...]
    places: tuple[Place, ...]

    def sample(self, address: int, answers: Sequence[bytes]) -> bytes:
        """What is decoded: the address, then the bytes of each field; of a bit 0 or 1."""
        parts = [bytes((address,))]
        for place in self.places:
            data, is_bits = answers[place.request], self.requests[place.request].is_of_bits
            if is_bits:
                bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
                parts.append(bits[place.offset : place.offset + place.size].tobytes())
            else:
                parts.append(data[2 * place.offset : 2 * (place.offset + place.size)])
        return b"".join(parts)

    def bus_bytes(self) -> float:
        """Characters that a round with one unit takes on the line, silences included."""
        return sum(REQUEST_BYTES + _AROUND + one.data_bytes + 2 * GAP_CHARACTERS for one in self.requests)


def poll_of(fields: Sequence[FieldSpec]) -> Poll:
    """The fewest requests that ask for registers of fields and for nothing between them, which a unit may not have."""
    requests: list[Request] = []
    for table in dict.fromkeys(str(field.table) for field in fields):
        most = MAX_BITS if table in ("coil", "discrete") else MAX_REGISTERS
        spans = sorted({(_start(field), _start(field) + count_of(field)) for field in fields if field.table == table})
        first, end = spans[0]
        for start, stop in spans[1:]:
            if start > end or max(stop, end) - first > most:
                requests.append(Request(table, first, end - first))
                first, end = start, stop
            end = max(end, stop)
        requests.append(Request(table, first, end - first))
    return Poll(tuple(requests), tuple(_place(field, requests) for field in fields))


def _start(field: FieldSpec) -> int:
    assert field.register is not None
    return field.register


def count_of(field: FieldSpec) -> int:
    """Registers, or bits, that a field takes."""
    count = 1
    for axis in field.shape:
        count *= axis
    if field.table in ("coil", "discrete"):
        return count
    return count * max(1, np.dtype(str(field.dtype)).itemsize // 2)


def _place(field: FieldSpec, requests: Sequence[Request]) -> Place:
    start, count = _start(field), count_of(field)
    for i, one in enumerate(requests):
        if one.table == field.table and one.start <= start and start + count <= one.start + one.count:
            return Place(i, start - one.start, count)
    raise AssertionError(f"{field.name} is in no request")


def answer_bytes(request: Request) -> int:
    return _AROUND + request.data_bytes


def character_s(settings: Any) -> float:
    """How long a character takes on the line."""
    return float(1 + 8 + (settings.parity != "none") + settings.stopbits) / float(settings.baudrate)


def gap_s(settings: Any) -> float:
    """The silence between two frames."""
    return max(MIN_GAP_S, GAP_CHARACTERS * character_s(settings)) if settings.baudrate <= 19200 else MIN_GAP_S


def _crc(body: bytes) -> bytes:
    return KINDS["crc16-modbus"].one(body).to_bytes(2, "little")
