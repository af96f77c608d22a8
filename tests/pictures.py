"""Pictures for the tests: good ones of which the colours are known, and those that are made to hurt."""

from __future__ import annotations

import io
import struct
import zlib
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


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(pixels(16, 8), exif=exif)


def hostile() -> dict[str, tuple[bytes, str, str]]:
    """By name: the payload, the reason of its refusal, and words of what is said of it."""
    good = jpeg(pixels(64, 48, (8, 8, 40, 40, RED)))
    good_png = png(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    frames = [Image.fromarray(pixels(16, 16, (0, 0, n, n, RED))) for n in (4, 8, 12)]
    bomb = zlib.compress(bytes(65500), 9)
    text = zlib.compress(b"x" * (1 << 20))
    return {
        "nothing": (b"", "malformed", "found nothing"),
        "text": (b'{"v": 1}', "malformed", "expected a whole JPEG or PNG"),
        "a GIF": (encoded(frames[0], "GIF"), "malformed", "expected a whole JPEG or PNG"),
        "a TIFF": (encoded(frames[0], "TIFF"), "malformed", "expected a whole JPEG or PNG"),
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
        "large texts": (png_of(4, 4, 8, 2, b"", *((b"zTXt", b"k\0\0" + text),) * 8), "malformed", ""),
        "animated": (encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), "unsupported", "3 frames, one is taken"),
        "several in one JPEG": (encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]), "unsupported", "frames"),
        "CMYK": (jpeg(Image.fromarray(pixels(16, 16)).convert("CMYK")), "unsupported", "found CMYK"),
        "16 bit gray": (png(np.zeros((16, 16), np.uint16)), "unsupported", "16 bits a channel"),
        "16 bit": (png_of(1, 1, 16, 2, zlib.compress(bytes(7))), "unsupported", "16 bits a channel"),
        "turned": (rotated(), "unsupported", "send it upright"),
    }
