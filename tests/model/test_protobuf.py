from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.model.protobuf import BYTES, FIXED32, FIXED64, VARINT, Wire, tag, varint


def fields(folder: Path, data: bytes) -> list[tuple[int, int, int | bytes]]:
    path = folder / "f"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        wire = Wire(fd, len(data))
        return [(n, w, a if w == VARINT else wire.read(a, b)) for n, w, a, b in wire.fields(0, len(data))]
    finally:
        os.close(fd)


def test_each_wire_type(tmp_path: Path) -> None:
    data = tag(1, VARINT) + varint(300) + tag(2, FIXED64) + bytes(8) + tag(3, BYTES) + b"\2ab" + tag(4, FIXED32) + bytes(4)
    assert fields(tmp_path, data) == [(1, VARINT, 300), (2, FIXED64, bytes(8)), (3, BYTES, b"ab"), (4, FIXED32, bytes(4))]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (varint(8 | 1 << 32) + b"\0", "its tag has more than 32 bits"),
        (b"\x88\x80\x80\x80\x80\x00\0", "its tag has more than 32 bits"),  # 6 bytes for 32 bits
        (b"\0\0", "its tag has more than 32 bits, or is 0"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number of more than 64 bits"),
        (b"\x08" + b"\xff" * 11, "cut off, or no protobuf"),
        (b"\x0a\x05abc", "cut off, or no protobuf"),
        (b"\x0b\x0c", "no protobuf at byte 1"),  # a group
        (b"\x0e", "no protobuf"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fields(tmp_path, data)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(10))
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    os.truncate(tmp_path / "f", 5)
    with pytest.raises(ValueError, match="became shorter"):
        Wire(fd, 10).read(0, 10)
    os.close(fd)


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_are_written_in_their_shortest_form(number: int) -> None:
    data = varint(number)
    assert len(data) == max(1, -(-number.bit_length() // 7))
    assert sum((byte & 0x7F) << 7 * i for i, byte in enumerate(data)) == number
