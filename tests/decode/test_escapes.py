import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.decode.checksums import Checksum
from edged.decode.escapes import COBS, DLE_STX, HDLC, SLIP, BadEscape, Code, Delimited, Dle
from tests.support.decode_plans import chopped, reasons, refused

BODIES = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def cobs(body: bytes) -> bytes:
    """As Cheshire and Baker have it."""
    out, block = bytearray(), bytearray()
    for byte in body:
        if byte:
            block.append(byte)
        if not byte or len(block) == 254:
            out += bytes([len(block) + 1]) + block
            block.clear()
    return bytes(out + bytes([len(block) + 1]) + block)


def slip(body: bytes) -> bytes:
    return body.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")


def dle(body: bytes) -> bytes:
    return b"\x10\x02" + body.replace(b"\x10", b"\x10\x10") + b"\x10\x03"


def fed(framer: Any, chunks: list[bytes]) -> tuple[list[bytes], list[Any]]:
    payloads, rejects = [], []
    for chunk in chunks:
        found, refused = framer.feed(chunk)
        payloads += found.payloads
        rejects += refused
    return payloads, rejects


@given(BODIES, CUTS)
def test_cobs(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(cobs(body) + b"\0" for body in bodies)
    framer = Delimited(COBS, None, 1000)
    payloads, rejects = fed(framer, chopped(data, cuts))
    assert payloads == bodies
    assert not rejects


@given(BODIES, CUTS)
def test_slip_with_a_delimiter_at_both_ends(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(b"\xc0" + slip(body) + b"\xc0" for body in bodies)
    payloads, rejects = fed(Delimited(SLIP, None, 1000), chopped(data, cuts))
    assert payloads == bodies
    assert not rejects


@given(BODIES, CUTS)
def test_dle(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(dle(body) for body in bodies)
    payloads, rejects = fed(Dle(DLE_STX, None, 1000), chopped(data, cuts))
    assert payloads == bodies
    assert not rejects


def test_examples_of_the_papers() -> None:
    assert COBS.one(b"\x03\x11\x22\x02\x33") == b"\x11\x22\x00\x33"
    assert COBS.one(b"\x01\x01\x01") == b"\x00\x00"
    assert COBS.one(b"\xff" + b"x" * 254) == b"x" * 254
    assert SLIP.one(b"\xdb\xdc\xdb\xdd") == b"\xc0\xdb"
    assert HDLC.one(b"\x00\x7d\x5e\x7d\x5d\x7d\x31") == b"\x00\x7e\x7d\x11"


@pytest.mark.parametrize(("code", "coded"), [(COBS, b"\x05ab"), (SLIP, b"\xdbx"), (SLIP, b"a\xdb"), (HDLC, b"a\x7d")])
def test_what_cannot_have_been_sent_so(code: Code, coded: bytes) -> None:
    with pytest.raises(BadEscape):
        code.one(coded)
    payloads, rejects = fed(Delimited(code, None, 100), [coded + code.end + b"\x02a" + code.end])
    assert reasons(rejects) == ["no_frame"]
    assert len(payloads) == 1


def hdlc(body: bytes) -> bytes:
    return body.replace(b"\x7d", b"\x7d\x5d").replace(b"~", b"\x7d\x5e")


@pytest.mark.parametrize(("code", "encode"), [(COBS, cobs), (SLIP, slip), (HDLC, hdlc)])
@pytest.mark.parametrize("longest", [9, 300])
@pytest.mark.parametrize("damaged", [0, 1, 40])
def test_many_frames_of_a_read_are_as_each_alone(code: Code, encode: Any, longest: int, damaged: int) -> None:
    generator = random.Random(longest + damaged)
    checksum = Checksum("sum8")
    bodies = [generator.randbytes(generator.randint(1, longest)).replace(b"\x07", b"\0") for _ in range(300)]
    frames = [encode(body + checksum.encode(body)) + code.end for body in bodies]
    for at in generator.sample(range(300), damaged):
        frame = frames[at]
        frames[at] = bytes([generator.randrange(256)]) + frame[generator.randrange(3) :]
    together = fed(Delimited(code, checksum, 1000), [b"".join(frames)])
    alone = fed(Delimited(code, checksum, 1000), frames)
    assert together[0] == alone[0]
    assert refused(together[1]) == refused(alone[1])
    assert damaged or together[0] == bodies


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_the_checksum_lies_within_the_escapes(size: int) -> None:
    checksum = Checksum("sum8")
    bodies = [bytes([n, 0x10, 0x10]) for n in range(40)]
    frames = [dle(body + checksum.encode(body)) for body in bodies]
    bad = bytearray(frames[3])
    bad[2] ^= 0x40
    data = b"\x03junk" + b"".join([*frames[:3], bytes(bad), *frames[4:]])
    payloads, rejects = fed(Dle(DLE_STX, checksum, 100), [data[i : i + size] for i in range(0, len(data), size)])
    assert payloads == [*bodies[:3], *bodies[4:]]
    assert reasons(rejects) == ["no_frame", "checksum"]


def test_where_bad_frames_began() -> None:
    checksum = Checksum("sum8")
    good, bad = dle(b"ab" + checksum.encode(b"ab")), dle(b"abc")
    data = b"x\x10\x10" + bad + good + bad
    assert [reject.offset for reject in fed(Dle(DLE_STX, checksum, 100), [data])[1]] == [0, 1, 3 + len(bad + good)]


def test_a_frame_that_is_cut_off_costs_no_other() -> None:
    data = dle(b"abc")[:-2] + dle(b"d\x10f") + dle(b"ghi")
    payloads, rejects = fed(Dle(DLE_STX, None, 100), [data])
    assert payloads == [b"d\x10f", b"ghi"]
    assert reasons(rejects) == ["no_frame"]


def test_without_stx_any_byte_begins_a_frame() -> None:
    data = b"\x10\x84a\x10\x10b\x10\x03\x10\x46cd\x10\x03"
    assert fed(Dle(b"\x10", None, 100), [data])[0] == [b"\x84a\x10b", b"\x46cd"]


def test_what_never_ends_is_refused_and_not_held() -> None:
    framer = Dle(DLE_STX, None, 50)
    payloads, rejects = fed(framer, [b"\x10\x02", *[b"x" * 40] * 50, b"\x10\x03", dle(b"ok")])
    assert payloads == [b"ok"]
    assert set(reasons(rejects)) <= {"too_large", "no_frame"}
    assert framer.pending < 200
