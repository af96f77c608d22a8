from __future__ import annotations

import base64
import gzip
import json

import pytest

from edged.decode.looks import is_written, looks
from tests.support.pictures import jpeg, pixels, png, webp

PICTURE = jpeg(pixels(8, 8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "nothing"),
        (b"\n\0", "nothing but 2 blanks or zeros"),
        (b"offline", "the text 'offline'"),
        (b'{"t": 1}', "JSON"),
        (b"[1, 2]", "JSON"),
        (b"<html>", "HTML or XML"),
        (PICTURE, "a JPEG picture"),
        (png(pixels(8, 8)), "a PNG picture"),
        (webp(pixels(8, 8)), "a WebP picture"),
        (b"\0\0\0\x20ftypheic", "a HEIC picture"),
        (b"GIF89a", "a GIF picture"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a WAV file"),
        (b"OggS\0\2", "an Ogg file"),
        (gzip.compress(b"{}", mtime=0), 'gzip data: write compress = "gzip"'),
        (base64.b64encode(PICTURE), 'a file in base64: write encoding = "base64"'),
        (b"data:image/jpeg;base64," + base64.b64encode(PICTURE), 'a file in base64: write encoding = "base64"'),
        (PICTURE.hex().encode(), 'a file in hex: write encoding = "hex"'),
        (
            json.dumps({"id": 1, "jpeg": base64.b64encode(PICTURE).decode()}).encode(),
            'JSON with a file in base64: write payload = "its.member", encoding = "base64"',
        ),
        (b"\x00\x01\x02", "bytes that begin with 00 01 02"),
        ("21.5 °C".encode(), "the text '21.5 °C'"),
        (b"\xff\xfe\xfd\xfc", "UTF-16"),
    ],
)
def test_it_says_what_bytes_are(data: bytes, words: str) -> None:
    assert looks(data) == words


def test_what_is_written() -> None:
    assert is_written(b"21.5\r\n")
    assert is_written(b"")
    assert not is_written(b"\x81\xa1t\x01")
