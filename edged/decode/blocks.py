"""Blocks of lines: from a start line, to an end line, or to a silence, each handed on as one payload.

A block is held until it is whole, so it must fit into `max_bytes`. Lines that belong to none, before the first start line or
behind an end line, are refused as `no_frame`. What proves a block is a function of its lines (`dsmr_crc`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from edged.decode.checksums import KINDS
from edged.decode.frames import Frames, LineFramer, Lines
from edged.decode.refusals import Refusals
from edged.records import EXCERPT, Reject


class Verdict(NamedTuple):
    """What is known of a block: whether it carried a proof, and what is wrong with that."""

    is_proved: bool
    wrong: str = ""


Proof = Callable[[bytes], Verdict]

_DSMR_END = re.compile(rb"\n!([0-9A-Fa-f]{4})\s*\Z")
_STX, _ETX = b"\x02", b"\x03"
_SEPARATE = b"\n\r", _STX, _ETX
"""Where one of these stands, a line may begin a block or end it behind other bytes than a line feed."""
_IEC_END = re.compile(rb"\x02(.*\x03)(.)\Z", re.DOTALL)


def dsmr_crc(block: bytes) -> Verdict:
    """DSMR P1 from version 4 on: the CRC16-ARC of all from `/` to `!`, in hex digits behind it. IEC 62056-21 in mode C: the
    exclusive-or from behind STX to ETX, in a byte behind that. Earlier ones and mode D have none."""
    found = _DSMR_END.search(block)
    if found is None:
        if (iec := _IEC_END.search(block)) is None:
            return Verdict(False)
        wanted, said = KINDS["xor8"].one(iec[1]) & 0x7F, iec[2][0] & 0x7F
        return Verdict(True, "" if wanted == said else f"the block check is 0x{wanted:02X}, the telegram says 0x{said:02X}")
    wanted, said = KINDS["crc16-arc"].one(block[: found.start() + 2]), int(found[1], 16)
    return Verdict(True, "" if wanted == said else f"crc16-arc is 0x{wanted:04X}, the telegram says 0x{said:04X}")


class Blocks:
    """A framer. `start`, `end` and `gap` as in the settings of a frame: None where there is none of it."""

    def __init__(self, start: bytes | None, end: bytes | None, max_bytes: int, proof: Proof | None = None) -> None:
        self._start, self._end = start, end
        self._first_and_last = b"\n" + (start or b""), b"\n" + (end or b"")  # of its lines, as they stand behind another one
        self._proof = proof
        self._max_bytes = max_bytes
        self._lines = LineFramer(b"\n", max_bytes)
        self._held: list[bytes] = []
        self._size = 0
        self._place = 0  # of the first line held
        self._is_due = False  # it has ended, but for the check that comes behind it without a line end
        self._is_open = start is None
        self._is_lost = False
        self._is_always_proved = False  # one was, so those that are not are damaged

    @property
    def pending(self) -> int:
        return self._lines.pending + self._size

    def reset(self, is_midway: bool = False) -> None:
        self._lines.reset(is_midway)
        self._drop()
        # the lines behind one that was cut belong to the same block, whose beginning nobody knows
        self._is_open = self._start is None and not is_midway
        self._is_lost = self._is_always_proved = False

    def spoil(self) -> None:
        self._lines.spoil()
        self._drop()
        self._is_open, self._is_lost = False, True

    def feed(self, data: bytes) -> tuple[Frames, list[Reject]]:
        parts, rejects = self._lines.feed(data)
        frames, refusals = Frames([], []), Refusals(is_one=True)
        for part in parts:
            self._part(part, frames, refusals)
        if self._is_due and (check := self._lines.take(_ETX, 2)):
            self._check(check, frames, refusals)
        return frames, sorted([*rejects, *refusals.records], key=lambda reject: reject.offset)

    @property
    def ends_in_silence(self) -> bool:
        """Whether there is no end line to be waited for."""
        return self._end is None

    def quiet(self) -> tuple[Frames, list[Reject]]:
        """Nothing came for the time that ends a block, nor will the end of its last line."""
        frames, refusals = Frames([], []), Refusals(is_one=True)
        parts, rejects = self._lines.feed(b"\n") if self._lines.pending else ([], [])
        for part in parts:
            self._part(part, frames, refusals)
        self._finish(frames, refusals)
        self._is_open = self._start is None
        return frames, [*rejects, *refusals.records]

    def _part(self, part: Lines, frames: Frames, refusals: Refusals) -> None:
        blob, at = part.blob, 0
        while at < len(blob):
            if self._start and self._end:
                if not self._held:
                    at = self._whole(blob, at, part.start, frames, refusals)
                elif at:
                    at = self._inside(blob, at)
            stop = blob.find(b"\n", at) + 1
            if stop:
                self._line(blob[at:stop], part.start + at, frames, refusals)
            at = stop or len(blob)

    def _whole(self, blob: bytes, at: int, place: int, frames: Frames, refusals: Refusals) -> int:
        """Takes the whole blocks that follow each other from `at` on, and says where they end."""
        assert self._start is not None
        start, end = self._first_and_last
        while blob.startswith(self._start, at):
            stop = blob.find(end, at) + 1
            stop = blob.find(b"\n", stop) + 1 if stop else 0
            if not stop or stop - at > self._max_bytes or blob.find(_STX, at, stop) >= 0:
                break
            if blob.find(self._start, at + 1, stop) >= 0 and blob.find(start, at, stop) >= 0:
                break
            self._held.append(blob[at:stop])
            self._place = place + at
            self._finish(frames, refusals)
            self._is_open = self._is_lost = False
            at = stop
        return at

    def _inside(self, blob: bytes, at: int) -> int:
        """Holds the lines from `at` on that neither end the block nor begin another one, and says where they end."""
        start, end = self._first_and_last
        stop = blob.find(end, at - 1) + 1 or len(blob)
        room = self._max_bytes - self._size
        if self._is_due or stop - at > room or any(blob.find(one, at - 1, stop) >= 0 for one in (start, *_SEPARATE)):
            return at
        self._held.append(blob[at:stop])
        self._size += stop - at
        return stop

    def _line(self, line: bytes, place: int, frames: Frames, refusals: Refusals) -> None:
        if self._is_due:
            line, place = self._behind_check(line, place, frames, refusals)
        text = line.strip(b"\r\n\x02\x03")
        if self._proof is not None and not self._is_open and (at := line.find(self._start or b"")) > 0:
            # what proves the block says that it begins here
            if line[:at].strip(b"\r\n\x02\x03"):
                refusals.add(Reject("no_frame", f"bytes before the start of a block{self._wanted()}", line[:at][:EXCERPT], place))
            line, place = line[at:], place + at
            text = line.strip(b"\r\n\x02\x03")
        if self._start is not None and text.startswith(self._start):
            self._finish(frames, refusals, is_whole=self._end is None)
            self._is_open, self._is_lost = True, False
        if not self._is_open:
            if text and not self._is_lost:
                self._is_lost = True
                refusals.add(Reject("no_frame", f"a line outside of a block{self._wanted()}", line[:EXCERPT], place))
            if self._start is None and self._ends(text):
                self._is_open = True
            return
        if not self._held:
            if not text and not self._ends(text):
                return
            self._place = place
        self._held.append(line)
        self._size += len(line)
        if self._size > self._max_bytes:
            held = b"".join(self._held)[: min(EXCERPT, self._max_bytes)]
            refusals.add(Reject("too_large", f"a block of more than {self._max_bytes} bytes (max_bytes)", held, self._place))
            self._drop()
            self._is_open, self._is_lost = False, True
        elif self._ends(text):
            if self._proof is not None and _STX in b"".join(self._held):
                self._is_due = True
                return
            self._finish(frames, refusals)
            self._is_open = self._start is None

    def _behind_check(self, line: bytes, place: int, frames: Frames, refusals: Refusals) -> tuple[bytes, int]:
        """What stands behind the check of the block that has ended."""
        check = line[:2] if line.startswith(_ETX) else b""
        self._check(check, frames, refusals)
        return line[len(check) :], place + len(check)

    def _check(self, check: bytes, frames: Frames, refusals: Refusals) -> None:
        """Ends the block that has ended but for its check."""
        if check:
            self._held.append(check)
        self._finish(frames, refusals)
        self._is_open = self._start is None

    def _ends(self, text: bytes) -> bool:
        return self._end is not None and (text.startswith(self._end) if self._end else not text)

    def _wanted(self) -> str:
        return f"; one begins with {self._start.decode('utf-8', 'replace')!r}" if self._start else ""

    def _finish(self, frames: Frames, refusals: Refusals, is_whole: bool = True) -> None:
        """The end of what is held. `is_whole`: it ended as a block does."""
        if not self._held:
            return
        block, place = b"".join(self._held), self._place
        self._drop()
        if not is_whole:
            refusals.add(Reject("no_frame", f"a block without its end {self._end!r}", block[:EXCERPT], place))
            return
        if self._proof is not None:
            verdict = self._proof(block)
            if verdict.wrong or (self._is_always_proved and not verdict.is_proved):
                refusals.add(Reject("checksum", verdict.wrong or "the checksum is missing", block[:EXCERPT], place))
                return
            self._is_always_proved |= verdict.is_proved
        frames.payloads.append(block.replace(b"\r\n", b"\n").rstrip(b"\r\n"))
        frames.starts.append(place)

    def _drop(self) -> None:
        self._held.clear()
        self._size = 0
        self._is_due = False
