"""A stream of bytes to frames: lines, and binary frames that are found by size or by a length field.

Theory of operation. Every decision depends on the place in the stream and the bytes there, never on how they arrived, so
any chopping gives the same frames and the same rejects. What is held is one unfinished frame, at most `max_bytes`.

Lines: what lies between two terminators. One that grows beyond `max_bytes` is refused at once and skipped up to its
terminator.

Binary frames: at each place there is a frame (marker and length field make sense, the checksum fits) or there is none.
If none, the next place to look is the next start marker *inside* what was taken for a frame, since a damaged length may
have swallowed good ones. A bad frame is one reject, however many false starts are found in it; bytes between frames are
one `no_frame` until the next good frame.

A marker (`sync`, `tail`) whose bits are all fixed is not handed on. One with open bits is data too: it stays in front, or at
the end, of what is handed on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.config.markers import OpenMarker
from edged.decode.checksums import FEW, Checksum
from edged.decode.refusals import Refusals
from edged.records import Reject

if TYPE_CHECKING:
    from edged.config import schema

_LONGEST_RUN = 1024
"""Frames that are cut out before their checksums are looked at together."""

_LENGTH_SIZES = {"uint8": 1, "uint16": 2, "uint32": 4}


class Lines(NamedTuple):
    """Complete lines that lie together in the stream from `start` on, each with its terminator."""

    blob: bytes
    start: int


class LineFramer:
    """Lines ended by `end`. `max_bytes` is that of a line without its terminator and the CR before it."""

    def __init__(self, end: bytes, max_bytes: int, called: str = "line end") -> None:
        """`called`: what the terminator is to a person."""
        self._end = end
        self._called = called
        self._max_bytes = max_bytes
        self._tail = bytearray()
        self._position = 0  # of the first byte of the tail
        self._is_skipping = False
        self._is_midway = False

    @property
    def pending(self) -> int:
        return len(self._tail)

    def reset(self, is_midway: bool = False) -> None:
        """`is_midway`: what comes up to the first terminator is the rest of a line, and may look like a whole one."""
        self._tail.clear()
        self._position = 0
        self._is_skipping = self._is_midway = is_midway

    def spoil(self) -> None:
        """A byte of the line under way came damaged: the line is skipped up to its terminator, without a word."""
        self._position += len(self._tail)
        self._tail.clear()
        self._is_skipping = True

    def feed(self, data: bytes) -> tuple[list[Lines], list[Reject]]:
        """The lines that `data` completes, and a Reject for each that was too long."""
        if self._tail:
            self._tail += data
            data = bytes(self._tail)
        # split, since in ";;;" the terminator ";;" is the first two
        cut = data.rfind(self._end) + 1 if len(self._end) == 1 else len(data) - len(data.split(self._end)[-1])
        if not cut:
            return [], self._keep(data)
        start = self._position
        blob = data[:cut]
        self._position += cut
        partial: list[Reject] = []
        if self._is_skipping:
            first = blob.find(self._end) + len(self._end)
            if self._is_midway:
                partial.append(
                    Reject("partial", "the end of a line that began before the port was opened", blob[:first][:64], start)
                )
            blob, start = blob[first:], start + first
            self._is_skipping = self._is_midway = False
        lines, rejects = self._split_large(blob, start)
        return lines, partial + rejects + self._keep(data[cut:])

    def _keep(self, tail: bytes) -> list[Reject]:
        """Hold what may become a line. With a CR and part of a terminator it may be a little longer than one."""
        rejects = []
        if self._is_skipping or len(tail) > self._max_bytes + len(self._end):
            if not self._is_skipping:
                rejects.append(self._too_large(tail, self._position))
            self._is_skipping = True
            kept = len(self._end) - 1
            self._position += max(0, len(tail) - kept)
            tail = tail[len(tail) - kept :] if kept else b""
        self._tail[:] = tail
        return rejects

    def _split_large(self, blob: bytes, start: int) -> tuple[list[Lines], list[Reject]]:
        if len(blob) <= self._max_bytes or max(map(len, blob.split(self._end))) <= self._max_bytes:
            return ([Lines(blob, start)] if blob else []), []
        lines, refusals = [], Refusals(is_one=True)
        begin = at = 0
        for line in blob.split(self._end)[:-1]:
            after = at + len(line) + len(self._end)
            if len(line.removesuffix(b"\r")) > self._max_bytes:
                if at > begin:
                    lines.append(Lines(blob[begin:at], start + begin))
                refusals.add(self._too_large(line, start + at))
                begin = after
            at = after
        if at > begin:
            lines.append(Lines(blob[begin:at], start + begin))
        return lines, refusals.records

    def _too_large(self, line: bytes, start: int) -> Reject:
        detail = f"no {self._called} ({self._end!r}) in {self._max_bytes} bytes: wrong baudrate or wrong frame?"
        return Reject("too_large", detail, bytes(line[:64]), start)


_MASK = str.maketrans("01.", "110")
_VALUE = str.maketrans(".", "0")


class Frames(NamedTuple):
    """What is to be decoded of some binary frames, and where in the stream each of them began."""

    payloads: list[bytes]
    starts: list[int]


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
        bits = marker.bits if isinstance(marker, OpenMarker) else [f"{byte:08b}" for byte in marker or b""]
        self._mask, self._value = (np.array([int(one.translate(to), 2) for one in bits], np.uint8) for to in (_MASK, _VALUE))
        whole = [re.compile(b"".join(parts[:n]), re.DOTALL) for n in range(self.size + 1)]
        self.match, self._search, self._all = whole[-1].match, whole[-1].search, whole[-1].finditer
        self._beginnings = whole

    def begins(self, rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which rows are it; they have as many columns as it has bytes."""
        return np.asarray(((rows & self._mask) == self._value).all(axis=1))

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


