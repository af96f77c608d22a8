import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import Checksum as ChecksumTable
from edged.config.schema import Frame
from edged.decode import DecodePlan
from edged.decode.checksums import Checksum
from edged.decode.refusals import MAX_RECORDS
from edged.decode.stream import make_stream_decoder
from edged.records import Reject
from tests.support.decode_plans import chopped, fed, field, plan, reasons, refused

CUTS = st.lists(st.integers(0, 100_000), max_size=15)


def binary() -> DecodePlan:
    return plan(
        "struct",
        *(field(name, dtype="int16", valid=(-2000, 2000)) for name in ("ax", "ay", "az")),
        frame=Frame(type="length", sync=b"\xaa\x55", length="uint8"),
        checksum=ChecksumTable(type="crc16-modbus", start=2),
    )


PLANS = {
    "csv": plan("csv", "a", "b", "c", max_bytes=200),
    "csv crlf": plan("csv", "a", "b", "c", max_bytes=200, frame=Frame(end=b"\r\n")),
    "csv ;;": plan("csv", "a", "b", "c", max_bytes=200, frame=Frame(end=b";;")),
    "csv nmea": plan("csv", "_", "a", "b", "c", max_bytes=200, checksum=ChecksumTable(type="nmea")),
    "csv time": plan("csv", "a", "t", "b", "c", time=("t", "elapsed_ms"), max_bytes=200),
    "json": plan("json", "a", "b", "c", max_bytes=200),
    "json nmea": plan("json", "a", "b", "c", max_bytes=200, checksum=ChecksumTable(type="nmea")),
    "struct": binary(),
    "raw": plan(
        "raw",
        field("x", dtype="float32", shape=(3,)),
        frame=Frame(type="fixed", size=14, sync=b"\xa5"),
        checksum=ChecksumTable(type="xor8"),
        max_bytes=200,
    ),
}


def nmea(body: str) -> bytes:
    return b"$%b*%b\r\n" % (body.encode(), b"%02X" % Checksum("xor8").value(body.encode()))


def frame_of(kind: str, row: tuple[int, int, int]) -> bytes:
    a, b, c = row
    match kind:
        case "csv":
            return f"{a},{b},{c}.0\n".encode()
        case "csv crlf":
            return f"{a},{b},{c}\r\n".encode()
        case "csv ;;":
            return f"{a}, {b},+{abs(c)};;".encode() if c >= 0 else f"{a},{b},{c};;".encode()
        case "csv nmea":
            return nmea(f"IMU,{a},{b},{c}")
        case "csv time":
            return f"{a},17,{b},{c}\n".encode()
        case "json":
            return b'{"a":%d,"b":%d,"c":%d}\n' % row
        case "json nmea":
            return nmea(f'{{"a":{a},"b":{b},"c":{c}}}')
        case "struct":
            body = b"\xaa\x55\x06" + struct.pack("<3h", a, b, c)
            return body + Checksum("crc16-modbus", 2).encode(body)
        case _:
            body = b"\xa5" + struct.pack("<3f", a, b, c)
            return body + Checksum("xor8").encode(body)


ROWS = st.lists(st.tuples(*[st.integers(-2000, 2000)] * 3), min_size=1, max_size=20)


