"""What a binary frame looks like: its markers, how long it is, and what proves it.

A shape knows no stream. It is asked about places in a buffer, and answers from the bytes there alone. Frames of one size are the
rows of a matrix, so that many of them cost a few numpy calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from struct import iter_unpack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from edged.decode.checksums import FEW, Checksum
from edged.notation.markers import OpenMarker

if TYPE_CHECKING:
    from edged.config import schema

_LENGTH_SIZES = {"uint8": 1, "uint16": 2, "uint32": 4}


class Shape(Protocol):
    """Frames of one kind. `is_proving`: what is none hardly passes for one. `cuts` are the places where frames that follow each
    other are cut: one more than there are frames, a range where they are of one size."""

    is_proving: bool

    def find(self, buffer: bytes, at: int) -> int:
        """The next place, from `at` on, where a frame may begin."""

    def size_at(self, buffer: bytes, at: int) -> int:
        """Bytes of the frame that begins at `at`; 0: more bytes are needed to know; -1: none begins there."""

    def follow(self, buffer: bytes, at: int, most: int) -> Sequence[int]:
        """Where at most `most` frames from `at` on are cut, if they are proved."""

    def first_bad(self, buffer: bytes, cuts: Sequence[int]) -> int:
        """Index of the first frame that is not proved, or how many there are."""

    def payloads(self, buffer: bytes, cuts: Sequence[int]) -> Sequence[bytes | None]:
        """What is to be decoded of good frames; None of one that is of another kind."""

    def reason(self, frame: bytes) -> str:
        """Why a frame is not proved, in one word."""

    def why_bad(self, frame: bytes, is_first: bool) -> str:
        """The same for a person. `is_first`: no frame was good before."""

    def why_none(self, buffer: bytes, at: int) -> tuple[str, str]:
        """Why no frame begins at `at`."""


_BYTES = bytes(range(256))
Marker = bytes | OpenMarker | None


def shown(marker: Marker) -> str:
    return str(marker) if isinstance(marker, OpenMarker) else (marker or b"").hex(" ")


class Pattern:
    """What a marker looks for."""

    def __init__(self, marker: Marker) -> None:
        is_open = isinstance(marker, OpenMarker)
        parts = marker.classes if isinstance(marker, OpenMarker) else [re.escape(bytes((b,))) for b in marker or b""]
        self.size = len(parts)
        self.kept = self.size if is_open else 0  # bytes of it that are data too
        self.text = shown(marker)
        self._fitting = [b"".join(re.findall(part, _BYTES, re.DOTALL)) for part in parts]
        whole = [re.compile(b"".join(parts[:n]), re.DOTALL) for n in range(self.size + 1)]
        self.match, self._search, self._all = whole[-1].match, whole[-1].search, whole[-1].finditer
        self._beginnings = whole

    def begins(self, buffer: bytes, at: int, size: int, count: int) -> int:
        """How many of `count` pieces of `size` bytes, one behind the other from `at` on, begin with it before one does not."""
        for place, fitting in enumerate(self._fitting, at):
            count -= len(buffer[place : place + count * size : size].lstrip(fitting))
        return count

    def may_begin(self, buffer: bytes, at: int) -> bool:
        """Whether the bytes from `at` to the end of the buffer could be the first of a marker."""
        held = len(buffer) - at
        return held < self.size and self._beginnings[held].match(buffer, at) is not None

    def find_last(self, line: bytes) -> int:
        """Where the last marker in a line begins; -1: it has none."""
        return max((found.start() for found in self._all(line)), default=-1)

    def find(self, buffer: bytes, at: int) -> int:
        """The next place, from `at` on, where a marker or the beginning of one is."""
        found = self._search(buffer, at)
        if found is not None:
            return found.start()
        for place in range(max(at, len(buffer) - self.size + 1), len(buffer)):
            if self.may_begin(buffer, place):
                return place
        return max(at, len(buffer))


class Room(NamedTuple):
    """Where the parts of a frame lie. `size` is that of every frame, 0 where a length field says it: the one at `field`, behind
    which the payload begins at `body`. `behind` bytes come after the payload, `added` are what the length does not count."""

    size: int
    field: int
    body: int
    behind: int
    added: int
    endian: Any

    @property
    def least(self) -> int:
        return self.body + self.behind


class Sized:
    """Frames of one size, or with a length field, between markers and with a checksum at the end."""

    def __init__(self, frame: schema.Frame, checksum: Checksum | None, max_bytes: int) -> None:
        width = _LENGTH_SIZES[frame.length] if frame.type == "length" and frame.length else 0
        self._sync = Pattern(frame.sync)
        self._tail = Pattern(frame.tail)
        self._checksum = checksum
        self.is_proving = checksum is not None or self._tail.size > 0
        self._max_bytes = max_bytes
        field = self._sync.size if frame.offset is None or not width else frame.offset
        behind = self._tail.size + (checksum.size if checksum is not None else 0)
        body = field + width
        added = {"payload": body + behind, "rest": body, "frame": 0}[frame.counts or "payload"] + frame.extra
        size = 0 if width else frame.size or 0
        self._room = Room(size, field, body, behind, added, frame.endian or "little")

    def find(self, buffer: bytes, at: int) -> int:
        return self._sync.find(buffer, at)

    def size_at(self, buffer: bytes, at: int) -> int:
        room = self._room
        if not self._sync.match(buffer, at):
            return 0 if self._sync.may_begin(buffer, at) else -1
        if room.size:
            return room.size
        if len(buffer) - at < room.body:
            return 0
        size = room.added + int.from_bytes(buffer[at + room.field : at + room.body], room.endian)
        return size if room.least <= size <= self._max_bytes else -1

    def follow(self, buffer: bytes, at: int, most: int) -> Sequence[int]:
        size = self.size_at(buffer, at)
        if size <= 0 or at + size > len(buffer):
            return range(at, at + 1)
        count = min(most, (len(buffer) - at) // size)
        if count >= FEW:
            alike = self._alike(buffer, at, size, count)
            if self._room.size or alike >= FEW:
                return range(at, at + alike * size + 1, size)
        return one_by_one(self, buffer, at, most)

    def _alike(self, buffer: bytes, at: int, size: int, count: int) -> int:
        """How many of these frames begin as the first does: with the marker, and of the same length."""
        count = self._sync.begins(buffer, at, size, count)
        for place in () if self._room.size else range(at + self._room.field, at + self._room.body):
            column = buffer[place : place + count * size : size]
            count -= len(column.lstrip(column[:1]))
        return count

    def first_bad(self, buffer: bytes, cuts: Sequence[int]) -> int:
        count, tail = len(cuts) - 1, self._tail.size
        if self._checksum is None and not tail:
            return count
        if isinstance(cuts, range) and count >= FEW:
            good = self._tail.begins(buffer, cuts[1] - tail, cuts.step, count)
            if self._checksum is None:
                return good
            rows = np.frombuffer(buffer, np.uint8, count * cuts.step, cuts[0]).reshape(count, cuts.step)
            is_right = self._checksum.right_rows(rows[:, : cuts.step - tail])
            return good if is_right.all() else min(good, int(is_right.argmin()))
        for i, (start, stop) in enumerate(pairwise(cuts)):
            is_proved = self._checksum is None or self._checksum.is_right(buffer[start : stop - tail])
            if not is_proved or not self._tail.match(buffer, stop - tail):
                return i
        return count

    def payloads(self, buffer: bytes, cuts: Sequence[int]) -> list[bytes]:
        """What is between the markers, without length field and checksum."""
        room, head, kept = self._room, self._sync.size - self._sync.kept, self._tail.kept
        first = head if room.size else room.body
        before = first if room.size else room.field
        if isinstance(cuts, range):
            inner = cuts.step - room.behind - first
            parts = (head, "x"), (before - head, "s"), (first - before, "x"), (inner, "s"), (room.behind - kept, "x"), (kept, "s")
            pieces = iter_unpack("".join([f"{size}{code}" for size, code in parts if size]), buffer[cuts[0] : cuts[-1]])
            return list(map(b"".join, pieces))
        if not kept and before == head:
            return [buffer[start + first : stop - room.behind] for start, stop in pairwise(cuts)]
        return [
            buffer[start + head : start + before] + buffer[start + first : stop - room.behind] + buffer[stop - kept : stop]
            for start, stop in pairwise(cuts)
        ]

    def reason(self, frame: bytes) -> str:
        return "checksum" if self._tail.match(frame, len(frame) - self._tail.size) else "no_frame"

    def why_bad(self, frame: bytes, is_first: bool) -> str:
        if self._checksum is None or self.reason(frame) == "no_frame":
            tail = frame[len(frame) - self._tail.size :]
            return f"expected the end marker {self._tail.text} after {len(frame)} bytes, found {tail.hex(' ')}"
        proved = frame[: len(frame) - self._tail.size]
        fix = self._checksum.fix(proved, (0, self._sync.size, self._room.body)) if is_first else ""
        return self._checksum.wrong(proved) + fix

    def why_none(self, buffer: bytes, at: int) -> tuple[str, str]:
        room = self._room
        if not self._sync.match(buffer, at):
            return "no_frame", f"expected the start marker {self._sync.text}"
        length = int.from_bytes(buffer[at + room.field : at + room.body], room.endian)
        reason = "short" if room.added + length < room.least else "too_large"
        return reason, f"the length field says {length}: frames have {room.least} to {self._max_bytes} bytes (max_bytes)"


def one_by_one(shape: Shape, buffer: bytes, at: int, most: int) -> list[int]:
    """Where frames of any size that follow each other are cut."""
    cuts = [at]
    size = shape.size_at(buffer, at)
    while len(cuts) <= most and size > 0 and at + size <= len(buffer):
        at += size
        cuts.append(at)
        size = shape.size_at(buffer, at)
    return cuts
