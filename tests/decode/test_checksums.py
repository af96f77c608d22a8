import zlib
from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.decode.checksums import CRC16, Checksum, crc16, nmea_body

CHECK = b"123456789"


@pytest.mark.parametrize(
    ("name", "value"),
    [("crc16-modbus", 0x4B37), ("crc16-ccitt-false", 0x29B1), ("crc16-xmodem", 0x31C3), ("crc16-kermit", 0x2189)],
)
def test_standard_check_values(name: str, value: int) -> None:
    assert crc16(name, CHECK) == value
    assert Checksum(name).value(CHECK) == value


def test_crc32_and_xor() -> None:
    assert Checksum("crc32").value(CHECK) == 0xCBF43926 == zlib.crc32(CHECK)
    assert Checksum("xor8").value(CHECK) == reduce(xor, CHECK)


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("crc16-modbus", "37 4b"),
        ("crc16-ccitt-false", "29 b1"),
        ("crc16-xmodem", "31 c3"),
        ("crc16-kermit", "89 21"),
        ("crc32", "26 39 f4 cb"),
    ],
)
def test_order_of_bytes_on_the_wire(name: str, tail: str) -> None:
    assert Checksum(name).encode(CHECK).hex(" ") == tail
    other = "big" if Checksum(name).encode(CHECK) == Checksum(name, endian="little").encode(CHECK) else "little"
    assert Checksum(name, endian=other).encode(CHECK) == bytes.fromhex(tail)[::-1]


def test_start_leaves_the_first_bytes_out() -> None:
    checksum = Checksum("crc16-modbus", start=2)
    assert checksum.encode(b"\xaa\x55" + CHECK) == Checksum("crc16-modbus").encode(CHECK)
    frame = b"\xaa\x55" + CHECK
    assert checksum.first_bad([frame + checksum.encode(frame)]) == 1


@given(
    st.sampled_from([*CRC16, "xor8", "crc32"]),
    st.integers(0, 5),
    st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=40),
    st.integers(0, 39),
)
def test_many_frames_at_once_are_judged_as_each_alone(name: str, start: int, bodies: list[bytes], hit: int) -> None:
    checksum = Checksum(name, start)
    frames = [body + checksum.encode(body) for body in bodies]
    assert checksum.first_bad(frames) == len(frames)
    hit %= len(frames)
    frames[hit] = frames[hit][:7] + bytes([frames[hit][7] ^ 0x10]) + frames[hit][8:]
    assert checksum.first_bad(frames) == hit
    assert checksum.first_bad(frames[hit : hit + 1]) == 0


def test_frames_of_different_lengths() -> None:
    checksum = Checksum("crc16-kermit")
    frames = [body + checksum.encode(body) for body in (b"x" * n for n in range(1, 20))]
    assert checksum.first_bad(frames) == len(frames)


def test_none_accepts_everything() -> None:
    assert Checksum("none").first_bad([b"a", b""]) == 2


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"$GPGLL,5057.970,N,00146.110,E,142451,A*27", b"GPGLL,5057.970,N,00146.110,E,142451,A"),
        (b"$GPGLL,5057.970,N,00146.110,E,142451,A*28", None),
        (b"1,2*1D", None),
        (b"1,2*2f", b"1,2"),
        (b"1,2*2F", b"1,2"),
        (b"1,2", None),
        (b"1,2*2", None),
        (b"*00", b""),
        (b"", None),
    ],
)
def test_nmea(line: bytes, body: bytes | None) -> None:
    assert nmea_body(line) == body
