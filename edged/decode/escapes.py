"""Frames whose delimiter stands nowhere inside them, since it is escaped there: COBS, SLIP, HDLC, DLE.

What is handed on is without escapes, and without its checksum, which lies within them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from operator import not_
from typing import NamedTuple

import numpy as np

from edged.decode.checksums import Checksum
from edged.decode.frames import Frames, LineFramer
from edged.decode.refusals import Refusals
from edged.records import EXCERPT, Reject

DLE_STX = b"\x10\x02"
_NO_SLIP = re.compile(rb"\xdb(?![\xdc\xdd])(.?)", re.DOTALL)
_HDLC = re.compile(rb"\x7d(.)", re.DOTALL)
_MAX_COBS_CODE = 254
_MANY = 64
"""From here on frames are faster together than one by one."""
_DATA = rb"[^\x10]*(?:\x10\x10[^\x10]*)*"
_ALL_DATA = re.compile(_DATA)


class BadEscape(ValueError):
    """What stands between two delimiters cannot have been sent so."""


def of_cobs(coded: bytes) -> bytes:
    """Without COBS: each code byte says where the next zero was.

    Raises:
        BadEscape: when it points beyond the end.
    """
    parts, at = [], 0
    while at < len(coded):
        code = coded[at]
        if at + code > len(coded):
            raise BadEscape(f"COBS: code {code} at {at} points beyond the end of {len(coded)} bytes")
        parts.append(coded[at + 1 : at + code])
        at += code
        if code <= _MAX_COBS_CODE and at < len(coded):
            parts.append(b"\0")
    return b"".join(parts)


def _all_of_cobs(coded: Sequence[bytes]) -> list[bytes]:
    """The same of many frames, all of them from code to code at a time; none of them holds a zero.

    Raises:
        BadEscape: when one of them must be looked at by itself.
    """
    if len(coded) < _MANY:
        return list(map(of_cobs, coded))
    plain = bytearray(b"\0".join([*coded, b""]))
    view = np.frombuffer(plain, np.uint8)
    stops = ends = np.flatnonzero(view == 0)
    starts = at = np.concatenate(([0], ends[:-1] + 1))
    while len(at) >= _MANY:
        codes = view[at]
        view[at] = 0
        at = at + codes
        if codes.max() > _MAX_COBS_CODE or (at > ends).any():
            raise BadEscape
        is_within = at < ends
        at, ends = at[is_within], ends[is_within]
    for place, end in zip(at.tolist(), ends.tolist(), strict=True):
        while place < end:
            code, plain[place] = plain[place], 0
            place += code
            if code > _MAX_COBS_CODE or place > end:
                raise BadEscape
    blob = bytes(plain)
    return [blob[start:stop] for start, stop in zip((starts + 1).tolist(), stops.tolist(), strict=True)]


def of_slip(coded: bytes) -> bytes:
    """Without SLIP's escapes.

    Raises:
        BadEscape: when an escape escapes nothing.
    """
    if found := _NO_SLIP.search(coded):
        raise BadEscape(f"SLIP: escape db {found[1].hex()} at {found.start()}; expected db dc or db dd")
    return coded.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


def of_hdlc(coded: bytes) -> bytes:
    """Without the escapes of HDLC and PPP: 7D, and the byte with its bit 5 turned over.

    Raises:
        BadEscape: when an escape escapes nothing.
    """
    if coded.endswith(b"\x7d"):
        raise BadEscape("HDLC: an escape, 7d, before the end")
    return _HDLC.sub(lambda found: bytes([found[1][0] ^ 0x20]), coded)


def _where(escape: bytes, one: Callable[[bytes], bytes]) -> Callable[[Sequence[bytes]], list[bytes]]:
    """The same of many frames, few of which have an escape."""
    return lambda coded: [one(frame) if escape in frame else frame for frame in coded]


class Code(NamedTuple):
    """How a delimiter is kept out of frames: what `one` of them, and `many`, are without it."""

    end: bytes
    one: Callable[[bytes], bytes]
    many: Callable[[Sequence[bytes]], list[bytes]]


COBS = Code(b"\0", of_cobs, _all_of_cobs)
SLIP = Code(b"\xc0", of_slip, _where(b"\xdb", of_slip))
HDLC = Code(b"~", of_hdlc, _where(b"\x7d", of_hdlc))


class _Proof:
    """Judges frames without escapes by their checksum."""

    def __init__(self, checksum: Checksum | None) -> None:
        self._checksum = checksum

    def take(self, plain: list[bytes], places: list[int], frames: Frames, refusals: Refusals) -> None:
        """Hands on what they hold, and refuses those that are wrong."""
        checksum = self._checksum
        if checksum is not None:
            is_right = checksum.right(plain)
            for frame, place in compress(zip(plain, places, strict=True), map(not_, is_right)):
                detail = checksum.wrong(frame) if refusals.says("checksum") else ""
                refusals.add(Reject("checksum", detail, frame[:EXCERPT], place))
            plain = [frame[: -checksum.size] for frame in compress(plain, is_right)]
            places = list(compress(places, is_right))
        frames.payloads.extend(plain)
        frames.starts.extend(places)


class Delimited:
    """Frames between delimiters of one byte. Of two delimiters side by side one is spare."""

    def __init__(self, code: Code, checksum: Checksum | None, max_bytes: int) -> None:
        self._code = code
        self._proof = _Proof(checksum)
        self._lines = LineFramer(code.end, max_bytes, called="frame end")

    @property
    def pending(self) -> int:
        return self._lines.pending

    def reset(self, is_midway: bool = False) -> None:
        self._lines.reset(is_midway)

    def spoil(self) -> None:
        self._lines.spoil()

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]:
        parts, rejects = self._lines.feed(data)
        frames, refusals = Frames([], []), Refusals(is_one=True)
        for part in parts:
            coded = part.blob.split(self._code.end)[:-1]
            places = list(compress(accumulate(map((1).__add__, map(len, coded)), initial=part.start), coded))
            coded = list(filter(None, coded))
            try:
                plain = self._code.many(coded)
            except BadEscape:
                plain, places = self._each(coded, places, refusals)
            self._proof.take(plain, places, frames, refusals)
        return frames, sorted([*rejects, *refusals.records], key=lambda reject: reject.offset)

    def _each(self, coded: list[bytes], places: list[int], refusals: Refusals) -> tuple[list[bytes], list[int]]:
        """Those that can have been sent so, and where they began; the others are refused."""
        plain, kept = [], []
        for one, place in zip(coded, places, strict=True):
            try:
                plain.append(self._code.one(one))
                kept.append(place)
            except BadEscape as bad:
                refusals.add(Reject("no_frame", str(bad), one[:EXCERPT], place))
        return plain, kept


class Dle:
    """DLE STX ... DLE ETX, in which a DLE is sent twice. With a `sync` of DLE alone any byte but DLE and ETX begins a frame, and
    is part of it (Trimble's TSIP, Garmin)."""

    def __init__(self, sync: bytes, checksum: Checksum | None, max_bytes: int) -> None:
        after = re.escape(sync[1:]) if len(sync) > 1 else rb"(?=[^\x10\x03])"
        # the run of DLEs before it is even: those are data
        self._start = re.compile(rb"(?<!\x10)(?:\x10\x10)*\x10" + after, re.DOTALL)
        frame = rb"\x10" + after + rb"%b\x10\x03"
        self._datas = re.compile(frame % rb"(%b)" % _DATA, re.DOTALL).findall
        self._run = re.compile(rb"(?:%b)*" % (frame % _DATA), re.DOTALL).match
        self._sync_bytes = len(sync)
        self._proof = _Proof(checksum)
        self._max_bytes = max_bytes
        self._buffer = b""
        self._position = 0  # of the first byte of the buffer
        self._is_lost = False

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def reset(self, is_midway: bool = False) -> None:
        """`is_midway` says nothing: where a frame begins is always searched for."""
        self._buffer = b""
        self._position = 0
        self._is_lost = False

    def spoil(self) -> None:
        self._position += len(self._buffer)
        self._buffer = b""
        self._is_lost = True

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]:
        buffer = self._buffer = self._buffer + data
        frames, refusals = Frames([], []), Refusals(is_one=True)
        at = 0
        while (found := self._start.search(buffer, at)) is not None:
            start = found.end()
            if found.start() > at:
                self._none(at, "expected the start of a frame, DLE STX", refusals)
            begin = start - self._sync_bytes
            at = self._run(buffer, begin).end()  # type: ignore[union-attr]  # it may be empty
            if at > begin:
                places = self._position + found.start(), self._position + begin
                self._take(self._datas(buffer, begin, at), *places, frames, refusals)
                continue
            stop = _ALL_DATA.match(buffer, start).end()  # type: ignore[union-attr]  # it may be empty
            if stop + 2 > len(buffer):
                at = found.start()
                if stop - start <= 2 * self._max_bytes:
                    break
                refusals.add(
                    Reject("too_large", f"no DLE ETX in {2 * self._max_bytes} bytes", buffer[at : at + 64], self._position + at)
                )
                self._is_lost, at = True, stop
            else:
                text = f"DLE {buffer[stop + 1]:02x} within a frame"
                self._none(found.start(), text, refusals)
                at = max(start, len(buffer[:stop].rstrip(b"\x10")))
        else:
            kept = len(buffer) - len(buffer.rstrip(b"\x10"))  # may begin a frame with what comes
            if len(buffer) - kept > at:
                self._none(at, "expected the start of a frame, DLE STX", refusals)
            at = len(buffer) - (2 - kept % 2 if kept else 0)
        self._buffer = buffer[at:]
        self._position += at
        return frames, refusals.records

    def _take(self, coded: list[bytes], first: int, begin: int, frames: Frames, refusals: Refusals) -> None:
        """Frames that follow each other. The first is at `first`, its marker at `begin`."""
        self._is_lost = False
        _, *places = accumulate(map((self._sync_bytes + 2).__add__, map(len, coded)), initial=begin)
        places = [first, *places[:-1]]
        plain = [one.replace(b"\x10\x10", b"\x10") for one in coded]
        if max(map(len, plain)) <= self._max_bytes:
            self._proof.take(plain, places, frames, refusals)
            return
        for one, text, place in zip(plain, coded, places, strict=True):
            if len(one) <= self._max_bytes:
                self._proof.take([one], [place], frames, refusals)
                continue
            detail = f"{len(one)} bytes, at most {self._max_bytes} are taken (max_bytes)"
            refusals.add(Reject("too_large", detail, text[:EXCERPT], place))

    def _none(self, at: int, detail: str, refusals: Refusals) -> None:
        if not self._is_lost:
            self._is_lost = True
            refusals.add(Reject("no_frame", detail, self._buffer[at : at + 64], self._position + at))
