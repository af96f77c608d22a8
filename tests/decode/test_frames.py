from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import Frame
from edged.decode.checksums import Checksum
from edged.decode.frames import FrameScanner, LineFramer
from edged.decode.refusals import MAX_RECORDS
from edged.decode.shapes import Sized
from edged.notation.markers import OpenMarker
from edged.records import Reject
from tests.support.decode_plans import chopped, reasons, refused

CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def lines_of(framer: LineFramer, chunks: list[bytes], end: bytes = b"\n") -> tuple[list[bytes], list[Reject]]:
    lines, rejects = [], []
    for chunk in chunks:
        parts, refused = framer.feed(chunk)
        lines += [line for part in parts for line in part.blob.split(end)[:-1]]
        rejects += refused
    return lines, rejects


def test_lines_wait_for_their_end() -> None:
    framer = LineFramer(b"\n", 100)
    assert framer.feed(b"1,2") == ([], [])
    assert framer.pending == 3
    assert lines_of(framer, [b"\n3", b"\n"]) == ([b"1,2", b"3"], [])
    assert framer.pending == 0


def test_a_line_without_end_is_one_reject_and_holds_nothing() -> None:
    framer = LineFramer(b"\n", 100)
    rejects, most = [], 0
    for _ in range(2000):
        rejects += framer.feed(b"x" * 64)[1]
        most = max(most, framer.pending)
    assert reasons(rejects) == ["too_large"]
    assert most <= 101
    assert lines_of(framer, [b"x\n1,2\n"]) == ([b"1,2"], [])


def test_a_line_of_just_the_limit_passes_with_cr() -> None:
    framer = LineFramer(b"\n", 4)
    assert lines_of(framer, [b"1234\r\n", b"12345\n", b"1234\n"]) == (
        [b"1234\r", b"1234"],
        [lines_of(LineFramer(b"\n", 4), [b"12345\n"])[1][0]._replace(offset=6)],
    )


