"""Pictures for the tests: good ones of which the colours are known, and those that are made to hurt."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def pixels(width: int, height: int, *squares: tuple[int, int, int, int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """A black picture with squares in it: left, top, right, bottom, colour."""
    picture = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom, color in squares:
        picture[top:bottom, left:right] = color
    return picture


def encoded(picture: NDArray[np.uint8] | Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, format, **options)
    return file.getvalue()


def jpeg(picture: NDArray[np.uint8] | Image.Image, **options: Any) -> bytes:
    return encoded(picture, "JPEG", quality=95, subsampling=0, **options)


def png(picture: NDArray[np.uint8] | Image.Image, **options: Any) -> bytes:
    return encoded(picture, "PNG", **options)


def png_of(width: int, height: int, depth: int = 8, color: int = 2, data: bytes = b"", *more: tuple[bytes, bytes]) -> bytes:
    """A PNG that says of itself what it likes."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def jpeg_that_says(width: int, height: int) -> bytes:
    """A JPEG whose header has another size than its pixels."""
    data = bytearray(jpeg(pixels(16, 16)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(picture: NDArray[np.uint8] | Image.Image, **options: Any) -> bytes:
    return encoded(picture, "WEBP", lossless=True, **options)


def webp_that_says(width: int, height: int) -> bytes:
    """A WebP whose header has another size than its pixels."""
    header = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    data = webp(pixels(16, 16))
    return data[:12] + b"VP8X" + (10).to_bytes(4, "little") + header + data[12:]


def oriented(orientation: int) -> Any:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def tiff(*entries: tuple[int, int, int, int], order: str = "<", more: bytes = b"") -> bytes:
    """EXIF data with these entries (tag, type, count, value or its place), and what they point at."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries) + bytes(4) + more


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(*segments: bytes) -> bytes:
    """A green JPEG with these before its own parts."""
    good = jpeg(pixels(16, 16, (0, 0, 16, 16, GREEN)))
    return good[:2] + b"".join(segments) + good[2:]


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A green PNG with these before its pixels."""
    return png_of(16, 16, 8, 2, zlib.compress((b"\0" + bytes(GREEN) * 16) * 16), *chunks)


@cache
def laden() -> dict[str, bytes]:
    """Green pictures with parts that a library would choke on, and that no pixel needs."""
    region = tiff(*((0x1000 + i, 1, 2_900_000, 8) for i in range(1200)), more=bytes(2_900_000))
    broken = [(i + 1, 7, 60_000, 8) for i in range(5000)]
    bomb = zlib.compress(bytes(1_040_000), 9)
    photoshop = b"Photoshop 3.0\0" + b"".join(b"8BIM" + struct.pack(">HHI", i, 0, 0) for i in range(5400))
    return {
        "1,200 tags over one region": png_with((b"eXIf", region)),
        "65,535 broken tags": png_with((b"eXIf", tiff(*((i + 1, 2, 1000, 0x7FFFFFFF) for i in range(65_535))))),
        "5,000 broken tags in a JPEG": jpeg_with(segment(0xE1, b"Exif\0\0" + tiff(*broken))),
        "a broken index of pictures": jpeg_with(segment(0xE2, b"MPF\0" + tiff(*broken))),
        "packed colour profiles": png_with(*[(b"iCCP", b"x\0\0" + bomb)] * 900),
        "colour profiles": jpeg_with(*(segment(0xE2, b"ICC_PROFILE\0" + bytes([i, 60]) + bytes(65_000)) for i in range(60))),
        "texts": png_with(*[(b"zTXt", b"Raw profile type exif\0\0" + bomb)] * 900),
        "Photoshop's resources": jpeg_with(*[segment(0xED, photoshop)] * 50),
        "a broken colour": png_with((b"tRNS", b"\0"), (b"gAMA", b""), (b"cHRM", b"\0" * 3), (b"pHYs", b""), (b"sBIT", b"")),
    }


@cache
def hostile() -> dict[str, tuple[bytes, str, str]]:
    """By name: the payload, the reason of its refusal, and words of what is said of it."""
    good = jpeg(pixels(64, 48, (8, 8, 40, 40, RED)))
    good_png = png(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    frames = [Image.fromarray(pixels(16, 16, (0, 0, n, n, RED))) for n in (4, 8, 12)]
    bomb = zlib.compress(bytes(65500), 9)
    text = zlib.compress(b"x" * (1 << 20))
    return {
        "nothing": (b"", "malformed", "found nothing"),
        "text": (b'{"v": 1}', "malformed", "expected a whole JPEG, PNG or WebP"),
        "a GIF": (encoded(frames[0], "GIF"), "malformed", "expected a whole JPEG, PNG or WebP"),
        "a TIFF": (encoded(frames[0], "TIFF"), "malformed", "expected a whole JPEG, PNG or WebP"),
        "a cut JPEG": (good[: good.index(b"\xff\xda") + 20], "malformed", "truncated"),
        "a JPEG without pixels": (good[: good.index(b"\xff\xda")], "malformed", ""),
        "a header alone": (good_png[:33], "malformed", ""),
        "a cut PNG": (good_png[: len(good_png) // 2], "malformed", "truncated"),
        "a PNG with a wrong checksum": (good_png[:-20] + b"\0\0\0\0" + good_png[-16:], "malformed", ""),
        "a bomb": (png_of(65500, 65500, data=bomb), "too_large", "65500 x 65500 pixels: 4290250000 pixels, at most"),
        "a JPEG bomb": (jpeg_that_says(65500, 65500), "too_large", "4290250000 pixels, at most"),
        "of no height": (jpeg_that_says(64, 0), "malformed", ""),
        "many scans": (good[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x01\x05\x00" * 100 + good[-2:], "malformed", "101 scans"),
        "many segments": (good[:2] + b"\xff\xe5\x00\x02" * 2000 + good[2:], "malformed", "more than 1000 segments"),
        "fill bytes": (good[:2] + b"\xff" * 2000 + good[2:], "malformed", "more than 1000 segments"),
        "many chunks": (png_of(4, 4, 8, 2, b"", *((b"abCd", b""),) * 2000), "malformed", "more than 1000 chunks"),
        "many tables": (jpeg_with(*[segment(0xDB, (b"\0" + b"\1" * 64) * 1000)] * 12), "malformed", "65536 bytes of tables"),
        "a long side": (png_of(1, 70_000, 8, 6, zlib.compress(bytes(5 * 70_000))), "too_large", "at most 65535 pixels a side"),
        "large texts": (png_of(4, 4, 8, 2, b"", *((b"zTXt", b"k\0\0" + text),) * 8), "malformed", ""),
        "animated": (encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), "unsupported", "3 frames, one is taken"),
        "an animated WebP": (encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "unsupported", "3 frames"),
        "a WebP bomb": (webp_that_says(16000, 16000), "too_large", "WEBP of 16000 x 16000 pixels: 256000000 pixels, at most"),
        "a cut WebP": (webp(pixels(64, 48, (8, 8, 40, 40, RED)))[:-40], "malformed", ""),
        "CMYK": (jpeg(Image.fromarray(pixels(16, 16)).convert("CMYK")), "unsupported", "found CMYK"),
        "16 bit gray": (png(np.zeros((16, 16), np.uint16)), "unsupported", "16 bits a channel"),
        "16 bit": (png_of(1, 1, 16, 2, zlib.compress(bytes(7))), "unsupported", "16 bits a channel"),
    }
