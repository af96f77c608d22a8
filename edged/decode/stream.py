"""A stream of bytes to rows: frames, then checksum, then values. What serial ports and recordings speak."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import attrgetter
from typing import Protocol

import numpy as np

from edged.decode.blocks import Blocks
from edged.decode.checksums import LineProof, line_proof
from edged.decode.formats import FORMATS, forget_stream
from edged.decode.formats import Lines as Decoder
from edged.decode.framers import make_framer
from edged.decode.frames import Frames, FrameScanner, LineFramer, Lines
from edged.decode.payload import PayloadDecoder, make_payload_decoder
from edged.decode.plan import DecodePlan
from edged.decode.refusals import Refusals
from edged.decode.shapes import Pattern
from edged.decode.values import Screen, excerpts
from edged.records import EXCERPT, Reject, Rows


class StreamDecoder(Protocol):
    """Bytes as they come to rows. Any chopping of the stream gives the same rows."""

    @property
    def pending(self) -> int:
        """Bytes held because their frame is not complete."""

    def feed(self, data: bytes) -> Rows | None:
        """The rows of the frames that `data` completes; None when there is nothing to tell. Of a Reject, `offset` is the place
        in the stream since the last reset; `payload` says nothing, nor does that of the rows (None)."""

    def quiet(self) -> Rows | None:
        """Nothing came for `gap`, or will ever come: a block that has no end of its own ends, and a frame that was begun may be
        none."""

    @property
    def is_waiting(self) -> bool:
        """Whether a silence would tell more of what is held."""

    def reset(self, is_midway: bool = False) -> None:
        """The port was opened again: what was held is forgotten, and a header may come. `is_midway`: bytes came as it was opened,
        so that the first line is the rest of one, and is refused as `partial`."""

    def spoil(self) -> None:
        """A byte came damaged, after what was fed: the frame that it belongs to is given up. Who knows that counts it."""


def make_stream_decoder(plan: DecodePlan, payloads: PayloadDecoder | None = None) -> StreamDecoder:
    """The decoder of one source's bytes. `plan.frame` None is lines. `payloads`: who decodes the frames instead of the plan's
    format, where they are those of several sources."""
    if plan.frame is None or plan.frame.type == "line":
        lines = FORMATS[plan.format].lines
        if lines is not None and payloads is None and plan.payload is None and plan.encoding is None:
            return _WholeReads(plan, lines.get()(plan))
        return _PayloadLines(plan, payloads)
    return _Frames(plan, payloads)


class _Lines(ABC):
    """Lines of text, those of one read decoded together."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._end = b"\n" if plan.frame is None or plan.frame.end is None else plan.frame.end
        self._framer = LineFramer(self._end, plan.max_bytes)
        self._sync = Pattern(None if plan.frame is None else plan.frame.sync)
        self._proof = line_proof(plan.checksum)
        self._is_judged = self._proof is not None or self._sync.size > 0

    @property
    def pending(self) -> int:
        return self._framer.pending

    def feed(self, data: bytes) -> Rows | None:
        parts, rejects = self._framer.feed(data)
        if len(parts) == 1 and not rejects:
            rows = self._decode(parts[0])
            return rows if len(rows.values) or rows.rejects else None
        return _merged([self._decode(part) for part in parts], rejects, self._plan)

    def quiet(self) -> Rows | None:
        return None

    @property
    def is_waiting(self) -> bool:
        return False

    def reset(self, is_midway: bool = False) -> None:
        self._framer.reset(is_midway)

    def spoil(self) -> None:
        self._framer.spoil()

    def _judged(self, lines: Sequence[bytes]) -> tuple[list[bytes], list[int], list[Reject]]:
        """What the lines with the start marker and the right checksum hold, which lines those are, and the others."""
        kept, refusals = list(range(len(lines))), Refusals(is_one=True)
        if self._sync.size:
            lines, kept = _from_marker(lines, self._sync, refusals)
        if self._proof is not None:
            lines, kept = _proved(lines, kept, self._proof, refusals)
        return list(lines), kept, refusals.records

    @abstractmethod
    def _decode(self, lines: Lines) -> Rows:
        """The rows of some whole lines."""


