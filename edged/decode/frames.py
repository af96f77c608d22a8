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

from typing import NamedTuple, Protocol, cast

from edged.decode.refusals import Refusals
from edged.decode.shapes import Shape
from edged.records import EXCERPT, Reject

_MAX_INSIDE = 64
"""Places inside a frame under way that are looked at when nothing more comes."""
_LONGEST_RUN = 1024
"""Frames that are cut out before their checksums are looked at together."""


class Frames(NamedTuple):
    """What is to be decoded of some frames, and where in the stream each of them began."""

    payloads: list[bytes]
    starts: list[int]


class Framer(Protocol):
    """Bytes as they come to frames that are to be decoded, and a Reject for what is none."""

    @property
    def pending(self) -> int: ...

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]: ...

    def reset(self, is_midway: bool = False) -> None: ...

    def spoil(self) -> None:
        """A byte of the frame under way came damaged: that frame is given up, without a word."""


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
        self._tail = b""
        self._position = 0  # of the first byte of the tail
        self._is_skipping = False
        self._is_midway = False

    @property
    def pending(self) -> int:
        return len(self._tail)

    def reset(self, is_midway: bool = False) -> None:
        """`is_midway`: what comes up to the first terminator is the rest of a line, and may look like a whole one."""
        self._tail = b""
        self._position = 0
        self._is_skipping = self._is_midway = is_midway

    def take(self, start: bytes, size: int) -> bytes:
        """The first `size` bytes of the line under way, taken out of it; none where fewer have come, or it does not begin so."""
        if self._is_skipping or len(self._tail) < size or not self._tail.startswith(start):
            return b""
        taken, self._tail = self._tail[:size], self._tail[size:]
        self._position += size
        return taken

    def spoil(self) -> None:
        """A byte of the line under way came damaged: the line is skipped up to its terminator, without a word."""
        self._position += len(self._tail)
        self._tail = b""
        self._is_skipping = True

    def feed(self, data: bytes) -> tuple[list[Lines], list[Reject]]:
        """The lines that `data` completes, and a Reject for each that was too long."""
        data = self._tail + data
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
                    Reject("partial", "the end of a line that began before the port was opened", blob[:first][:EXCERPT], start)
                )
            blob, start = blob[first:], start + first
            self._is_skipping = self._is_midway = False
        if partial or len(blob) > self._max_bytes or cut < len(data):
            lines, rejects = self._split_large(blob, start)
            return lines, partial + rejects + self._keep(data[cut:])
        self._tail = b""
        return [Lines(blob, start)] if blob else [], []

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
        self._tail = tail
        return rejects

    def _split_large(self, blob: bytes, start: int) -> tuple[list[Lines], list[Reject]]:
        if self._are_short(blob):
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

    def _are_short(self, blob: bytes) -> bool:
        """Whether no line is longer than `max_bytes`: looks only at the last terminator of each so many bytes."""
        most, at = self._max_bytes, 0
        if len(self._end) > 1:
            return len(blob) <= most or max(map(len, blob.split(self._end))) <= most
        while len(blob) - at > most:
            at = blob.rfind(self._end, at, at + most + 1) + 1
            if not at:
                return False
        return True

    def _too_large(self, line: bytes, start: int) -> Reject:
        detail = f"no {self._called} ({self._end!r}) in {self._max_bytes} bytes: wrong baudrate or wrong frame?"
        seen = self._max_bytes + len(self._end) + 1  # has come by now, however it was chopped
        return Reject("too_large", detail, bytes(line[: min(EXCERPT, seen)]), start)


class FrameScanner:
    """Binary frames of one shape. What fails its proof gives its bytes back: the search goes on inside it."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
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
        held = len(self._buffer)
        size = self._shape.size_at(self._buffer, 0)
        self._skip = max(0, size - held - 1)
        self._position += held
        self._buffer = b""

    @property
    def ends_in_silence(self) -> bool:
        """Whether a good frame can be told from what looks like one."""
        return self._shape.is_proving

    def quiet(self) -> tuple[Frames, list[Reject]]:
        """What looks like the beginning of a frame is none if a whole one lies in it: garbage that holds a marker would else hide
        as many bytes as its length field says."""
        buffer, shape = self._buffer, self._shape
        at = shape.find(buffer, 1)
        for _ in range(_MAX_INSIDE):
            if at >= len(buffer):
                break
            size = shape.size_at(buffer, at)
            if 0 < size <= len(buffer) - at and shape.first_bad(buffer, (at, at + size)):
                refusals = Refusals(is_one=True)
                self._bad(0, buffer[:at], refusals)
                self._buffer, self._position = buffer[at:], self._position + at
                frames, rejects = self.feed(b"")
                return frames, [*refusals.records, *rejects]
            at = shape.find(buffer, at + 1)
        return Frames([], []), []

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]:
        """The frames that `data` completes, and a Reject for each bad one and each stretch without one. After an error only one
        frame is looked at, then two, four: what follows an error is not cut up again and again."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            self._position += skipped
            data = data[skipped:]
        shape = self._shape
        self._buffer += data
        payloads: list[bytes | None] = []
        starts: list[int] = []
        refusals = Refusals(is_one=True)
        at = 0
        while True:
            cuts = shape.follow(self._buffer, at, self._run)
            good = shape.first_bad(self._buffer, cuts)
            if good:
                found = shape.payloads(self._buffer, cuts[: good + 1])
                payloads += found
                starts += map(self._position.__add__, cuts[:good])
                self._is_lost, self._has_begun = False, True
            if good < len(cuts) - 1:
                self._bad(cuts[good], self._buffer[cuts[good] : cuts[good + 1]], refusals)
                at = shape.find(self._buffer, cuts[good] + 1)
                self._run = 1
                continue
            self._run = min(self._run * 2, _LONGEST_RUN)
            at = cuts[-1]
            size = shape.size_at(self._buffer, at)
            if size == 0 or at + size > len(self._buffer):
                break
            if size < 0:
                self._none(at, refusals)
                at = shape.find(self._buffer, at + 1)
        self._buffer = self._buffer[at:]
        self._position += at
        return self._meant(payloads, starts, refusals), refusals.records

    def _meant(self, payloads: list[bytes | None], starts: list[int], refusals: Refusals) -> Frames:
        """The frames without those that are of another kind."""
        if all(payloads):
            return Frames(cast("list[bytes]", payloads), starts)
        kept = [(payload, start) for payload, start in zip(payloads, starts, strict=True) if payload is not None]
        if len(kept) < len(starts):
            others = [start for payload, start in zip(payloads, starts, strict=True) if payload is None]
            refusals.add(Reject("other", "", offset=others[0], times=len(others)))
        return Frames([payload for payload, _ in kept], [start for _, start in kept])

    def _bad(self, start: int, frame: bytes, refusals: Refusals) -> None:
        self._is_lost = True
        place = self._position + start
        if place < self._counted_to:
            return
        self._counted_to = place + len(frame)
        reason = self._shape.reason(frame)
        detail = self._shape.why_bad(frame, not self._has_begun) if refusals.says(reason) else ""
        refusals.add(Reject(reason, detail, frame[:EXCERPT], place))

    def _none(self, at: int, refusals: Refusals) -> None:
        if not self._is_lost:
            self._is_lost = True
            reason, detail = self._shape.why_none(self._buffer, at)
            refusals.add(Reject(reason, detail, self._buffer[at : at + 64], self._position + at))
