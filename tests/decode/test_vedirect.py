import random

import pytest

from edged.decode.vedirect import VeDirect
from tests.support.decode_plans import reasons


def block(*fields: tuple[str, object]) -> bytes:
    body = b"".join(f"\r\n{label}\t{value}".encode() for label, value in fields) + b"\r\nChecksum\t"
    return body + bytes([-sum(body) & 0xFF])


def fed(data: bytes, size: int = 1 << 20, is_midway: bool = False) -> tuple[list[bytes], list[str]]:
    framer, payloads, rejects = VeDirect(2000), [], []
    framer.reset(is_midway)
    for at in range(0, len(data), size):
        found, refused = framer.feed(data[at : at + size])
        payloads += found.payloads
        rejects += refused
    return payloads, reasons(rejects)


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_every_checksum_byte(size: int) -> None:
    """Among them CR, LF, a tab, a colon and the digits."""
    data, wanted, seen = b"", [], set()
    for volts in range(12_000, 12_400):
        for amps in (volts % 7, 100 + volts % 50):
            one = block(("V", volts), ("I", amps))
            seen.add(one[-1])
            data += one
            wanted.append(f"V\t{volts}\nI\t{amps}".encode())
    assert {10, 13, 9, 58, *range(48, 58)} & seen
    assert fed(data, size) == (wanted, [])


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_messages_in_hex_stand_anywhere(size: int) -> None:
    good, message = block(("V", 12_800), ("SER#", "HQ1"), ("OR", "0x00")), b":A0002000148\n"
    generator = random.Random(5)
    data, count = b"", 60
    for _ in range(count):
        at = generator.randrange(len(good) - 1)
        data += good[:at] + message + good[at:]
    assert fed(data, size) == ([b"V\t12800\nSER#\tHQ1\nOR\t0x00"] * count, [])


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_damaged_block_costs_itself(size: int) -> None:
    one, two = block(("V", 12_800), ("I", 5)), block(("V", 12_801), ("I", 6))
    bad = one.replace(b"12800", b"16800")
    assert fed(one + bad + two, size) == ([b"V\t12800\nI\t5", b"V\t12801\nI\t6"], ["checksum"])


def test_what_stands_before_the_first_block_costs_nothing() -> None:
    good = block(("V", 12_800), ("I", 5))
    assert fed(b"\xfejunk\r\n\x00" + good * 2) == ([b"V\t12800\nI\t5"] * 2, ["no_frame"])
    for cut in range(1, len(good)):
        found, why = fed(good[cut:] + good * 2, is_midway=True)
        assert found[-2:] == [b"V\t12800\nI\t5"] * 2
        assert set(found) == {b"V\t12800\nI\t5"} or cut == good.index(b"\r\nI")
        assert set(why) <= {"partial"}


def test_what_never_ends_is_not_held() -> None:
    framer = VeDirect(200)
    rejects = []
    for _ in range(100):
        rejects += framer.feed(b"\r\nV\t1" * 10)[1]
        assert framer.pending <= 200
    assert set(reasons(rejects)) == {"too_large"}