class _WholeReads(_Lines):
    """Lines of a format that decodes those of one read as one blob."""

    def __init__(self, plan: DecodePlan, decoder: Decoder) -> None:
        super().__init__(plan)
        self._decoder = decoder
        self._screen = Screen(plan)
        # a line feed stands in no cell; what is ended by CR has no line feed at all
        self._breaks = self._end != b"\n" and (plan.format != "text" or b"\r" in self._end)

    def reset(self, is_midway: bool = False) -> None:
        super().reset(is_midway)
        self._decoder.reset()

    def _decode(self, lines: Lines) -> Rows:
        blob = lines.blob
        rejects: list[Reject] = []
        if self._breaks and blob.count(b"\n") != blob.count(self._end) * self._end.count(b"\n"):
            blob, rejects = _last_lines(blob, self._end)
        if b"\r" in blob or self._end != b"\n":
            blob = _normal(blob, self._end)
        kept: list[int] | None = None
        if self._is_judged:
            good, kept, judged = self._judged(blob[:-1].split(b"\n"))
            rejects = [*rejects, *judged]
            blob = b"".join([line + b"\n" for line in good])
        refusals = Refusals(is_one=True)
        rows = self._screen.rows(self._decoder.decode_lines(blob, refusals), refusals)
        found = refusals.records
        if found or rejects:
            if kept is not None:
                found = [reject._replace(payload=kept[reject.payload]) for reject in found]
            pieces = lines.blob.split(self._end)[:-1]
            found = sorted([*rejects, *found], key=attrgetter("payload"))
            rows.rejects = excerpts(found, pieces, _starts(lines, pieces, self._end))
        rows.payload = None
        return rows


class _PayloadLines(_Lines):
    """Lines of any other format: each is a payload."""

    def __init__(self, plan: DecodePlan, payloads: PayloadDecoder | None = None) -> None:
        super().__init__(plan)
        self._decoder = payloads or make_payload_decoder(plan, is_one=True)

    def reset(self, is_midway: bool = False) -> None:
        super().reset(is_midway)
        forget_stream(self._decoder)

    def _decode(self, lines: Lines) -> Rows:
        pieces = lines.blob.split(self._end)[:-1]
        payloads = [piece.removesuffix(b"\r").removeprefix(b"\r") for piece in pieces]
        kept: list[int] = list(range(len(pieces)))
        rejects: list[Reject] = []
        if self._is_judged:
            payloads, kept, rejects = self._judged(payloads)
        rows = self._decoder.decode(payloads)
        found = [reject._replace(payload=kept[reject.payload], data=b"") for reject in rows.rejects]
        rows.rejects = excerpts([*rejects, *found], pieces, _starts(lines, pieces, self._end) if rejects or found else None)
        return rows.detached()


class _Frames:
    """Frames of any other type: each is a payload."""

    def __init__(self, plan: DecodePlan, payloads: PayloadDecoder | None = None) -> None:
        self._plan = plan
        framer = self._framer = make_framer(plan)
        self._listens = framer if isinstance(framer, Blocks | FrameScanner) and framer.ends_in_silence else None
        self._decoder = payloads or make_payload_decoder(plan, is_one=True)

    @property
    def pending(self) -> int:
        return self._framer.pending

    def feed(self, data: bytes) -> Rows | None:
        return self._decode(*self._framer.feed(data))

    def quiet(self) -> Rows | None:
        return self._decode(*self._listens.quiet()) if self._listens is not None else None

    @property
    def is_waiting(self) -> bool:
        return self._listens is not None and (self._listens.pending > 0 or isinstance(self._listens, Blocks))

    def _decode(self, frames: Frames, rejects: list[Reject]) -> Rows | None:
        rows = self._decoder.decode(frames.payloads)
        if rows.rejects:
            rows.rejects = [reject._replace(offset=frames.starts[reject.payload]) for reject in rows.rejects]
        return _merged([rows.detached()], rejects, self._plan)

    def reset(self, is_midway: bool = False) -> None:
        self._framer.reset(is_midway)
        forget_stream(self._decoder)

    def spoil(self) -> None:
        self._framer.spoil()