@given(
    st.lists(st.binary(max_size=14).map(lambda b: b.replace(b"\n", b"").replace(b";", b"")), max_size=12),
    st.sampled_from([b"\n", b"\r\n", b";", b";;", b"\n\n"]),
    CUTS,
)
def test_any_chopping_gives_the_same_lines_and_rejects(bodies: list[bytes], end: bytes, cuts: list[int]) -> None:
    data = b"".join(body + end for body in bodies) + b"rest"
    whole = lines_of(LineFramer(end, 9), [data], end)
    for chunks in (chopped(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        framer = LineFramer(end, 9)
        assert lines_of(framer, chunks, end)[0] == whole[0]
        framer = LineFramer(end, 9)
        found = lines_of(framer, chunks, end)[1]
        assert refused(found) == refused(whole[1])
        told = min(len(found), len(whole[1]), MAX_RECORDS)
        assert [(r.reason, r.offset) for r in found[:told]] == [(r.reason, r.offset) for r in whole[1][:told]]
        assert framer.pending <= 9 + len(end)


def scanner(checksum: Checksum | None, **keys: Any) -> FrameScanner:
    return FrameScanner(Sized(Frame(**keys), checksum, 300))


def scanned(frames: FrameScanner, chunks: list[bytes]) -> tuple[list[bytes], list[tuple[str, int]]]:
    payloads, rejects = [], []
    for chunk in chunks:
        found, refused = frames.feed(chunk)
        payloads += found.payloads
        rejects += [(reject.reason, reject.offset) for reject in refused]
    return payloads, rejects


@pytest.mark.parametrize(
    ("keys", "frame", "payload"),
    [
        ({"type": "fixed", "size": 5, "sync": b"\xaa"}, b"\xaa1234", b"1234"),
        ({"type": "fixed", "size": 4}, b"1234", b"1234"),
        ({"type": "length", "sync": b"\xaa\x55", "length": "uint8"}, b"\xaa\x55\x03abc", b"abc"),
        ({"type": "length", "sync": b"\xaa", "length": "uint16", "endian": "big"}, b"\xaa\x00\x02ab", b"ab"),
        ({"type": "length", "sync": b"\xaa", "length": "uint16"}, b"\xaa\x02\x00ab", b"ab"),
        ({"type": "length", "sync": b"\xaa", "length": "uint8", "offset": 2}, b"\xaaT\x02ab", b"Tab"),
        ({"type": "length", "length": "uint32"}, b"\x02\x00\x00\x00ab", b"ab"),
    ],
)
@pytest.mark.parametrize("count", [3, 40])
def test_what_is_decoded_is_the_frame_without_the_rest(keys: dict[str, Any], frame: bytes, payload: bytes, count: int) -> None:
    assert scanned(scanner(None, **keys), [frame * count]) == ([payload] * count, [])


def test_a_frame_of_another_length_among_many_of_one() -> None:
    frames = scanner(None, type="length", sync=b"\xaa", length="uint8")
    assert scanned(frames, [b"\xaa\x02ab" * 20 + b"\xaa\x0612345\xaa" + b"\xaa\x02cd" * 20]) == (
        [b"ab"] * 20 + [b"12345\xaa"] + [b"cd"] * 20,
        [],
    )


@pytest.mark.parametrize(("counts", "length"), [("payload", 3), ("rest", 5), ("frame", 8)])
def test_what_the_length_counts(counts: str, length: int) -> None:
    checksum = Checksum("crc16-xmodem")
    body = bytes([0xAA, 0x55, length]) + b"abc"
    frames = scanner(checksum, type="length", sync=b"\xaa\x55", length="uint8", counts=counts)
    assert scanned(frames, [(body + checksum.encode(body)) * 2]) == ([b"abc"] * 2, [])


IMU = {"type": "length", "sync": b"\xaa\x55", "length": "uint8"}
CRC = Checksum("crc16-modbus", start=2)


def imu(payload: bytes) -> bytes:
    body = b"\xaa\x55" + bytes([len(payload)]) + payload
    return body + CRC.encode(body)


PAYLOADS = st.lists(st.binary(min_size=1, max_size=20), min_size=3, max_size=25)


@given(PAYLOADS, st.binary(max_size=40), CUTS)
def test_garbage_before_and_any_chopping(payloads: list[bytes], garbage: bytes, cuts: list[int]) -> None:
    data = garbage + b"".join(map(imu, payloads)) + b"\0" * 300
    whole = scanned(scanner(CRC, **IMU), [data])
    assert whole[0][-len(payloads) :] == payloads
    assert scanned(scanner(CRC, **IMU), chopped(data, cuts)) == whole
    assert scanned(scanner(CRC, **IMU), [bytes(data[i : i + 1]) for i in range(len(data))]) == whole


@given(PAYLOADS, st.integers(0, 100_000), st.sampled_from(["flip", "drop", "insert"]), st.integers(1, 255))
def test_one_wrong_byte_costs_at_most_one_frame(payloads: list[bytes], at: int, fault: str, other: int) -> None:
    data = b"".join(map(imu, payloads))
    at %= len(data)
    middle = {"flip": bytes([data[at] ^ other]), "drop": b"", "insert": bytes([other, data[at]])}[fault]
    found, rejects = scanned(scanner(CRC, **IMU), [data[:at] + middle + data[at + 1 :], b"\0" * 300])
    assert len(found) >= len(payloads) - 1
    kept = iter(payloads)
    assert all(any(payload == one for one in kept) for payload in found), "what is accepted was sent, in this order"
    assert len(rejects) <= 3


@given(
    st.lists(st.binary(min_size=16, max_size=16), min_size=20, max_size=25),
    st.integers(0, 100_000),
    st.binary(min_size=64, max_size=64),
)
def test_a_hole_or_burst_of_64_bytes_costs_at_most_five_frames(payloads: list[bytes], at: int, burst: bytes) -> None:
    data = b"".join(map(imu, payloads))
    at %= len(data) - 64
    for broken in (data[:at] + data[at + 64 :], data[:at] + burst + data[at + 64 :], data[:at] + burst + data[at:]):
        found, _ = scanned(scanner(CRC, **IMU), [broken, b"\0" * 300])
        assert len([payload for payload in found if payload in payloads]) >= len(payloads) - 5


def test_a_damaged_length_does_not_swallow_the_frames_behind_it() -> None:
    good = imu(b"abcdef")
    false = b"\xaa\x55\xff" + good[3:]
    found, rejects = scanned(scanner(CRC, **IMU), [good + false + good * 40])
    assert found == [b"abcdef"] * 41
    assert rejects == [("checksum", len(good))]


def test_without_a_marker_it_slides_to_the_next_good_checksum() -> None:
    checksum = Checksum("crc16-xmodem", 0)
    frames = [body + checksum.encode(body) for body in (b"%06d" % n for n in range(20))]
    found, rejects = scanned(scanner(checksum, type="fixed", size=8), [b"xyz" + b"".join(frames)])
    assert found == [b"%06d" % n for n in range(20)]
    assert rejects == [("checksum", 0)]


def test_noise_is_one_reject_until_a_good_frame_and_holds_little() -> None:
    frames = scanner(CRC, **IMU)
    rejects = []
    for _ in range(100):
        rejects += frames.feed(bytes(range(128)))[1]
        assert frames.pending <= 1
    assert reasons(rejects) == ["no_frame"]
    assert scanned(frames, [imu(b"abc")])[0] == [b"abc"]
    assert scanned(frames, [b"????", imu(b"abc")]) == ([b"abc"], [("no_frame", 12800 + len(imu(b"abc")))])


def test_a_length_that_cannot_be() -> None:
    frames = scanner(None, type="length", sync=b"\xaa", length="uint16")
    found, rejects = frames.feed(b"\xaa\xff\xff12\xaa\x02\x00ab")
    assert found.payloads == [b"ab"]
    assert reasons(rejects) == ["too_large"]
    frames.reset()
    assert frames.pending == 0


def test_half_of_the_frames_bad() -> None:
    bad = bytearray(imu(b"abcdef"))
    bad[5] ^= 1
    found, rejects = scanner(CRC, **IMU).feed((imu(b"abcdef") + bytes(bad)) * 3000)
    assert len(found.payloads) == 3000
    assert refused(rejects) == {"checksum": 3000}
    assert len(rejects) == MAX_RECORDS + 1


def test_frames_that_pass_with_other_settings_say_so() -> None:
    _, rejects = scanner(Checksum("crc16-modbus"), **IMU).feed(imu(b"abcdef"))
    assert rejects[0].detail.endswith("; it passes with start = 2")
    _, rejects = scanner(Checksum("crc16-modbus", 2, "big"), **IMU).feed(imu(b"abcdef"))
    assert rejects[0].detail.endswith('; it passes with start = 2, endian = "little"')
    frames = scanner(CRC, **IMU)
    _, rejects = frames.feed(imu(b"abcdef") + imu(b"abcdef").replace(b"c", b"x"))
    assert "passes" not in rejects[0].detail


OPEN = OpenMarker(("10100000", "1100...."))


@pytest.mark.parametrize(
    ("keys", "frame", "payload"),
    [
        ({"type": "fixed", "size": 5, "sync": b"\xaa", "tail": b"\x55"}, b"\xaa123\x55", b"123"),
        ({"type": "fixed", "size": 5, "sync": OPEN}, b"\xa0\xc5123", b"\xa0\xc5123"),
        ({"type": "fixed", "size": 5, "tail": OPEN}, b"123\xa0\xcf", b"123\xa0\xcf"),
        ({"type": "length", "sync": b"\xaa", "length": "uint8", "extra": 1, "tail": b"\r\n"}, b"\xaa\x02abc\r\n", b"abc"),
        ({"type": "length", "sync": b"\xaa", "length": "uint8", "extra": -1}, b"\xaa\x04abc", b"abc"),
        ({"type": "length", "sync": OPEN, "length": "uint8", "offset": 3}, b"\xa0\xc1T\x02ab", b"\xa0\xc1Tab"),
    ],
)
def test_tail_extra_and_open_bits(keys: dict[str, Any], frame: bytes, payload: bytes) -> None:
    for checksum in (None, Checksum("sum8")):
        tail = len(keys.get("tail", b""))
        body, end = frame[: len(frame) - tail], frame[len(frame) - tail :]
        whole = frame if checksum is None else body + checksum.encode(body) + end
        extra = {"size": keys["size"] + 1} if checksum is not None and "size" in keys else {}
        for count in (3, 40):  # one by one, and as rows
            data = whole * count
            found = scanned(scanner(checksum, **{**keys, **extra}), [b"?" + data])
            assert found == ([payload] * count, [("no_frame", 0)])
            chopped_up = [data[i : i + 1] for i in range(len(data))]
            assert scanned(scanner(checksum, **{**keys, **extra}), chopped_up) == ([payload] * count, [])


def test_a_frame_that_fails_its_tail_gives_its_bytes_back() -> None:
    frame = b"\xa0" + bytes(5) + b"\xc0"
    keys = {"type": "fixed", "size": 7, "sync": b"\xa0", "tail": OpenMarker(("1100....",))}
    for count in (2, 50):
        found, rejects = scanned(scanner(None, **keys), [b"\xa0\x01\x02" + frame * count])
        assert found == [bytes(5) + b"\xc0"] * count
        assert rejects == [("no_frame", 0)]
    _, refused = scanner(None, **keys).feed(b"\xa0\x01\x02" + frame)
    assert refused[0].detail == "expected the end marker 1100.... after 7 bytes, found 00"


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=18, max_size=40), st.integers(0, 17 * 7), st.integers(1, 255), CUTS)
def test_a_flipped_byte_among_many_is_the_same_however_it_comes(
    bodies: list[bytes], at: int, other: int, cuts: list[int]
) -> None:
    checksum = Checksum("sum16", 1)
    frames = [b"\x59" + body + checksum.encode(b"\x59" + body) for body in bodies]
    data = bytearray(b"".join(frames))
    data[at] ^= other
    keys = {"type": "fixed", "size": 7, "sync": b"\x59"}
    whole = scanned(scanner(checksum, **keys), [bytes(data)])
    assert len(whole[0]) >= len(bodies) - 1
    assert scanned(scanner(checksum, **keys), [bytes(data[i : i + 1]) for i in range(len(data))]) == whole
    assert scanned(scanner(checksum, **keys), chopped(bytes(data), cuts)) == whole
