from typing import Any

import pytest

from edged.decode.shapes import Pattern
from edged.notation.markers import OpenMarker, line_start, marker, plain_bytes


@pytest.mark.parametrize(("raw", "wanted"), [([0xAA, 0x55], b"\xaaU"), ("BM", b"BM"), ("\0", b"\0"), ("é", b"\xc3\xa9")])
def test_bytes_as_a_list_or_a_text(raw: Any, wanted: bytes) -> None:
    assert plain_bytes(raw, None) == wanted
    assert marker(raw, None) == wanted


def test_open_bits() -> None:
    found = marker([0xA5, "1100...."], None)
    assert isinstance(found, OpenMarker)
    assert str(found) == "10100101 1100...."
    pattern = Pattern(found)
    assert [byte for byte in range(256) if pattern.match(bytes([0xA5, byte]))] == list(range(0xC0, 0xD0))
    assert marker(["11000000"], None) == b"\xc0", "a byte without open bits is a byte"


def test_an_empty_line() -> None:
    assert line_start("", None) == b""
    assert line_start("/", None) == b"/"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ([256], "expected bytes such as [0xAA, 0x55] or a string (each from 0 to 255), found the number 256 in the list"),
        ([], "expected bytes such as [0xAA, 0x55] or a string, found an empty list"),
        (
            "ff 01 86",
            'expected bytes such as [0xAA, 0x55] or a string, found "ff 01 86" in hex; write [0xFF, 0x01, 0x86]',
        ),
        (["0xC."], 'expected 0 to 255, or eight characters of 0, 1 and ., found "0xC." at [0]; write "1100...."'),
        ([1, "abc"], 'expected 0 to 255, or eight characters of 0, 1 and ., found "abc" at [1]'),
    ],
)
def test_what_is_no_marker(raw: Any, text: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        marker(raw, None)
    assert str(error.value) == text