@pytest.mark.parametrize("kind", PLANS)
@given(rows=ROWS, cuts=CUTS, noise=st.lists(st.tuples(st.integers(0, 30), st.binary(max_size=30)), max_size=3))
def test_whole_chopped_and_byte_at_a_time_are_the_same(
    kind: str, rows: list[tuple[int, int, int]], cuts: list[int], noise: list[tuple[int, bytes]]
) -> None:
    frames = [frame_of(kind, row) for row in rows]
    for at, garbage in noise:
        frames.insert(at % (len(frames) + 1), garbage)
    data = b"".join(frames)
    whole, rejects = fed(make_stream_decoder(PLANS[kind]), [data])
    if not noise:
        assert whole.tolist() == [list(row) for row in rows]
        assert not rejects
    for chunks in (chopped(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        values, found = fed(make_stream_decoder(PLANS[kind]), chunks)
        assert values.tobytes() == whole.tobytes()
        assert refused(found) == refused(rejects)
        if sum(refused(rejects).values()) <= MAX_RECORDS:  # of more in one read, the others are one record
            assert [(r.reason, r.offset, r.detail) for r in found] == [(r.reason, r.offset, r.detail) for r in rejects]


@pytest.mark.parametrize("kind", PLANS)
@given(rows=ROWS, garbage=st.binary(max_size=60))
def test_garbage_before_a_stream_loses_nothing_behind_it(kind: str, rows: list[tuple[int, int, int]], garbage: bytes) -> None:
    end = {"csv crlf": b"\r\n", "csv ;;": b"~;;"}.get(kind, b"\n")
    data = garbage + end + b"".join(frame_of(kind, row) for row in rows)
    padding = b"\0" * 250 if kind in ("struct", "raw") else b""
    values, _ = fed(make_stream_decoder(PLANS[kind]), [data, padding])
    assert values[-len(rows) :].tolist() == [list(row) for row in rows]


@pytest.mark.parametrize("kind", ["csv", "csv nmea", "json nmea", "struct"])
@given(rows=ROWS, at=st.integers(0, 10**6), fault=st.sampled_from(["flip", "drop", "insert"]), other=st.integers(1, 255))
def test_one_wrong_byte_costs_one_frame_and_the_line_it_may_join(
    kind: str, rows: list[tuple[int, int, int]], at: int, fault: str, other: int
) -> None:
    frames = [frame_of(kind, row) for row in rows]
    data = b"".join(frames)
    at %= len(data)
    middle = {"flip": bytes([data[at] ^ other]), "drop": b"", "insert": bytes([other, data[at]])}[fault]
    values, _ = fed(make_stream_decoder(PLANS[kind]), [data[:at] + middle + data[at + 1 :], b"\0" * 300])
    lost_end = data[at : at + 1] in b"\r\n" and fault != "insert"  # two lines became one
    missing = [row for row in rows if list(row) not in values.tolist()]
    assert len(missing) <= 1 + (lost_end and kind != "struct")
    if kind != "csv":  # a checksum tells
        assert all(tuple(map(int, row)) in rows for row in values.tolist())


@pytest.mark.parametrize("kind", ["csv nmea", "json nmea", "struct"])
def test_a_generated_storm_of_faults(kind: str) -> None:
    """Thousands of faults over a long stream: what is accepted was sent, and each fault costs what it may."""
    generator = random.Random(kind)
    rows = [(i % 4001 - 2000, generator.randrange(-2000, 2000), generator.randrange(-2000, 2000)) for i in range(12_000)]
    frames = [frame_of(kind, row) for row in rows]
    allowed = 0
    out = []
    for i in range(0, len(frames), 12):
        part = b"".join(frames[i : i + 12])
        at = generator.randrange(len(part) - 64)
        match generator.randrange(6):
            case 0:
                part, cost = part[:at] + bytes([part[at] ^ generator.randrange(1, 256)]) + part[at + 1 :], 2
            case 1:
                part, cost = part[:at] + part[at + 1 :], 2
            case 2:
                part, cost = part[:at] + generator.randbytes(1) + part[at:], 1
            case 3:
                part, cost = part[:at] + part[at + 64 :], 7
            case 4:
                part, cost = part[:at] + generator.randbytes(64) + part[at:], 5
            case _:
                part, cost = part[:at] + b"\xaa\x55\xff" + part[at:], 1
        allowed += cost
        out.append(part)
    values, rejects = fed(
        make_stream_decoder(PLANS[kind]), chopped(b"".join(out), [generator.randrange(10**6) for _ in range(300)])
    )
    sent = set(rows)
    accepted = [tuple(map(int, row)) for row in values.tolist()]
    assert sum(row not in sent for row in accepted) <= 40, "an eight-bit checksum misses one fault in 256"
    if kind == "struct":
        assert all(row in sent for row in accepted)
    assert len(rows) - len(accepted) <= allowed
    assert rejects
    assert np.abs(values).max() <= 2000 if kind == "struct" else True


def test_range_is_judged_after_the_checksum() -> None:
    good, wild = frame_of("struct", (1, 2, 3)), frame_of("struct", (1, 2, 3000))
    decoder = make_stream_decoder(PLANS["struct"])
    values, rejects = fed(decoder, [good + wild + good])
    assert values.tolist() == [[1, 2, 3]] * 2
    assert [(reject.reason, reject.offset) for reject in rejects] == [("out_of_range", len(good))]


def test_a_stream_without_line_ends_is_one_reject_and_4_kib() -> None:
    decoder = make_stream_decoder(plan("csv", "a", max_bytes=4096))
    rejects: list[Reject] = []
    for _ in range(500):
        rows = decoder.feed(b"\x55" * 4096)
        rejects += rows.rejects if rows is not None else []
        assert decoder.pending <= 4097
    assert reasons(rejects) == ["too_large"]
    assert "wrong baudrate" in rejects[0].detail
    assert fed(decoder, [b"\n5\n"])[0].tolist() == [[5]]


def test_a_long_line_between_good_ones() -> None:
    values, rejects = fed(make_stream_decoder(plan("csv", "a", max_bytes=8)), [b"1\n2\n" + b"3" * 9 + b"\n4\nx\n5\n"])
    assert values.tolist() == [[1], [2], [4], [5]]
    assert [(reject.reason, reject.offset, reject.data) for reject in rejects] == [
        ("too_large", 4, b"3" * 9),
        ("not_a_number", 16, b"x"),
    ]


def test_reset_forgets_the_half_of_a_line() -> None:
    decoder = make_stream_decoder(PLANS["csv"])
    assert decoder.feed(b"1,2,3\n4,5") is not None
    assert decoder.pending == 3
    decoder.reset()
    assert decoder.pending == 0
    values, rejects = fed(decoder, [b"7,8,9\nx\n"])
    assert values.tolist() == [[7, 8, 9]]
    assert rejects[0].offset == 6


def test_nothing_to_tell() -> None:
    for kind, planned in PLANS.items():
        decoder = make_stream_decoder(planned)
        assert decoder.feed(b"") is None
        assert decoder.feed(frame_of(kind, (1, 2, 3))[:4]) is None
        decoder.reset()
        assert decoder.pending == 0


def test_json_lines_with_times() -> None:
    planned = plan("json", "a", time=("t", "elapsed_ms"))
    rows = make_stream_decoder(planned).feed(b'{"a":1,"t":5}\r\n\r\n{"a":[2,3],"t":6}\n')
    assert rows is not None
    assert rows.values.tolist() == [[1], [2], [3]]
    assert rows.time is not None
    assert rows.time.tolist() == [5_000_000, 6_000_000, 6_000_000]
    assert rows.payload is None
    assert [(reject.reason, reject.offset) for reject in rows.rejects] == [("malformed", 15)]


@pytest.mark.parametrize(
    ("planned", "data", "good", "counts"),
    [
        (plan("csv", "a", "b"), b"\n" * 60_000, b"1,2\n", {"short": 60_000}),
        (plan("csv", "a"), b"x\n" * 30_000, b"1\n", {"not_a_number": 30_000}),
        (plan("json", "a"), b"\n" * 60_000, b'{"a":1}\n', {"malformed": 60_000}),
        (plan("csv", "a", checksum=ChecksumTable(type="nmea")), b"\n" * 60_000, b"$1*31\n", {"checksum": 60_000}),
        (plan("csv", "a", max_bytes=1), b"xx\n" * 20_000, b"1\n", {"too_large": 20_000}),
        (
            plan("raw", field("a", dtype="float16"), frame=Frame(type="length", sync=b"\xaa", length="uint8")),
            b"\xaa\x02\x00\x7e" * 16_000,
            b"\xaa\x02\x00\x3c",
            {"not_finite": 16_000},
        ),
    ],
)
def test_a_storm_in_one_read_is_told_in_few_words(planned: Any, data: bytes, good: bytes, counts: dict[str, int]) -> None:
    decoder = make_stream_decoder(planned)
    rows = decoder.feed(data + good)
    assert rows is not None
    assert [row[0] for row in rows.values.tolist()] == [1]
    assert refused(rows.rejects) == counts
    assert len(rows.rejects) == MAX_RECORDS + 1


def test_lines_from_their_start_marker() -> None:
    planned = plan("csv", "a", "b", frame=Frame(sync=b"\x02", end=b"\r"))
    data = b"junk\x021,2\r\x023,4\r5,6\r\x027,8\r"
    for chunks in ([data], [data[i : i + 1] for i in range(len(data))]):
        values, rejects = fed(make_stream_decoder(planned), chunks)
        assert values.tolist() == [[1, 2], [3, 4], [7, 8]]
        assert reasons(rejects) == ["no_frame", "no_frame"]


def test_lines_with_a_checksum_in_hex_digits() -> None:
    checksum = Checksum("crc16-arc", encoding="hex")
    lines = [b"%d,%d," % (n, n * n) for n in range(40)]
    planned = plan("csv", "a", "b", "_", checksum=ChecksumTable(type="crc16-arc", encoding="hex"))
    good = [line + checksum.encode(line) + b"\r\n" for line in lines]
    good[7] = good[7].replace(b"49", b"48")
    values, rejects = fed(make_stream_decoder(planned), [b"".join(good)])
    assert values.tolist() == [[n, n * n] for n in range(40) if n != 7]
    assert reasons(rejects) == ["checksum"]


def test_a_reject_holds_the_whole_frame_up_to_the_size_of_an_excerpt() -> None:
    """What is published of it (`rejects`) is cut from that."""
    line = b"1,x," + b"2" * 300
    long = b"1,x," + b"2" * 5000
    for decode in ("csv", "json"):
        decoder = make_stream_decoder(plan(decode, "a", "b", "c", max_bytes=8192))
        _, rejects = fed(decoder, [b"\n".join([line, long, b""])])
        assert [one.data for one in rejects] == [line, long[:4096]]
    body = bytes(range(0x20, 0x7E)) * 2
    framed = plan(
        "raw",
        field("x", dtype="uint8", shape=(len(body),)),
        frame=Frame(type="fixed", size=len(body) + 2, sync=b"\xa5"),
        checksum=ChecksumTable(type="xor8"),
    )
    bad = b"\xa5" + body + b"\x01"
    _, rejects = fed(make_stream_decoder(framed), [bad])
    assert [(one.reason, one.data) for one in rejects] == [("checksum", bad)]


def test_a_frame_that_never_ends_is_the_same_reject_however_it_arrives() -> None:
    endless = b"7" * 500
    for step in (1, 90, 500):
        decoder = make_stream_decoder(plan("csv", "a", "b", max_bytes=200))
        _, rejects = fed(decoder, [endless[at : at + step] for at in range(0, 500, step)])
        assert [(one.reason, one.data) for one in rejects] == [("too_large", endless[:202])]
