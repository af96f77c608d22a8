"""What proves a frame: sums, exclusive-ors and CRCs, of one frame or of many at once.

`KINDS` is the table: what each of them makes of the bytes it covers, how many bytes it takes and in which order. Frames of
one length are the rows of a matrix, so that many cost a few numpy calls.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import accumulate
from operator import xor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.crc import Bytes, Crc, crc_1021, crc_of, crcs_of

if TYPE_CHECKING:
    from edged.config import schema

Numbers = NDArray[Any]

FEW = 16
"""So few pieces of one length are faster one by one than by numpy's calls."""
_FEW_LINES = 4
"""The same of lines, of which each is of another length."""
_SUMMED_BYTES = 256
"""Adler-32 begins with 1, and counts modulo 65521."""


class Kind(NamedTuple):
    """What `size` bytes, sent in the order `endian`, prove: of the covered bytes, and of each row of them."""

    size: int
    endian: str
    one: Callable[[bytes], int]
    many: Callable[[Bytes], Numbers]


def _fletcher8(covered: bytes) -> int:
    low = high = 0
    for byte in covered:
        low += byte
        high += low
    return (low & 0xFF) | (high & 0xFF) << 8


def _fletcher8_of_rows(rows: Bytes) -> Any:
    places = np.arange(rows.shape[1], 0, -1, dtype=np.uint32)
    return _sums(rows) & 0xFF | ((rows * places).sum(axis=1, dtype=np.uint32) & 0xFF) << 8


def sum_of(covered: bytes) -> int:
    """The sum of the bytes; of few of them by zlib, which has it in C, less what it takes away from sums of more."""
    return (zlib.adler32(covered) & 0xFFFF) - 1 if len(covered) <= _SUMMED_BYTES else sum(covered)


def _sums(rows: Bytes) -> Any:
    return np.ascontiguousarray(rows.T).sum(axis=0, dtype=np.uint32)  # thrice as fast as along short rows


def _xors(rows: Bytes) -> Any:
    return np.bitwise_xor.reduce(np.ascontiguousarray(rows.T), axis=0).astype(np.uint32)


def _each(one: Callable[[bytes], int], rows: Bytes) -> Numbers:
    size, blob = rows.shape[1], rows.tobytes()
    return np.array([one(blob[i : i + size]) for i in range(0, len(blob), size)], np.uint32)


