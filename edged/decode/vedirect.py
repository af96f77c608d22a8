"""VE.Direct: blocks of fields, proved by a byte that makes the sum of the whole block 0.

A field is CR LF, a label, a tab, a value. The last one is the checksum, whose one byte may be any, also a line end, a tab or a
digit; so a block is not lines. Messages in hex, `:...` up to a line end, may stand anywhere within and are not part of the sum.

Handed on: the lines, label, tab and value, without the checksum.
"""

from __future__ import annotations

import re

from edged.decode.checksums import sum_of
from edged.decode.frames import Frames
from edged.decode.refusals import Refusals
from edged.records import EXCERPT, Reject

_LAST = b"\nChecksum\t"
_HEX_BYTES = 300
"""A longer one is none."""
_FIELDS = re.compile(rb"(?:\r\n[A-Za-z0-9#_ -]{1,16}\t[^\r\n\t]*)*\r\nChecksum\t.\Z", re.DOTALL)


class VeDirect:
    """A framer."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = b""  # without messages in hex
        self._seen = 0  # so much of it has been searched
        self._position = 0
        self._is_midway = False

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def reset(self, is_midway: bool = False) -> None:
        """`is_midway`: the first block is the rest of one, unless it begins as a block does."""
        self._buffer = b""
        self._seen = self._position = 0
        self._is_midway = is_midway

    def spoil(self) -> None:
        self._forget(len(self._buffer))
        self._is_midway = True

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]:
        self._buffer += data
        frames, refusals = Frames([], []), Refusals(is_one=True)
        while (stop := self._next()) > 0:
            self._take(self._buffer[:stop], frames, refusals)
            self._forget(stop)
        if len(self._buffer) > self._max_bytes:
            detail = f"no checksum in {self._max_bytes} bytes: wrong baudrate or wrong frame?"
            refusals.add(Reject("too_large", detail, self._buffer[: min(EXCERPT, self._max_bytes)], self._position))
            self._forget(len(self._buffer) - len(_LAST))
        return frames, refusals.records

    def _next(self) -> int:
        """Where the first block ends; 0: more bytes are needed."""
        last = self._buffer.find(_LAST, self._seen)
        while (start := self._buffer.find(b":", self._seen, last if last >= 0 else len(self._buffer))) >= 0:
            end = self._buffer.find(b"\n", start)
            if end < 0 and len(self._buffer) - start <= _HEX_BYTES:
                self._seen = start
                return 0
            if 0 <= end - start <= _HEX_BYTES:
                self._buffer = self._buffer[:start] + self._buffer[end + 1 :]
                self._position += end + 1 - start
                self._seen = max(0, start - len(_LAST))
                last = self._buffer.find(_LAST, self._seen)
            else:
                self._seen = start + 1
        if last < 0:
            self._seen = max(self._seen, len(self._buffer) - len(_LAST))
            return 0
        stop = last + len(_LAST)
        if stop == len(self._buffer):
            self._seen = last
            return 0
        return stop + 1

    def _forget(self, size: int) -> None:
        self._buffer = self._buffer[size:]
        self._position += size
        self._seen = 0

    def _take(self, block: bytes, frames: Frames, refusals: Refusals) -> None:
        """What stands before the first field does not belong to the block."""
        is_midway, self._is_midway = self._is_midway, False
        place, begin = self._position, _first_field(block)
        if begin:
            reason = "partial" if is_midway else "no_frame"
            refusals.add(Reject(reason, "bytes before the first field of a block", block[:begin][:EXCERPT], place))
            block, place = block[begin:], place + begin
        if wrong := sum_of(block) & 0xFF:
            reason = "partial" if is_midway else "checksum"
            detail = f"the bytes of the block add up to {wrong:#04x}, not to 0"
            refusals.add(Reject(reason, detail, block[:EXCERPT], place))
            return
        frames.payloads.append(block[2 : block.rindex(_LAST) - 1].replace(b"\r\n", b"\n"))
        frames.starts.append(place)


def _first_field(block: bytes) -> int:
    """Where the fields begin that reach to its end without anything between them; 0 where nothing stands before them."""
    if _FIELDS.match(block):
        return 0
    at = 0
    while (found := block.find(b"\r\n", at)) >= 0:
        if _FIELDS.match(block, found):
            return found
        at = found + 1
    return 0