def _normal(blob: bytes, end: bytes) -> bytes:
    """The lines ended by a line feed alone. One that a line holds within itself becomes a NUL, which no number has."""
    if end != b"\n":
        if blob.count(b"\n") == blob.count(end) * end.count(b"\n"):
            blob = blob.replace(end, b"\n")
        else:
            blob = b"\n".join(line.replace(b"\n", b"\0") for line in blob.split(end))
    return blob.replace(b"\r\n", b"\n").replace(b"\n\r", b"\n").removeprefix(b"\r") if b"\r" in blob else blob


def _last_lines(blob: bytes, end: bytes) -> tuple[bytes, list[Reject]]:
    """The same lines without what stands before a line feed within them: garbage, or a line that was ended in another way."""
    lines, refusals = [], Refusals(is_one=True)
    for index, piece in enumerate(blob.split(end)[:-1]):
        before, feed, line = piece.strip(b"\r\n").rpartition(b"\n")
        if feed and before.strip():
            refusals.add(Reject("no_frame", "bytes before a line feed within the line", payload=index))
        lines.append(line)
    return end.join([*lines, b""]), refusals.records


def _from_marker(lines: Sequence[bytes], sync: Pattern, refusals: Refusals) -> tuple[list[bytes], list[int]]:
    """The lines from their start marker on, and which lines those are. What stands before the last marker of a line that does not
    begin with one is the rest of another line, and is refused, as is a line without one."""
    found, kept = [], []
    for index, line in enumerate(lines):
        at = 0
        if not sync.match(line):
            at = sync.find_last(line)
            if at:
                detail = f"a line without the start marker {sync.text}"
                refusals.add(
                    Reject("no_frame", detail if at < 0 else f"bytes before the start marker {sync.text}", payload=index)
                )
        if at >= 0:
            found.append(line[at + sync.size - sync.kept :])
            kept.append(index)
    return found, kept


def _proved(lines: Sequence[bytes], which: Sequence[int], proof: LineProof, refusals: Refusals) -> tuple[list[bytes], list[int]]:
    """What the lines whose checksum is right hold, and which of them those are."""
    bodies, kept = [], []
    for line, index, body in zip(lines, which, proof.bodies(lines), strict=True):
        if body is not None:
            bodies.append(body)
            kept.append(index)
            if proof.around is not None and (before := len(line) - len(body) - proof.around) > 0:
                refusals.add(Reject("no_frame", "bytes before the start of a sentence", line[:before][:EXCERPT], payload=index))
        elif not proof.silent or line.strip(proof.silent):
            refusals.add(Reject("checksum", f"expected {proof.wanted}", payload=index))
    return bodies, kept


def _starts(lines: Lines, pieces: Sequence[bytes], end: bytes) -> list[int]:
    starts, at = [], lines.start
    for piece in pieces:
        starts.append(at)
        at += len(piece) + len(end)
    return starts


def _merged(parts: list[Rows], rejects: Sequence[Reject], plan: DecodePlan) -> Rows | None:
    """Several parts of one read as one; usually there is one."""
    parts = [part for part in parts if len(part.values) or part.rejects]
    if not parts:
        return Rows(np.empty((0, plan.width), plan.dtype), rejects=rejects) if rejects else None
    first = parts[0]
    if rejects:
        first.rejects = sorted([*rejects, *first.rejects], key=lambda reject: reject.offset)
    if len(parts) == 1:
        return first
    degraded = any(part.degraded is not None for part in parts)
    return Rows(
        np.concatenate([part.values for part in parts]),
        None if first.time is None else np.concatenate([part.time for part in parts if part.time is not None]),
        None if first.keys is None else [key for part in parts for key in part.keys or ()],
        None,
        np.concatenate([np.zeros(len(part.values), np.bool_) if part.degraded is None else part.degraded for part in parts])
        if degraded
        else None,
        [reject for part in parts for reject in part.rejects],
        None if first.carried is None else [text for part in parts for text in part.carried or ()],
    )