class FrameScanner:
    """Binary frames of a fixed size or with a length field."""

    def __init__(self, frame: schema.Frame, checksum: Checksum | None, max_bytes: int) -> None:
        width = _LENGTH_SIZES[frame.length] if frame.type == "length" and frame.length else 0
        self._sync = Pattern(frame.sync)
        self._tail = Pattern(frame.tail)
        self._checksum = checksum
        self._max_bytes = max_bytes
        self._size = 0 if width else frame.size or 0
        self._field = self._sync.size if frame.offset is None or not width else frame.offset
        self._body = self._field + width  # where the payload behind a length field begins
        self._endian: Any = frame.endian or "little"
        behind = self._tail.size + (checksum.size if checksum is not None else 0)
        self._behind = behind
        self._added = {"payload": self._body + behind, "rest": self._body, "frame": 0}[frame.counts or "payload"] + frame.extra
        self._least = self._body + behind
        self._buffer = b""
        self._position = 0  # of the first byte of the buffer
        self._is_lost = False
        self._has_begun = False  # a frame was good since the last reset: the settings are right
        self._counted_to = 0
        self._run = _LONGEST_RUN
        self._skip = 0  # bytes to come of a frame that is not looked at

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def reset(self, is_midway: bool = False) -> None:
        """`is_midway` says nothing: where a frame begins is always searched for."""
        self._buffer = b""
        self._position = self._counted_to = 0
        self._is_lost = self._has_begun = False
        self._run = _LONGEST_RUN
        self._skip = 0

    def spoil(self) -> None:
        """A byte of the frame under way came damaged: the frame is skipped, without a word."""
        held = len(self._buffer)
        size = self._size_at(0) if held or not self._sync.size else 0
        self._skip = max(0, size - held - 1)
        self._position += held
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]:
        """The frames that `data` completes, and a Reject for each bad one and each stretch without one."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            self._position += skipped
            data = data[skipped:]
        self._buffer += data
        payloads: list[bytes] = []
        starts: list[int] = []
        refusals = Refusals(is_one=True)
        at = 0
        while True:
            cuts = self._follow(at)
            good = self._first_bad(cuts)
            if good:
                payloads += self._payloads(cuts[: good + 1])
                starts += [self._position + start for start in cuts[:good]]
                self._is_lost, self._has_begun = False, True
            if good < len(cuts) - 1:
                self._bad(cuts[good], self._buffer[cuts[good] : cuts[good + 1]], refusals)
                at = self._sync.find(self._buffer, cuts[good] + 1)
                self._run = 1
                continue
            self._run = min(self._run * 2, _LONGEST_RUN)
            at = cuts[-1]
            size = self._size_at(at)
            if size == 0 or at + size > len(self._buffer):
                break
            if size < 0:
                for reject in self._garbage(at):
                    refusals.add(reject)
                at = self._sync.find(self._buffer, at + 1)
        self._buffer = self._buffer[at:]
        self._position += at
        return Frames(payloads, starts), refusals.records

    def _follow(self, at: int) -> Sequence[int]:
        """Where frames that follow each other from `at` on are cut, if they are proved: one more place than frames; a range where
        they are of one size. After an error only one frame, then two, four: what follows an error is not cut up again and
        again."""
        size = self._size_at(at)
        if size <= 0 or at + size > len(self._buffer):
            return range(at, at + 1)
        count = min(self._run, (len(self._buffer) - at) // size)
        if count >= FEW:
            alike = self._alike(at, size, count)
            if self._size or alike >= FEW:
                return range(at, at + alike * size + 1, size)
        cuts = [at]
        while len(cuts) <= self._run and size > 0 and at + size <= len(self._buffer):
            at += size
            cuts.append(at)
            size = self._size_at(at)
        return cuts

    def _rows(self, cuts: range) -> NDArray[np.uint8]:
        """Frames of one size as the rows of a matrix."""
        return np.frombuffer(self._buffer, np.uint8, cuts[-1] - cuts[0], cuts[0]).reshape(-1, cuts.step)

    def _alike(self, at: int, size: int, count: int) -> int:
        """How many of these frames begin as the first does: with the marker, and of the same length."""
        rows = self._rows(range(at, at + count * size + 1, size))
        is_alike = self._sync.begins(rows[:, : self._sync.size])
        if not self._size:
            is_alike &= (rows[:, self._field : self._body] == rows[0, self._field : self._body]).all(axis=1)
        return count if is_alike.all() else int(is_alike.argmin())

    def _size_at(self, at: int) -> int:
        """Bytes of the frame that begins at `at`; 0: more bytes are needed to know; -1: none begins there."""
        buffer = self._buffer
        if not self._sync.match(buffer, at):
            return 0 if self._sync.may_begin(buffer, at) else -1
        if self._size:
            return self._size
        if len(buffer) - at < self._body:
            return 0
        size = self._added + int.from_bytes(buffer[at + self._field : at + self._body], self._endian)
        return size if self._least <= size <= self._max_bytes else -1

    def _first_bad(self, cuts: Sequence[int]) -> int:
        """Index of the first frame that is not proved, or how many there are."""
        count, tail = len(cuts) - 1, self._tail.size
        if self._checksum is None and not tail:
            return count
        if isinstance(cuts, range) and count >= FEW:
            rows = self._rows(cuts)
            is_good = self._tail.begins(rows[:, cuts.step - tail :])
            if self._checksum is not None:
                is_good &= self._checksum.right_rows(rows[:, : cuts.step - tail])
            return count if is_good.all() else int(is_good.argmin())
        for i, (start, stop) in enumerate(pairwise(cuts)):
            is_proved = self._checksum is None or self._checksum.is_right(self._buffer[start : stop - tail])
            if not is_proved or not self._tail.match(self._buffer, stop - tail):
                return i
        return count

    def _payloads(self, cuts: Sequence[int]) -> list[bytes]:
        """What is to be decoded of good frames: what is between the markers, without length field and checksum."""
        head, behind = self._sync.size - self._sync.kept, self._behind
        first, kept = (head if self._size else self._body), self._tail.kept
        if isinstance(cuts, range) and len(cuts) > FEW:
            size = cuts.step
            columns = np.r_[head : first if self._size else self._field, first : size - behind, size - kept : size]
            blob = self._rows(cuts)[:, columns].tobytes()
            return (
                [blob[i : i + len(columns)] for i in range(0, len(blob), len(columns))]
                if len(columns)
                else [b""] * (len(cuts) - 1)
            )
        buffer = self._buffer
        if not kept and (self._size or self._field == head):
            return [buffer[start + first : stop - behind] for start, stop in pairwise(cuts)]
        before = first if self._size else self._field
        return [
            buffer[start + head : start + before] + buffer[start + first : stop - behind] + buffer[stop - kept : stop]
            for start, stop in pairwise(cuts)
        ]

    def _bad(self, start: int, frame: bytes, refusals: Refusals) -> None:
        self._is_lost = True
        if self._position + start < self._counted_to:
            return
        self._counted_to = self._position + start + len(frame)
        tail = frame[len(frame) - self._tail.size :]
        reason = "checksum" if self._tail.match(tail) else "no_frame"
        if not refusals.says(reason):
            return refusals.add(Reject(reason, ""))
        if self._checksum is None or reason == "no_frame":
            detail = f"expected the end marker {self._tail.text} after {len(frame)} bytes, found {tail.hex(' ')}"
        else:
            proved = frame[: len(frame) - self._tail.size]
            detail = self._checksum.wrong(proved)
            if not self._has_begun:
                detail += self._checksum.cure(proved, (0, self._sync.size, self._body))
        refusals.add(Reject(reason, detail, frame[:64], self._position + start))

    def _garbage(self, at: int) -> list[Reject]:
        if self._is_lost:
            return []
        self._is_lost = True
        excerpt = self._buffer[at : at + 64]
        if not self._sync.match(excerpt):
            return [Reject("no_frame", f"expected the start marker {self._sync.text}", excerpt, self._position + at)]
        length = int.from_bytes(self._buffer[at + self._field : at + self._body], self._endian)
        kind = "short" if self._added + length < self._least else "too_large"
        detail = f"the length field says {length}: frames have {self._least} to {self._max_bytes} bytes (max_bytes)"
        return [Reject(kind, detail, excerpt, self._position + at)]
