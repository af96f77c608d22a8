"""What bytes look like that are not what they should be, in words for who reads why they were refused.

By their first bytes alone: a picture in the wrong format, sound of another program, a word that a publisher sends when its sensor
is gone. Where that is sure, the words say what would read it.
"""

from __future__ import annotations

import re

SHOWN = 40
_KINDS = (
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"\x89PNG", "a PNG picture"),
    (rb"GIF8", "a GIF picture"),
    (rb"BM....\0\0\0\0", "a BMP picture"),
    (rb"II\*\0|MM\0\*", "a TIFF picture"),
    (rb"....ftyp(?:hei[cx]|mif1|msf1|hevc)", "a HEIC picture"),
    (rb"....ftypavi[fs]", "an AVIF picture"),
    (rb"....ftyp", "an MP4 file"),
    (rb"RIFF....WEBP", "a WebP picture"),
    (rb"(?:RIFF|RF64|BW64)....WAVE", "a WAV file"),
    (rb"RIFX....WAVE", "a WAV file with its high bytes first"),
    (rb"RIFF....AVI ", "an AVI file"),
    (rb"OggS", "an Ogg file"),
    (rb"ID3[\x02-\x04]|\xff[\xfb\xf3\xf2]", "an MP3 file"),
    (rb"fLaC", "a FLAC file"),
    (rb"%PDF", "a PDF file"),
    (rb"PK\x03\x04", "a ZIP file"),
    (rb"\x1f\x8b", 'gzip data: write compress = "gzip"'),
    (rb"\x28\xb5\x2f\xfd", 'zstd data: write compress = "zstd"'),
    (rb"\x78[\x01\x5e\x9c\xda]", 'zlib data: write compress = "zlib"'),
    (rb"(?:data:image/[^,]{0,64};base64,|/9j/|iVBORw0KGgo|UklGR)", 'a file in base64: write encoding = "base64"'),
    (rb"(?i:ffd8ff|89504e47|52494646)", 'a file in hex: write encoding = "hex"'),
    (rb"\xff\xfe|\xfe\xff", "UTF-16"),
    (rb"--[^\r\n]{1,80}\r?\nContent-", "a part of a multipart stream, with its header"),
    (rb"\s*<(?:[a-zA-Z!?/])", "HTML or XML"),
    (
        rb"\s*\{.{0,2000}?\"(?:data:image/[^,]{0,64};base64,|/9j/|iVBORw0KGgo|UklGR)",
        'JSON with a file in base64: write payload = "its.member", encoding = "base64"',
    ),
    (rb"\s*[{\[]\s*(?:[\"{\[\]}\-0-9tfn]|$)", "JSON"),
)
_TABLE = [(re.compile(begin, re.DOTALL), words) for begin, words in _KINDS]


def looks(data: bytes) -> str:
    """What `data` are, as far as their first bytes say it."""
    if not data.strip(b" \t\r\n\0"):
        return "nothing" if not data else f"nothing but {len(data)} blanks or zeros"
    for begin, words in _TABLE:
        if begin.match(data):
            return words
    part = data[:SHOWN]
    text = part.decode("utf-8", "ignore")
    lost = len(part) - len(text.encode())
    if lost <= (0 if part == data else 3) and all(char.isprintable() or char in "\t\r\n" for char in text):
        return f"the text {text!r}"
    return f"bytes that begin with {data[:8].hex(' ')}"


def is_written(data: bytes) -> bool:
    """Whether its first bytes are plain characters, which data seldom are."""
    return all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in data[:SHOWN])
