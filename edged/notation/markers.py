"""Markers: bytes at which a frame begins or ends, with bits that may be open.

Owns how they are written: `[0xAA, 0x55]`, a string (its UTF-8), and for open bits eight characters for a byte, highest first.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edged.notation.words import shown

BLOCKS = ("block", "dsmr", "vedirect")
"""Types of frames that are lines, handed on together."""
_BITS = re.compile(r"[01.]{8}")
_HEX_DIGITS = re.compile(r"(0x)?[0-9A-Fa-f]{2}([ ,]+(0x)?[0-9A-Fa-f]{2})+")
WANTED = "bytes such as [0xAA, 0x55] or a string"


class OpenMarker(msgspec.Struct, frozen=True):
    """A marker in which a bit may be either: of each byte eight characters `0`, `1` and `.`."""

    bits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.bits)

    def __str__(self) -> str:
        return " ".join(self.bits)

    @property
    def classes(self) -> list[bytes]:
        """Of each byte a regular expression for what fits."""
        return [_one_of(bits) for bits in self.bits]


def _one_of(bits: str) -> bytes:
    mask, value = (int("".join(text), 2) for text in (["01"[c != "."] for c in bits], [c.replace(".", "0") for c in bits]))
    if not mask:
        return b"."
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in range(256) if byte & mask == value)


def plain_bytes(raw: object, _: Any) -> bytes:
    """Bytes, as a list or as a text."""
    if isinstance(raw, str):
        if not raw:
            raise ValueError(f"expected {WANTED}, found an empty one")
        return _of_text(raw)
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"expected {WANTED}, found {shown(raw)}")
    for one in raw:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= 255:
            raise ValueError(f"expected {WANTED} (each from 0 to 255), found {shown(one)} in the list")
    return bytes(raw)


def _of_text(raw: str) -> bytes:
    if _HEX_DIGITS.fullmatch(raw):
        digits = re.findall(r"(?:0x)?([0-9A-Fa-f]{2})", raw)
        listed = ", ".join(f"0x{two.upper()}" for two in digits)
        raise ValueError(f"expected {WANTED}, found {shown(raw)} in hex; write [{listed}]")
    return raw.encode()


def line_start(raw: object, around: Any) -> bytes:
    """Bytes with which a line begins; none: an empty line."""
    return b"" if raw == "" else plain_bytes(raw, around)


def marker(raw: object, around: Any) -> bytes | OpenMarker:
    """Bytes, some of which may have open bits. Plain bytes where none has."""
    if not isinstance(raw, list) or not any(isinstance(one, str) for one in raw):
        return plain_bytes(raw, around)
    bits = []
    for i, one in enumerate(raw):
        if isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255:
            bits.append(f"{one:08b}")
        elif isinstance(one, str) and _BITS.fullmatch(one):
            bits.append(one)
        else:
            raise ValueError(f"expected 0 to 255, or eight characters of 0, 1 and ., found {shown(one)} at [{i}]{_fix(one)}")
    if all("." not in one for one in bits):
        return bytes(int(one, 2) for one in bits)
    return OpenMarker(tuple(bits))


def _fix(one: object) -> str:
    """For hex digits with open ones: `0xC.` is `1100....`."""
    found = re.fullmatch(r"0x([0-9A-Fa-f.xX?])([0-9A-Fa-f.xX?])", one) if isinstance(one, str) else None
    if found is None:
        return ""
    return '; write "{}"'.format("".join("...." if digit in ".xX?" else f"{int(digit, 16):04b}" for digit in found.groups()))
