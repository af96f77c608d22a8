"""What of a JPEG, PNG or WebP file its pixels need: a copy with nothing else in it, and what the rest says of them.

A library reads whatever a file has beside its pixels, and each such part is a way to hurt: 1,200 EXIF tags over one region took
3.5 GB, 4 MB of packed colour profiles 9 s, 5,000 broken tags 10,000 lines on stderr. So the library never sees them. A part
is passed on because it is in the tables below, not because nobody knew what was wrong with it; how the picture is to be turned,
and how many frames there are, is read here, from a bounded number of bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from edged.decode.looks import looks
from edged.decode.values import BadPayload

UPRIGHT = 1
TURNS = range(1, 9)
"""What EXIF may say of it; 0 is what some write who do not know."""
ORIENTATION, FRAMES = 0x0112, 0xB001
"""Tags of TIFF directories: of EXIF, and of the index of several pictures in one JPEG."""
MAX_TAGS = 256
"""Entries of a directory that are looked at: they are sorted, and what is wanted is among the first."""
MAX_SAID = 64 * 1024
"""Bytes of EXIF or XMP that are looked at, which is all that fits into a segment of a JPEG."""
MAX_PARTS = 1000
"""Segments before the pixels of a JPEG, or chunks of a PNG for each MiB of it: more make a library busy with nothing."""
MAX_SCANS = 64
"""Passes over the pixels of a progressive JPEG, which usually has ten: each goes over all of them, however short it is."""
MAX_TABLES = 64 * 1024
"""Bytes of tables before the pixels of a JPEG, which need 2 KiB: a library goes over them by hand."""

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_TAKEN = ("a JPEG picture", "a PNG picture", "a WebP picture")
WEBP = re.compile(rb"RIFF....WEBP", re.DOTALL)
EOI = b"\xff\xd9"
NO_END = (bytes(16) + EOI, b"\xaa\x55" * 8 + EOI)
"""Put behind a JPEG that does not say where it ends: whatever stands there changes no pixel, unless some are missing."""
_HEADER = PNG + b"\0\0\0\x0dIHDR"
_PNG_KEPT = (b"PLTE", b"IDAT", b"IEND")
_JPEG_KEPT = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDD} - {0xC8})  # frames, Huffman and other tables, restarts
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_SCAN = 0xDA
_JPEG_KEPT_APPS = {_APP0: b"JFIF\0", _APP14: b"Adobe"}  # they say which colours the numbers are
_EXIF, _XMP, _INDEX = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0"
_EXIF_TEXT, _XMP_TEXT = b"Raw profile type exif", b"XML:com.adobe.xmp"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


class PictureFile(NamedTuple):
    """`data` is the file with what its pixels need; `orientation` is that of EXIF, `frames` how many pictures follow each other.
    `is_cut`: the end of a JPEG is missing, and perhaps more. `size`: as a WebP says it, whose library makes room at once."""

    data: bytes
    orientation: int
    frames: int = 1
    is_cut: bool = False
    size: tuple[int, int] | None = None


def picture_file(payload: bytes) -> PictureFile:
    """A JPEG, PNG or WebP without all that a decoder does not need. What is wrong with the rest of it, the decoder says.

    Raises:
        BadPayload: when it is neither, or has more parts than a picture needs.
    """
    payload = payload.lstrip(b"\r\n")  # of who cut a multipart stream a line too early
    if payload.startswith(JPEG):
        return _jpeg(payload)
    if payload.startswith(_HEADER):
        return _png(payload)
    if WEBP.match(payload):
        return _webp(payload)
    found = looks(payload)
    found = f"only the begin of {found}" if found in _TAKEN else found
    raise BadPayload("malformed", f"expected a whole JPEG, PNG or WebP, found {found}")


def _jpeg(payload: bytes) -> PictureFile:
    kept, size, exif, xmp, index, is_cut = [JPEG], 0, b"", b"", b"", False
    for marker, start, stop in _segments(payload):
        body = payload[start + 4 : stop]
        if marker == _SCAN:
            end = len(payload)
            is_cut = payload.rfind(EOI, start) < 0
            if (_tag(index, FRAMES) or 1) > 1 and not is_cut:  # behind the first picture are others
                end = payload.index(EOI, start) + len(EOI)
            scans = payload.count(b"\xff\xda", start, end)
            if scans > MAX_SCANS:
                raise BadPayload("malformed", f"a JPEG of {scans} scans, at most {MAX_SCANS} are taken")
            kept.append(payload[start:end])
        elif marker in _JPEG_KEPT or (marker in _JPEG_KEPT_APPS and body.startswith(_JPEG_KEPT_APPS[marker])):
            kept.append(payload[start:stop])
            size += stop - start
            if size > MAX_TABLES:
                raise BadPayload("malformed", f"a JPEG with more than {MAX_TABLES} bytes of tables before its pixels")
        elif marker == _APP1 and body.startswith(_EXIF):
            exif = exif or body
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = xmp or body
        elif marker == _APP2 and body.startswith(_INDEX):
            index = index or body.removeprefix(_INDEX)
    return PictureFile(b"".join(kept), _orientation(exif, xmp), is_cut=is_cut)


def _segments(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and stop of the segments of a JPEG up to its first scan. What lies between them is nothing.

    Raises:
        BadPayload: when there are too many.
    """
    at = 2
    for _ in range(MAX_PARTS):
        at = payload.find(b"\xff", at)
        if at < 0 or at + 1 >= len(payload):
            return
        marker = payload[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # fill bytes, and markers without a length
            at += 1 if marker == 0xFF else 2
            continue
        stop = at + 2 + int.from_bytes(payload[at + 2 : at + 4], "big")
        yield marker, at, stop
        if marker == _SCAN:
            return
        at = stop
    raise BadPayload("malformed", f"a JPEG with more than {MAX_PARTS} segments before its pixels")


def _png(payload: bytes) -> PictureFile:
    at, most, frames = len(PNG), MAX_PARTS * (1 + (len(payload) >> 20)), 1
    kept, said = [PNG], dict[bytes, bytes]()
    for count in range(most + 1):
        if at >= len(payload):
            break
        if count == most:
            raise BadPayload("malformed", f"a PNG with more than {most} chunks")
        stop = at + 12 + int.from_bytes(payload[at : at + 4], "big")
        kind, start = payload[at + 4 : at + 8], at + 8
        if kind in _PNG_KEPT or not count:  # the first is the header
            kept.append(payload[at:stop])
        elif kind == b"acTL":
            frames = max(frames, int.from_bytes(payload[start : start + 4], "big"))
        elif kind == b"eXIf":
            said.setdefault(kind, payload[start : min(stop - 4, start + MAX_SAID)])
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = payload[start : start + 80].partition(b"\0")[0]
            if keyword in (_EXIF_TEXT, _XMP_TEXT) and keyword not in said:
                said[keyword] = _text(kind, payload[start + len(keyword) + 1 : stop - 4])
        if kind == b"IEND":
            break
        at = stop
    exif = said.get(b"eXIf") or _unhexed(said.get(_EXIF_TEXT, b""))
    return PictureFile(b"".join(kept), _orientation(exif, said.get(_XMP_TEXT, b"")), frames)


def _webp(payload: bytes) -> PictureFile:
    """Alpha is kept, since the library wants it where the header speaks of it."""
    at, kept, exif, xmp, frames = 12, list[bytes](), b"", b"", 0
    size: tuple[int, int] | None = None
    for _ in range(MAX_PARTS):
        kind, length = payload[at : at + 4], int.from_bytes(payload[at + 4 : at + 8], "little")
        body = payload[at + 8 : at + 8 + length]
        if len(kind) < 4 or (kind in _WEBP_PIXELS and len(body) < length):
            break
        if kind in (b"VP8X", *_WEBP_PIXELS):
            size = size or _webp_size(kind, body)
            kept.append(_chunk(kind, bytes([body[0] & _WEBP_ALPHA]) + body[1:] if kind == b"VP8X" else body))
        elif kind == b"ALPH":
            kept.append(_chunk(kind, body))
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = exif or body[:MAX_SAID]
        elif kind == b"XMP ":
            xmp = xmp or body[:MAX_SAID]
        at += 8 + length + length % 2
    if size is None:
        raise BadPayload("malformed", "expected a whole WebP, found only the begin of one")
    data = b"WEBP" + b"".join(kept)
    whole = b"RIFF" + len(data).to_bytes(4, "little") + data
    return PictureFile(whole, _orientation(exif, xmp), max(1, frames), size=size)


_WEBP_PIXELS = (b"VP8 ", b"VP8L")
_WEBP_ALPHA = 0x10
"""The flag of a WebP's header that stays; the others speak of what is left out."""


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _text(kind: bytes, body: bytes) -> bytes:
    """The text behind the keyword of a chunk of text."""
    is_packed = kind == b"zTXt" or (kind == b"iTXt" and body[:1] == b"\1")
    if kind == b"zTXt":
        body = body[1:]
    elif kind == b"iTXt":  # flag, method, language, keyword in that language
        body = body[2:].partition(b"\0")[2].partition(b"\0")[2]
    if is_packed:
        try:
            body = zlib.decompressobj().decompress(body, MAX_SAID)
        except zlib.error:
            return b""
    return body[:MAX_SAID]


def _unhexed(text: bytes) -> bytes:
    """What ImageMagick writes: a name and a length, each on a line, then hex digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:])[: MAX_SAID & ~1].decode())
    except ValueError:
        return b""


def _orientation(exif: bytes, xmp: bytes) -> int:
    found = _tag(exif.removeprefix(_EXIF), ORIENTATION)
    if found is None and (match := _XMP_ORIENTATION.search(xmp)) is not None:
        found = int(match[1])
    return UPRIGHT if found is None or found not in TURNS else found


def _tag(tiff: bytes, wanted: int) -> int | None:
    """A whole number of the first directory of TIFF data; None where that has none, or is none."""
    order: Any = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4) + 2
    for at in range(first, first + 12 * min(number(first - 2, 2), MAX_TAGS), 12):
        if number(at, 2) == wanted:
            size = {1: 1, 3: 2, 4: 4}.get(number(at + 2, 2))  # byte, short, long
            return None if size is None else number(at + 8, size)
    return None