def _kind_of_crc(crc: Crc) -> Kind:
    """Sent as the catalogue's CRCs usually are: the end that is computed last comes first."""
    if (crc.width, crc.poly) == (16, 0x1021):
        one = partial(crc_1021, crc)
        return Kind(2, "little" if crc.reflect else "big", one, partial(_each, one))
    return Kind(crc.width // 8, "little" if crc.reflect else "big", partial(crc_of, crc), partial(crcs_of, crc))


KINDS: dict[str, Kind] = {
    "sum8": Kind(1, "big", lambda b: sum_of(b) & 0xFF, lambda rows: _sums(rows) & 0xFF),
    "neg8": Kind(1, "big", lambda b: -sum_of(b) & 0xFF, lambda rows: (256 - (_sums(rows) & 0xFF)) & 0xFF),
    "inv8": Kind(1, "big", lambda b: ~sum_of(b) & 0xFF, lambda rows: 255 - (_sums(rows) & 0xFF)),
    "sum15": Kind(2, "big", lambda b: sum_of(b) & 0x7FFF, lambda rows: _sums(rows) & 0x7FFF),
    "sum16": Kind(2, "big", lambda b: sum_of(b) & 0xFFFF, lambda rows: _sums(rows) & 0xFFFF),
    "neg16": Kind(2, "big", lambda b: -sum_of(b) & 0xFFFF, lambda rows: (0x10000 - (_sums(rows) & 0xFFFF)) & 0xFFFF),
    "inv16": Kind(2, "big", lambda b: ~sum_of(b) & 0xFFFF, lambda rows: 0xFFFF - (_sums(rows) & 0xFFFF)),
    "xor8": Kind(1, "big", lambda b: reduce(xor, b, 0), _xors),
    "fletcher8": Kind(2, "little", _fletcher8, _fletcher8_of_rows),
    "crc16-arc": _kind_of_crc(Crc(16, 0x8005, reflect=True)),
    "crc16-modbus": _kind_of_crc(Crc(16, 0x8005, 0xFFFF, reflect=True)),
    "crc16-ccitt-false": _kind_of_crc(Crc(16, 0x1021, 0xFFFF)),
    "crc16-xmodem": _kind_of_crc(Crc(16, 0x1021)),
    "crc16-kermit": _kind_of_crc(Crc(16, 0x1021, reflect=True)),
    "crc16-x25": _kind_of_crc(Crc(16, 0x1021, 0xFFFF, 0xFFFF, reflect=True)),
    "crc16-mcrf4xx": _kind_of_crc(Crc(16, 0x1021, 0xFFFF, reflect=True)),
    "crc32": Kind(4, "little", zlib.crc32, partial(_each, zlib.crc32)),
}
DIGITS = ("hex", "all-hex")
_HEX = [b"%02X" % value for value in range(256)]
LINE_SAFE = bytes(byte + (byte in b"(\r\n") for byte in range(256))
"""How Voltronic's inverters send the bytes of a CRC: never as what begins or ends one of their lines."""
WIDTHS = {"crc8": 8, "crc16": 16}
"""CRCs that say their polynomial themselves."""


def kind_of(settings: schema.Checksum) -> Kind:
    """What a checksum that lies at the end of a frame is."""
    if settings.type in WIDTHS:
        width = WIDTHS[settings.type]
        poly = 0x07 if settings.poly is None else settings.poly
        return _kind_of_crc(Crc(width, poly, settings.init, settings.xor, settings.reflect))
    return KINDS[settings.type]


def size_of(settings: schema.Checksum) -> int:
    """Bytes that it takes at the end of a frame; 0 where it is none, or part of a line of text."""
    if settings.type in ("none", *LINES):
        return 0
    return kind_of(settings).size * (2 if settings.encoding in DIGITS else 1)


class Checksum:
    """The checksum of frames: `size` bytes at the end, over all bytes from `start` up to `stop` bytes before them."""

    def __init__(
        self,
        name: str,
        start: int = 0,
        endian: str | None = None,
        encoding: str | None = None,
        kind: Kind | None = None,
        stop: int = 0,
    ) -> None:
        """`encoding` is None, hex, all-hex (the covered bytes are written in digits too), or line-safe. `kind` is that of a CRC
        with parameters of its own; else the one of this name."""
        kind = KINDS[name] if kind is None else kind
        self.name = name
        self.start = start
        self.size = kind.size * (2 if encoding in DIGITS else 1)
        self._stop = stop
        self._kind = kind
        self._endian: Any = endian or (kind.endian if encoding is None else "big")
        self._encoding = encoding

    @classmethod
    def of(cls, settings: schema.Checksum | None) -> Checksum | None:
        """None where frames carry none."""
        if settings is None or settings.type in ("none", *LINES):
            return None
        return cls(settings.type, settings.start, settings.endian, settings.encoding, kind_of(settings), settings.stop)

    def value(self, frame: bytes) -> int:
        """The checksum of a frame without it; -2 where what it covers is no hex digits, as it must be."""
        covered = frame[self.start : len(frame) - self._stop]
        if self._encoding == "all-hex":
            try:
                covered = binascii.unhexlify(covered)
            except ValueError:
                return -2
        value = self._kind.one(covered)
        if self._encoding != "line-safe":
            return value
        return int.from_bytes(value.to_bytes(self._kind.size, "big").translate(LINE_SAFE), "big")

    def encode(self, frame: bytes) -> bytes:
        """What to append to `frame`."""
        tail = self.value(frame).to_bytes(self._kind.size, self._endian)
        return tail.hex().upper().encode() if self._encoding in DIGITS else tail

    def carried(self, frame: bytes) -> int:
        """What `frame` says its checksum is; -1 where it says none."""
        tail = frame[len(frame) - self.size :]
        if self._encoding in DIGITS:
            try:
                tail = binascii.unhexlify(tail)
            except ValueError:
                return -1
        return int.from_bytes(tail, self._endian)

    def is_right(self, frame: bytes) -> bool:
        if len(frame) < self.size:
            return False
        return self.value(frame[: len(frame) - self.size]) == self.carried(frame)

    def right(self, frames: Sequence[bytes]) -> list[bool]:
        """Which of the frames are right."""
        if len(frames) < FEW:
            return list(map(self.is_right, frames))
        groups: dict[int, list[int]] = {}
        for i, length in enumerate(map(len, frames)):
            groups.setdefault(length, []).append(i)
        flags = np.empty(len(frames), np.bool_)
        for length, which in groups.items():
            group = frames if len(groups) == 1 else [frames[i] for i in which]
            if len(group) < FEW:
                flags[which] = list(map(self.is_right, group))
                continue
            is_right = self.right_rows(np.frombuffer(b"".join(group), np.uint8).reshape(len(group), length))
            flags[slice(None) if len(groups) == 1 else which] = is_right
        found: list[bool] = flags.tolist()
        return found

    def right_rows(self, rows: Bytes) -> NDArray[np.bool_]:
        """The same of frames of one length, one a row."""
        covered = rows.shape[1] - self.size
        if covered - self._stop <= self.start or self._encoding is not None:
            return np.array([self.is_right(row.tobytes()) for row in rows], np.bool_)
        carried = np.ascontiguousarray(rows[:, covered:]).view(f"{'<' if self._endian == 'little' else '>'}u{self.size}")[:, 0]
        return np.asarray(self._kind.many(rows[:, self.start : covered - self._stop]) == carried)

    def wrong(self, frame: bytes) -> str:
        """What is wrong with `frame`, said for a person."""
        if len(frame) < self.size:
            return f"{self.name}: a frame of {len(frame)} bytes has no room for it"
        digits, carried = 2 * self._kind.size, self.carried(frame)
        wanted = self.value(frame[: len(frame) - self.size])
        if wanted < 0:
            return f"{self.name}: what it covers is not written as pairs of hex digits"
        said = f"0x{carried:0{digits}x}" if carried >= 0 else f"{frame[len(frame) - self.size :]!r}, no hex digits"
        return f"{self.name} is 0x{wanted:0{digits}x}, the frame says {said}"

    def fix(self, frame: bytes, starts: Sequence[int]) -> str:
        """With which settings `frame` would pass, said for a person; nothing when none is found, or chance would do."""
        if self._kind.size < 2:
            return ""
        for start in starts:
            for endian in ("little", "big"):
                if Checksum(self.name, start, endian, self._encoding, self._kind, self._stop).is_right(frame):
                    swapped = f', endian = "{endian}"' if endian != self._endian else ""
                    return f"; it passes with start = {start}{swapped}"
        return ""


def _of_each(ufunc: np.ufunc, one: Callable[[bytes], int], pieces: Sequence[bytes]) -> list[int]:
    """The exclusive-or, or the sum, of each piece; a zero behind it changes neither."""
    if len(pieces) < _FEW_LINES:
        return list(map(one, pieces))
    starts = np.array([0, *accumulate(map((1).__add__, map(len, pieces)))][:-1], np.intp)
    values: list[int] = ufunc.reduceat(np.frombuffer(b"\0".join([*pieces, b""]), np.uint8), starts).tolist()
    return values


def nmea_bodies(lines: Sequence[bytes]) -> list[bytes | None]:
    """What lies between the last `$` (or `!`, or the line's start) and `*hh` of each line, or None when hh is not its
    exclusive-or."""
    parts = [line.rpartition(b"*") for line in lines]
    bodies = [body.rpartition(b"$")[2].rpartition(b"!")[2] for body, _, _ in parts]
    return [
        body if star and digits.upper() == _HEX[value] else None
        for body, (_, star, digits), value in zip(bodies, parts, _of_each(np.bitwise_xor, KINDS["xor8"].one, bodies), strict=True)
    ]


def teleinfo_bodies(lines: Sequence[bytes]) -> list[bytes | None]:
    """What stands before the check character of each line and its separator. The character is the low six bits of the sum, moved
    into what can be printed. A blank before it is not part of the sum, a tab is (the two modes of the meter). What ends a frame
    and begins the next one stands behind the last line of it."""
    lines = [line.strip(b"\r\x02\x03\x04") for line in lines]
    covered = [line[:-1] if line[-2:-1] == b"\t" else line[:-2] for line in lines]
    return [
        line[:-2] if line[-2:-1] in (b" ", b"\t") and (value & 0x3F) + 0x20 == line[-1] else None
        for line, value in zip(lines, _of_each(np.add, sum_of, covered), strict=True)
    ]


class LineProof(NamedTuple):
    """What a line of text must end with, said for a person, and what it leaves of each line, None where that is wrong. A line
    of nothing but `silent` is none. `around`: so many characters stand around what it leaves; before more of them are those of
    another line, or of none."""

    wanted: str
    bodies: Callable[[Sequence[bytes]], list[bytes | None]]
    silent: bytes = b""
    around: int | None = None


LINES = {
    "nmea": LineProof("* and two hex digits, the exclusive-or of what is before", nmea_bodies, around=4),
    "teleinfo": LineProof(
        "a blank or tab and the check character, (sum & 0x3f) + 0x20 of what is before", teleinfo_bodies, b"\x02\x03\x04"
    ),
}
"""Checksums that only lines have."""


def line_proof(settings: schema.Checksum | None) -> LineProof | None:
    """How lines prove themselves: by a checksum of their own, or one written in hex digits at their end."""
    if settings is None or settings.type == "none":
        return None
    if settings.type in LINES:
        return LINES[settings.type]
    checksum = Checksum.of(settings)
    assert checksum is not None

    def bodies(lines: Sequence[bytes]) -> list[bytes | None]:
        is_right = checksum.right(lines)
        return [line[: len(line) - checksum.size] if good else None for line, good in zip(lines, is_right, strict=True)]

    form = "hex digits" if settings.encoding in DIGITS else "bytes"
    return LineProof(f"{checksum.size} {form}, {settings.type} of what is before", bodies)
