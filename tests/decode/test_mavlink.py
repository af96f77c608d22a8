import struct

import pytest

from edged.decode.checksums import KINDS
from edged.decode.frames import FrameScanner
from edged.decode.mavlink import Mavlink
from tests.support.decode_plans import refused

ATTITUDE, CRC_EXTRA = 30, 39
CRC = KINDS["crc16-mcrf4xx"].one


def v1(id: int, payload: bytes, extra: int = CRC_EXTRA) -> bytes:
    head = bytes([len(payload), 7, 1, 2, id])
    return b"\xfe" + head + payload + struct.pack("<H", CRC(head + payload + bytes([extra])))


def v2(id: int, payload: bytes, extra: int = CRC_EXTRA, is_signed: bool = False) -> bytes:
    head = bytes([len(payload), is_signed, 0, 7, 1, 2]) + id.to_bytes(3, "little")
    end = b"s" * 13 if is_signed else b""
    return b"\xfd" + head + payload + struct.pack("<H", CRC(head + payload + bytes([extra]))) + end


def scanned(data: bytes, size: int) -> tuple[list[bytes], dict[str, int]]:
    scanner, payloads, rejects = FrameScanner(Mavlink({ATTITUDE: CRC_EXTRA})), [], []
    for at in range(0, len(data), size):
        found, refusals = scanner.feed(data[at : at + size])
        payloads += found.payloads
        rejects += refusals
    return payloads, dict(refused(rejects))


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_both_versions_and_others_in_between(size: int) -> None:
    data = v1(ATTITUDE, b"abc") + v2(0, b"heartbeat", 50) + v2(ATTITUDE, b"def", is_signed=True) + v1(0, b"x" * 9, 50)
    payloads, rejects = scanned(data + v2(ATTITUDE, b"ghi"), size)
    assert payloads == [b"\x01\x02\x1e\x00\x00" + text for text in (b"abc", b"def", b"ghi")]
    assert rejects == {"other": 2}


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_damaged_length_swallows_no_good_frame(size: int) -> None:
    good = v1(ATTITUDE, b"abc")
    bad = bytearray(good)
    bad[1] = 200
    payloads, rejects = scanned(bytes(bad) + good * 30, size)
    assert len(payloads) == 30
    assert rejects == {"checksum": 1}
    flipped = bytearray(v2(ATTITUDE, b"abc"))
    flipped[11] ^= 1
    assert scanned(b"junk" + bytes(flipped) + good, size)[0] == [b"\x01\x02\x1e\x00\x00abc"]


def test_a_message_that_cannot_be_proved_is_none_where_no_frame_follows() -> None:
    data = b"\xfe\xc8" + v1(ATTITUDE, b"abc") * 20
    assert len(scanned(data, 1 << 20)[0]) == 20


@pytest.mark.parametrize(
    "begun", [b"\xfe", b"\xfe\x50\x07\x01\x02\x1e", b"\xfe\x50\x07\x01\x02\x63", b"\xfd\x50\x00\x00\x07\x01\x02\x1e"]
)
def test_a_frame_that_was_only_begun_gives_way_to_the_whole_one_behind_it(begun: bytes) -> None:
    """Whatever it says its message is, and however little of it came."""
    scanner = FrameScanner(Mavlink({ATTITUDE: CRC_EXTRA}))
    found, rejects = scanner.feed(begun + v1(ATTITUDE, b"abc"))
    if not found.payloads:
        found, more = scanner.quiet()
        rejects += more
    assert found.payloads == [b"\x01\x02\x1e\x00\x00abc"]
    assert len(rejects) == 1
    assert scanner.pending == 0
