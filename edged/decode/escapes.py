"""Frames whose delimiter stands nowhere inside them, since it is escaped there: COBS, SLIP, HDLC, DLE.

What is handed on is without escapes, and without its checksum, which lies within them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from edged.decode.checksums import Checksum
from edged.decode.frames import Frames, LineFramer
from edged.decode.refusals import Refusals
from edged.records import EXCERPT, Reject

DLE_STX = b"\x10\x02"
_ETX = 0x03
_SLIP = re.compile(rb"\xdb(.?)", re.DOTALL)
_SLIP_ESCAPES = {b"\xdc": b"\xc0", b"\xdd": b"\xdb"}
_HDLC = re.compile(rb"\x7d(.)", re.DOTALL)
_COBS_MOST = 254
_DATA = re.compile(rb"(?:[^\x10]|\x10\x10)*", re.DOTALL)


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
        if code <= _COBS_MOST and at < len(coded):
            parts.append(b"\0")
    return b"".join(parts)


def of_slip(coded: bytes) -> bytes:
    """Without SLIP's escapes.

    Raises:
        BadEscape: when an escape escapes nothing.
    """
    if b"\xdb" not in coded:
        return coded
    for found in _SLIP.finditer(coded):
        if found[1] not in _SLIP_ESCAPES:
            raise BadEscape(f"SLIP: escape db {found[1].hex()} at {found.start()}; expected db dc or db dd")
    return _SLIP.sub(lambda found: _SLIP_ESCAPES[found[1]], coded)


def of_hdlc(coded: bytes) -> bytes:
    """Without the escapes of HDLC and PPP: 7D, and the byte with its bit 5 turned over.

    Raises:
        BadEscape: when an escape escapes nothing.
    """
    if b"\x7d" not in coded:
        return coded
    if coded.endswith(b"\x7d"):
        raise BadEscape("HDLC: an escape, 7d, before the end")
    return _HDLC.sub(lambda found: bytes([found[1][0] ^ 0x20]), coded)


class _Proof:
    """Judges frames without escapes by their checksum."""

    def __init__(self, checksum: Checksum | None) -> None:
        self._checksum = checksum

    def body(self, frame: bytes, place: int, refusals: Refusals) -> bytes | None:
        """What it holds, or None after refusing it."""
        checksum = self._checksum
        if checksum is None:
            return frame
        if checksum.is_right(frame):
            return frame[: len(frame) - checksum.size]
        detail = checksum.wrong(frame) if refusals.says("checksum") else ""
        refusals.add(Reject("checksum", detail, frame[:EXCERPT], place))
        return None


class Delimited:
    """Frames between delimiters of one byte. Of two delimiters side by side one is spare."""

    def __init__(self, end: bytes, plain: Callable[[bytes], bytes], checksum: Checksum | None, max_bytes: int) -> None:
        self._end = end
        self._plain = plain
        self._proof = _Proof(checksum)
        self._lines = LineFramer(end, max_bytes, called="frame end")

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
            place = part.start
            for coded in part.blob.split(self._end)[:-1]:
                if coded:
                    self._take(coded, place, frames, refusals)
                place += len(coded) + 1
        return frames, sorted([*rejects, *refusals.records], key=lambda reject: reject.offset)

    def _take(self, coded: bytes, place: int, frames: Frames, refusals: Refusals) -> None:
        try:
            body = self._proof.body(self._plain(coded), place, refusals)
        except BadEscape as bad:
            refusals.add(Reject("no_frame", str(bad), coded[:EXCERPT], place))
            return
        if body is not None:
            frames.payloads.append(body)
            frames.starts.append(place)


class Dle:
    """DLE STX ... DLE ETX, in which a DLE is sent twice. With a `sync` of DLE alone any byte but DLE and ETX begins a frame, and
    is part of it (Trimble's TSIP, Garmin)."""

    def __init__(self, sync: bytes, checksum: Checksum | None, max_bytes: int) -> None:
        after = re.escape(sync[1:]) if len(sync) > 1 else rb"(?=[^\x10\x03])"
        # the run of DLEs before it is even: those are data
        self._start = re.compile(rb"(?<!\x10)(?:\x10\x10)*\x10" + after, re.DOTALL)
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
            stop = _DATA.match(buffer, start).end()  # type: ignore[union-attr]  # it may be empty
            if stop + 2 > len(buffer):
                at = found.start()
                if stop - start <= 2 * self._max_bytes:
                    break
                refusals.add(
                    Reject("too_large", f"no DLE ETX in {2 * self._max_bytes} bytes", buffer[at : at + 64], self._position + at)
                )
                self._is_lost, at = True, stop
            elif buffer[stop + 1] == _ETX:
                self._take(buffer[start:stop], self._position + found.start(), frames, refusals)
                at = stop + 2
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

    def _take(self, coded: bytes, place: int, frames: Frames, refusals: Refusals) -> None:
        self._is_lost = False
        plain = coded.replace(b"\x10\x10", b"\x10")
        if len(plain) > self._max_bytes:
            refusals.add(
                Reject(
                    "too_large", f"{len(plain)} bytes, at most {self._max_bytes} are taken (max_bytes)", coded[:EXCERPT], place
                )
            )
            return
        body = self._proof.body(plain, place, refusals)
        if body is not None:
            frames.payloads.append(body)
            frames.starts.append(place)

    def _none(self, at: int, detail: str, refusals: Refusals) -> None:
        if not self._is_lost:
            self._is_lost = True
            refusals.add(Reject("no_frame", detail, self._buffer[at : at + 64], self._position + at))
