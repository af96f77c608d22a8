from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import schema
from edged.decode.checksums import FEW, KINDS, LINES, WIDTHS, Checksum, line_proof, nmea_bodies, teleinfo_bodies

CHECK = b"123456789"


def first_bad(checksum: Checksum, frames: list[bytes]) -> int:
    return [*checksum.right(frames), False].index(False)


VALUES = {
    "sum8": 0xDD,
    "neg8": 0x23,
    "inv8": 0x22,
    "sum15": 0x01DD,
    "sum16": 0x01DD,
    "neg16": 0xFE23,
    "inv16": 0xFE22,
    "xor8": 0x31,
    "fletcher8": 0x15 << 8 | 0xDD,
    "crc16-arc": 0xBB3D,
    "crc16-modbus": 0x4B37,
    "crc16-ccitt-false": 0x29B1,
    "crc16-xmodem": 0x31C3,
    "crc16-kermit": 0x2189,
    "crc16-x25": 0x906E,
    "crc16-mcrf4xx": 0x6F91,
    "crc32": 0xCBF43926,
}
"""Of "123456789": those of CRCs are the check values of the catalogue."""


@pytest.mark.parametrize("name", KINDS)
def test_check_values(name: str) -> None:
    assert Checksum(name).value(CHECK) == VALUES[name]


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"type": "crc8"}, 0xF4),
        ({"type": "crc8", "poly": 0x31, "reflect": True}, 0xA1),  # maxim-dow
        ({"type": "crc8", "poly": 0x07, "init": 0xFF, "reflect": True}, 0xD0),  # rohc
        ({"type": "crc8", "poly": 0x07, "xor": 0x55}, 0xA1),  # i-432-1
        ({"type": "crc16", "poly": 0x8005}, 0xFEE8),  # umts
        ({"type": "crc16", "poly": 0x3D65, "xor": 0xFFFF, "reflect": True}, 0xEA82),  # dnp
    ],
)
def test_crcs_by_their_parameters(settings: dict[str, Any], value: int) -> None:
    checksum = Checksum.of(schema.Checksum(**settings))
    assert checksum is not None
    assert checksum.value(CHECK) == value
    frames = [checksum_frame(checksum, b"%02d" % n * 11) for n in range(30)]
    assert first_bad(checksum, frames) == 30


def test_every_checksum_of_the_schema_is_in_the_table() -> None:
    named = get_args(get_type_hints(schema.Checksum)["type"])
    assert {*named} == {"none", *LINES, *WIDTHS, *KINDS}


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("crc16-modbus", "37 4b"),
        ("crc16-arc", "3d bb"),
        ("crc16-ccitt-false", "29 b1"),
        ("crc16-xmodem", "31 c3"),
        ("crc16-kermit", "89 21"),
        ("sum16", "01 dd"),
        ("crc32", "26 39 f4 cb"),
    ],
)
def test_order_of_bytes_on_the_wire(name: str, tail: str) -> None:
    assert Checksum(name).encode(CHECK).hex(" ") == tail
    other = "big" if Checksum(name).encode(CHECK) == Checksum(name, endian="little").encode(CHECK) else "little"
    assert Checksum(name, endian=other).encode(CHECK) == bytes.fromhex(tail)[::-1]


def test_fletcher_is_sent_with_the_plain_sum_first() -> None:
    assert Checksum("fletcher8", start=2).encode(bytes.fromhex("b5 62 01 07 00 00")).hex() == "0819"


def test_hex_digits() -> None:
    checksum = Checksum("crc16-arc", encoding="hex")
    assert checksum.encode(CHECK) == b"BB3D"
    assert checksum.is_right(CHECK + b"BB3D")
    assert checksum.is_right(CHECK + b"bb3d")
    assert not checksum.is_right(CHECK + b"BB3E")
    assert not checksum.is_right(CHECK + b"+B3D")
    assert not checksum.is_right(b"B3D")
    assert checksum.wrong(CHECK + b"\x80B3D") == "crc16-arc is 0xbb3d, the frame says b'\\x80B3D', no hex digits"


def checksum_frame(checksum: Checksum, body: bytes) -> bytes:
    return body + checksum.encode(body)


@pytest.mark.parametrize("name", [*KINDS])
@pytest.mark.parametrize("length", [1, 2, 3, 31, 32, 33, 255, 256, 257, 258, 511, 513, 1500])
def test_long_and_short_frames_one_by_one_and_together(name: str, length: int) -> None:
    """What is computed together is the loop's: bytes after each other."""
    checksum = Checksum(name)
    bodies = [bytes((n * 7 + i * i) & 0xFF for i in range(length)) for n in range(FEW)]
    rows = np.frombuffer(b"".join(bodies), np.uint8).reshape(FEW, length)
    assert KINDS[name].many(rows).tolist() == [_slowly(name, body) for body in bodies]
    assert first_bad(checksum, [checksum_frame(checksum, body) for body in bodies]) == FEW


def _slowly(name: str, body: bytes) -> int:
    """In pieces that are short enough for the plain loop, as far as a checksum can be continued."""
    if not name.startswith("crc16"):
        return KINDS[name].one(body)
    crc = KINDS[name].one.args[0]  # type: ignore[attr-defined]
    state = crc.init
    for byte in body:
        state = KINDS[name].one.func(crc._replace(init=state, xor=0), bytes([byte]))  # type: ignore[attr-defined]
    return int(state ^ crc.xor)


def test_start_leaves_the_first_bytes_out() -> None:
    checksum = Checksum("crc16-modbus", start=2)
    assert checksum.encode(b"\xaa\x55" + CHECK) == Checksum("crc16-modbus").encode(CHECK)
    frame = b"\xaa\x55" + CHECK
    assert first_bad(checksum, [frame + checksum.encode(frame)]) == 1


@given(
    st.sampled_from([*KINDS]),
    st.integers(0, 5),
    st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=40),
    st.integers(0, 39),
)
def test_many_frames_at_once_are_judged_as_each_alone(name: str, start: int, bodies: list[bytes], hit: int) -> None:
    checksum = Checksum(name, start)
    frames = [body + checksum.encode(body) for body in bodies]
    assert first_bad(checksum, frames) == len(frames)
    hit %= len(frames)
    frames[hit] = frames[hit][:7] + bytes([frames[hit][7] ^ 0x10]) + frames[hit][8:]
    assert first_bad(checksum, frames) == hit
    assert first_bad(checksum, frames[hit : hit + 1]) == 0


def test_frames_of_different_lengths() -> None:
    checksum = Checksum("crc16-kermit")
    frames = [body + checksum.encode(body) for body in (b"x" * n for n in range(1, 20))]
    assert first_bad(checksum, frames) == len(frames)


def test_none_is_no_checksum() -> None:
    assert Checksum.of(schema.Checksum()) is None
    assert line_proof(schema.Checksum()) is None


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
    assert nmea_bodies([line]) == [body]
    assert nmea_bodies([line] * 40) == [body] * 40


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"ADCO 000000000000 W", b"ADCO 000000000000"),
        (b"PTEC TH.. $", b"PTEC TH.."),
        (b"PAPP 05400 +", None),
        (b"PAPP 05400", None),
        (b"VTIC\t02\tJ", b"VTIC\t02"),
        (b"", None),
        (b"\x02", None),
    ],
)
def test_teleinfo(line: bytes, body: bytes | None) -> None:
    assert teleinfo_bodies([line]) == [body]
