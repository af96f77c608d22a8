"""Checksums at the end of frames, one at a time or many frames of one length at once.

A CRC is linear: the CRC of a message is the exclusive-or of what each byte contributes at its place, and of what the start
value contributes. With a table of contributions for each place, many frames are checked by two numpy calls.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import xor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BATCH_BYTES = 256
"""Frames covered by more bytes are checked one by one: 256 places of 256 entries are 128 KiB of table."""


class Crc(NamedTuple):
    """A CRC of 16 bits. `reflected`: least significant bit first, as modbus and kermit have it."""

    polynomial: int
    start: int
    reflected: bool
    endian: str


CRC16 = {
    "crc16-modbus": Crc(0x8005, 0xFFFF, True, "little"),
    "crc16-ccitt-false": Crc(0x1021, 0xFFFF, False, "big"),
    "crc16-xmodem": Crc(0x1021, 0x0000, False, "big"),
    "crc16-kermit": Crc(0x1021, 0x0000, True, "little"),
}
SIZES = {"none": 0, "nmea": 0, "xor8": 1, **dict.fromkeys(CRC16, 2), "crc32": 4}
"""Bytes that the binary checksums take at the end of a frame."""


def crc16(name: str, data: bytes) -> int:
    """The CRC of `data`, as a number."""
    crc, table = CRC16[name], _table(name)
    value = crc.start
    if crc.reflected:
        for byte in data:
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    else:
        for byte in data:
            value = table[(value >> 8) ^ byte] ^ ((value << 8) & 0xFFFF)
    return value


class Checksum:
    """The checksum of frames: `size` bytes at the end, over all bytes from `start` up to them."""

    def __init__(self, name: str, start: int = 0, endian: str | None = None) -> None:
        standard = CRC16[name].endian if name in CRC16 else "little"
        self.name = name
        self.size = SIZES[name]
        self.start = start
        self._endian: Any = endian or standard

    def value(self, covered: bytes) -> int:
        """The checksum that a frame with these bytes must carry."""
        if self.name == "xor8":
            return reduce(xor, covered, 0)
        if self.name == "crc32":
            return zlib.crc32(covered)
        return crc16(self.name, covered)

    def encode(self, frame: bytes) -> bytes:
        """What to append to `frame`."""
        return self.value(frame[self.start :]).to_bytes(self.size, self._endian)

    def carried(self, frame: bytes) -> int:
        """What `frame` says its checksum is."""
        return int.from_bytes(frame[len(frame) - self.size :], self._endian)

    def of(self, frame: bytes) -> int:
        """What the checksum of `frame` should be."""
        return self.value(frame[self.start : len(frame) - self.size])

    def cure(self, frame: bytes, starts: Sequence[int]) -> str:
        """With which settings `frame` would pass, said for a person; nothing when none is found, or chance would do."""
        if self.size < 2:
            return ""
        for start in starts:
            for endian in ("little", "big"):
                other = Checksum(self.name, start, endian)
                if other.of(frame) == other.carried(frame):
                    swapped = f', endian = "{endian}"' if endian != self._endian else ""
                    return f"; it passes with start = {start}{swapped}"
        return ""

    def first_bad(self, frames: list[bytes]) -> int:
        """Index of the first frame that fails, or how many there are."""
        if not self.size:
            return len(frames)
        if self.name in CRC16 and len(frames) >= 8:  # below that the loop is faster than numpy's calls
            length = len(frames[0])
            covered = length - self.size - self.start
            if 0 < covered <= BATCH_BYTES and set(map(len, frames)) == {length}:
                return self._first_bad_of_equal(frames, covered)
        for index, frame in enumerate(frames):
            if self.of(frame) != self.carried(frame):
                return index
        return len(frames)

    def _first_bad_of_equal(self, frames: list[bytes], covered: int) -> int:
        rows = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
        body, tail = rows[:, self.start : self.start + covered], np.ascontiguousarray(rows[:, -self.size :])
        places, start = _contributions(self.name, covered)
        wanted = np.bitwise_xor.reduce(places[np.arange(covered), body], axis=1) ^ start
        carried = tail.view("<u2" if self._endian == "little" else ">u2")[:, 0]
        wrong = np.flatnonzero(wanted != carried)
        return int(wrong[0]) if len(wrong) else len(frames)


def nmea_body(line: bytes) -> bytes | None:
    """What lies between the `$` (or `!`, or the line's start) and `*hh`, or None when hh is not its exclusive-or."""
    body, star, digits = line.rpartition(b"*")
    if not star or len(digits) != 2:
        return None
    if body[:1] in (b"$", b"!"):
        body = body[1:]
    return body if b"%02X" % reduce(xor, body, 0) == digits.upper() else None


@lru_cache(maxsize=8)
def _table(name: str) -> tuple[int, ...]:
    polynomial, _, reflected, _ = CRC16[name]
    mirrored = int(f"{polynomial:016b}"[::-1], 2)
    entries = []
    for byte in range(256):
        value = byte if reflected else byte << 8
        for _ in range(8):
            if reflected:
                value = (value >> 1) ^ (mirrored if value & 1 else 0)
            else:
                value = ((value << 1) & 0xFFFF) ^ (polynomial if value & 0x8000 else 0)
        entries.append(value)
    return tuple(entries)


@lru_cache(maxsize=8)
def _contributions(name: str, length: int) -> tuple[NDArray[np.uint16], int]:
    """`[length, 256]`: what a byte at each place adds to the CRC of `length` bytes; and what the start value adds."""
    crc = CRC16[name]
    table = np.array(_table(name), np.uint16)
    places = np.empty((length, 256), np.uint16)
    places[-1] = table
    for place in range(length - 2, -1, -1):  # one more zero byte behind it
        after = places[place + 1]
        if crc.reflected:
            places[place] = table[after & 0xFF] ^ (after >> 8)
        else:
            places[place] = table[after >> 8] ^ (after << np.uint16(8))
    return places, crc16(name, bytes(length))
