"""A stream of bytes to frames: lines, and binary frames that are found by size or by a length field.

Theory of operation. Every decision depends on the place in the stream and the bytes there, never on how they arrived, so
any chopping gives the same frames and the same rejects. What is held is one unfinished frame, at most `max_bytes`.

Lines: what lies between two terminators. One that grows beyond `max_bytes` is refused at once and skipped up to its
terminator.

Binary frames: at each place there is a frame (marker and length field make sense, the checksum fits) or there is none.
If none, the next place to look is the next start marker *inside* what was taken for a frame, since a damaged length may
have swallowed good ones. A bad frame is one reject, however many false starts are found in it; bytes between frames are
one `no_frame` until the next good frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from edged.decode.checksums import Checksum
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

    def __init__(self, end: bytes, max_bytes: int) -> None:
        self._end = end
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
        detail = f"no line end ({self._end!r}) in {self._max_bytes} bytes: wrong baudrate or wrong frame?"
        return Reject("too_large", detail, bytes(line[:64]), start)


class Frame(NamedTuple):
    """What is to be decoded of one binary frame, and where the frame began."""

    payload: bytes
    start: int


class FrameScanner:
    """Binary frames of a fixed size or with a length field."""

    def __init__(self, frame: schema.Frame, checksum: Checksum, max_bytes: int) -> None:
        width = _LENGTH_SIZES[frame.length] if frame.type == "length" and frame.length else 0
        self._sync = bytes(frame.sync or b"")
        self._checksum = checksum
        self._max_bytes = max_bytes
        self._size = 0 if width else frame.size or 0
        self._field = len(self._sync) if frame.offset is None or not width else frame.offset
        self._body = self._field + width  # where the payload behind a length field begins
        self._endian: Any = frame.endian or "little"
        self._added = {"payload": self._body + checksum.size, "rest": self._body, "frame": 0}[frame.counts or "payload"]
        self._least = self._body + checksum.size
        self._buffer = b""
        self._position = 0  # of the first byte of the buffer
        self._is_lost = False
        self._has_begun = False  # a frame was good since the last reset: the settings are right
        self._counted_to = 0
        self._run = _LONGEST_RUN

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def reset(self, is_midway: bool = False) -> None:
        """`is_midway` says nothing: where a frame begins is always searched for."""
        self._buffer = b""
        self._position = self._counted_to = 0
        self._is_lost = self._has_begun = False
        self._run = _LONGEST_RUN

    def feed(self, data: bytes) -> tuple[list[Frame], list[Reject]]:
        """The frames that `data` completes, and a Reject for each bad one and each stretch without one."""
        self._buffer += data
        frames: list[Frame] = []
        refusals = Refusals(is_one=True)
        at = 0
        while True:
            spans = self._follow(at)
            good = self._checksum.first_bad([self._buffer[start:stop] for start, stop in spans])
            frames += [self._cut(start, stop) for start, stop in spans[:good]]
            if good:
                self._is_lost, self._has_begun = False, True
            if good < len(spans):
                start, stop = spans[good]
                self._bad(start, stop, refusals)
                at = self._search(start + 1)
                self._run = 1
                continue
            self._run = min(self._run * 2, _LONGEST_RUN)
            at = spans[-1][1] if spans else at
            size = self._size_at(at)
            if size == 0 or at + size > len(self._buffer):
                break
            if size < 0:
                for reject in self._garbage(at):
                    refusals.add(reject)
                at = self._search(at + 1)
        self._buffer = self._buffer[at:]
        self._position += at
        return frames, refusals.records

    def _follow(self, at: int) -> list[tuple[int, int]]:
        """Frames that follow each other from `at` on, if their checksums are right. After an error only one, then two, four:
        what follows an error is not cut up again and again."""
        spans: list[tuple[int, int]] = []
        while len(spans) < self._run:
            size = self._size_at(at)
            if size <= 0 or at + size > len(self._buffer):
                break
            spans.append((at, at + size))
            at += size
        return spans

    def _size_at(self, at: int) -> int:
        """Bytes of the frame that begins at `at`; 0: more bytes are needed to know; -1: none begins there."""
        buffer, sync = self._buffer, self._sync
        if not buffer.startswith(sync, at):
            return 0 if sync.startswith(buffer[at : at + len(sync)]) else -1
        if self._size:
            return self._size
        if len(buffer) - at < self._body:
            return 0
        size = self._added + int.from_bytes(buffer[at + self._field : at + self._body], self._endian)
        return size if self._least <= size <= self._max_bytes else -1

    def _search(self, at: int) -> int:
        """The next place, from `at` on, where a frame or the beginning of a start marker is."""
        sync = self._sync
        if not sync:
            return at
        found = self._buffer.find(sync, at)
        if found >= 0:
            return found
        for held in range(len(sync) - 1, 0, -1):
            if len(self._buffer) - held >= at and self._buffer.endswith(sync[:held]):
                return len(self._buffer) - held
        return max(at, len(self._buffer))

    def _cut(self, start: int, stop: int) -> Frame:
        """The frame without marker, length field and checksum."""
        head = start + len(self._sync)
        payload = self._buffer[start + self._body : stop - self._checksum.size]
        if self._size:
            payload = self._buffer[head : stop - self._checksum.size]
        elif self._field > len(self._sync):
            payload = self._buffer[head : start + self._field] + payload
        return Frame(payload, self._position + start)

    def _bad(self, start: int, stop: int, refusals: Refusals) -> None:
        self._is_lost = True
        if self._position + start < self._counted_to:
            return
        self._counted_to = self._position + stop
        frame = self._buffer[start:stop]
        if not refusals.says("checksum"):
            return refusals.add(Reject("checksum", ""))
        carried, wanted = self._checksum.carried(frame), self._checksum.of(frame)
        digits = 2 * self._checksum.size
        detail = f"{self._checksum.name} is 0x{wanted:0{digits}x}, the frame says 0x{carried:0{digits}x}"
        if not self._has_begun:
            detail += self._checksum.cure(frame, (0, len(self._sync), self._body))
        refusals.add(Reject("checksum", detail, frame[:64], self._position + start))

    def _garbage(self, at: int) -> list[Reject]:
        if self._is_lost:
            return []
        self._is_lost = True
        shown = self._buffer[at : at + 64]
        if not shown.startswith(self._sync):
            return [Reject("no_frame", f"expected the start marker {self._sync.hex(' ')}", shown, self._position + at)]
        length = int.from_bytes(self._buffer[at + self._field : at + self._body], self._endian)
        kind = "short" if self._added + length < self._least else "too_large"
        detail = f"the length field says {length}: frames have {self._least} to {self._max_bytes} bytes (max_bytes)"
        return [Reject(kind, detail, shown, self._position + at)]
