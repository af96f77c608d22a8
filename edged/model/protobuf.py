"""Protobuf's wire format, read over a file in blocks and written in its one canonical form.

Stricter than protobuf's own parsers, which do not agree on what they make of odd bytes: some keep 32 bits of a tag of 64 and so
see a field where others see an unknown one. What could be read in two ways is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

MAX_TEXT = 1 << 20  # one name or metadata value
MAX_TEXTS = 32 << 20  # all of them
BLOCK = 1 << 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}


class Wire:
    """A file of `size` bytes. Every length is checked against its surroundings; `ValueError` says what is wrong."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._block = b""
        self._base = 0
        self._text_bytes = 0

    def read(self, start: int, end: int) -> bytes:
        i = start - self._base
        if i >= 0 and end - self._base <= len(self._block):
            return self._block[i : i + end - start]
        data = os.pread(self._fd, end - start, start)
        if len(data) != end - start:
            raise ValueError("it became shorter while it was read")
        return data

    def text(self, start: int, end: int) -> str:
        self._text_bytes += end - start
        if end - start > MAX_TEXT or self._text_bytes > MAX_TEXTS:
            raise ValueError(f"a text of {end - start} bytes at byte {start}")
        return self.read(start, end).decode("utf-8", "replace")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at` and the place after it."""
        i = at - self._base
        if not 0 <= i <= len(self._block) - 10:
            self._block = os.pread(self._fd, BLOCK, at)
            self._base, i = at, 0
        block = self._block
        limit = min(len(block), end - self._base)
        value = shift = 0
        while i < limit and shift < 70:
            byte = block[i]
            i += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    raise ValueError(f"a number of more than 64 bits at byte {at}")
                return value, self._base + i
            shift += 7
        raise ValueError(f"cut off, or no protobuf, at byte {at}")

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, wire type, a, b) of each field: a = value of a VARINT, else a:b = place of its bytes."""
        at = start
        while at < end:
            tag, after = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if tag >> 32 or number == 0 or after - at > 5:
                raise ValueError(f"no protobuf at byte {at}: its tag has more than 32 bits, or is 0")
            at = after
            if wire == VARINT:
                value, at = self.varint(at, end)
                yield number, VARINT, value, 0
                continue
            if wire == BYTES:
                length, at = self.varint(at, end)
            elif wire in SIZES:
                length = SIZES[wire]
            else:
                raise ValueError(f"no protobuf at byte {at}")
            if length > end - at:
                raise ValueError(f"cut off, or no protobuf, at byte {at}")
            yield number, wire, at, at + length
            at += length


def varint(value: int) -> bytes:
    """The shortest form of a number of at most 64 bits."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)
