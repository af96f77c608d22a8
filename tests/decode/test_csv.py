import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.decode import DecodePlan, make_payload_decoder
from edged.decode.stream import make_stream_decoder
from tests.support.decode_plans import fed, field, plan, reasons, refused, rows_of

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"[+-]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)
BROKEN = st.sampled_from(
    [
        "",
        "1",
        "1,2",
        "1,2,3,4",
        "a,2,3",
        "1,2,0x3",
        "1_0,2,3",
        "1,2,3-4",
        "--1,2,3",
        "1 2,3,4",
        "1e,2,3",
        "١,2,3",
        "1,2,3\x00",
        "[1],2,3",
        '"1,2,3',
        '"1""2",2,3',
        '1"2",3,4',
    ]
)


def wide(*names: str) -> DecodePlan:
    return plan("csv", *names, dtype=np.float64)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("-1.5", -1.5),
        ("+1.5", 1.5),
        ("007", 7),
        (".5", 0.5),
        ("5.", 5),
        ("1e3", 1000),
        ("1E-3", 0.001),
        ("  1.5  ", 1.5),
        ("\t2", 2),
        ("1e-999", 0),
        ("true", 1),
        ("false", 0),
        ("9" * 300, float("9" * 300)),
        ("0." + "3" * 4000, 1 / 3),
    ],
)
def test_numbers(text: str, number: float) -> None:
    line = f"{text},2\n".encode()
    assert rows_of(wide("a", "b"), line) == [[number, 2]]
    assert rows_of(wide("a", "b"), line + b"x\n" + line) == [[number, 2]] * 2, "the same on the careful path"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2", "short"),
        (b"1,2,3,4", "long"),
        (b"", "short"),
        (b"1,2,x", "not_a_number"),
        (b"1,2,1_000", "not_a_number"),
        (b"1,2,0x10", "not_a_number"),
        (b"1,2,1 2", "not_a_number"),
        (b"1,2,1e", "not_a_number"),
        (b"1,2,--1", "not_a_number"),
        (b"1,2,True", "not_a_number"),
        (b"1,2,1d", "not_a_number"),
        (b"1,2,\xd9\xa1", "not_a_number"),
        (b"1,2,\xff\xfe", "not_utf8"),
        (b"1,2,\x00", "not_a_number"),
        (b"1,2,-", "not_a_number"),
        (b"1,2,1\r", "not_a_number"),
        (b"1,2,", "missing"),
        (b"1,,3", "missing"),
        (b"1,2,nan", "not_finite"),
        (b"1,2,-Infinity", "not_finite"),
        (b"1,2,1e999", "not_finite"),
        (b"1,2," + b"9" * 400, "not_finite"),
    ],
)
def test_a_bad_line_is_refused_by_itself(line: bytes, reason: str) -> None:
    good = b"1,2,3\r\n"
    decoder = make_stream_decoder(wide("a", "b", "c"))
    values, rejects = fed(decoder, [good * 7 + line + b"\r\n" + good * 3])
    assert values.tolist() == [[1, 2, 3]] * 10
    assert reasons(rejects) == [reason]
    assert rejects[0].offset == 7 * len(good)
    assert rejects[0].data == (line + b"\r")[:4096]


def test_a_float32_that_overflows_is_not_finite() -> None:
    values, rejects = fed(make_stream_decoder(plan("csv", "a")), [b"1e38\n1e39\n-1e39\n"])
    assert values.dtype == np.float32
    assert values.tolist() == [[np.float32(1e38)]]
    assert reasons(rejects) == ["not_finite"] * 2


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=8), st.booleans())
def test_fast_and_careful_path_agree_with_float(rows: list[tuple[str, str, str]], spaces: bool) -> None:
    joiner = " , " if spaces else ","
    blob = "".join(joiner.join(row) + "\n" for row in rows).encode()
    expected = [list(map(float, row)) for row in rows]
    finite = [row for row in expected if all(map(math.isfinite, row))]
    assert rows_of(wide("a", "b", "c"), blob) == finite
    assert rows_of(wide("a", "b", "c"), b"?\n" + b"".join(line + b"\n?\n" for line in blob[:-1].split(b"\n"))) == finite


@given(
    st.lists(
        st.one_of(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-99, 99)), BROKEN),
        max_size=40,
    )
)
def test_good_lines_survive_byte_exact(lines: list[tuple[float, int] | str]) -> None:
    blob = b"".join((line if isinstance(line, str) else f"{line[0]!r},{line[1]},7").encode() + b"\n" for line in lines)
    good = [line for line in lines if not isinstance(line, str)]
    values, rejects = fed(make_stream_decoder(plan("csv", "a", "b", "c")), [blob])
    assert values.astype(np.float32).tobytes() == b"".join(struct.pack("<3f", a, b, 7) for a, b in good)
    assert refused(rejects).total() == len(lines) - len(good)


def test_skipped_and_reordered_columns_times_and_keys() -> None:
    planned = plan("csv", "who", "t", "_", "a", "b", time=("t", "unix_ms"), key_fields=("who",))
    rows = make_payload_decoder(planned).decode([b"p1,1795214931123,x y,1,2\np2,1795214931124.5,,3,4\n", b"p1,1,\xff,5,6"])
    assert rows.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.keys == [("p1",), ("p2",), ("p1",)]
    assert rows.time is not None
    assert rows.time.tolist() == [1795214931123_000_000, 1795214931124_500_000, 1_000_000]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0, 1]
    assert not rows.rejects


@pytest.mark.parametrize("format", ["unix_s", "unix_ns", "elapsed_us", "rfc3339"])
def test_times_are_exact(format: str) -> None:
    texts = {
        "unix_s": ["1795214931.123456789", "1795214932"],
        "unix_ns": ["1795214931123456789", "1795214932000000000"],
        "elapsed_us": ["1795214931123456.789", "1795214932000000"],
        "rfc3339": ["2026-11-20T22:48:51.123456789Z", "2026-11-20T22:48:52Z"],
    }[format]
    data = "".join(f"{text},1\n" for text in texts).encode()
    for extra in (b"", b"bad\n"):
        rows = make_stream_decoder(plan("csv", "t", "a", time=("t", format))).feed(data + extra)
        assert rows is not None
        assert rows.time is not None
        assert rows.time.tolist() == [1795214931123456789, 1795214932000000000]


def test_bad_times_and_keys_reject_their_line() -> None:
    planned = plan("csv", "who", "t", "a", time=("t", "unix_s"), key_fields=("who",))
    lines = [
        b"a/b,1,1",
        b"+,1,1",
        b"#,1,1",
        b"a\0,1,1",
        b"a\x01b,1,1",
        b"b\xc2\x85b,1,1",
        b",1,1",
        b" ,1,1",
        b"k" * 65 + b",1,1",
        b"k" * 9000 + b",1,1",
        b"\xff,1,1",
    ]
    times = [b"k,x,1", b"k,,1", b"k,nan,1", b"k,1795214931000,1"]
    rows = make_payload_decoder(planned).decode([b"ok,1,1", *lines, *times, b"ok,2,2"])
    assert rows.values.tolist() == [[1], [2]]
    assert reasons(rows.rejects) == ["bad_key"] * 10 + ["not_utf8"] + ["not_a_number"] * 3 + ["future"]
    assert [reject.payload for reject in rows.rejects] == list(range(1, 16))
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 16]


def test_texts_that_stand_for_numbers() -> None:
    planned = plan("csv", field("door", values={"open": 1, "closed": 0.5}), "a")
    rows = make_payload_decoder(planned).decode([b"open,1", b"closed,2", b"7,3", b"true,4", b"ajar,5", b" open ,6"])
    assert rows.values.tolist() == [[1, 1], [0.5, 2], [7, 3], [1, 4], [1, 6]]
    assert reasons(rows.rejects) == ["not_a_number"]
    assert "open closed" in rows.rejects[0].detail


@pytest.mark.parametrize("separator", [";", "\t", " ", "|", ":"])
def test_separators(separator: str) -> None:
    data = f"1{separator}2\n1,5{separator}2\n3{separator}4\n".encode()
    values, rejects = fed(make_stream_decoder(plan("csv", "a", "b", separator=separator)), [data])
    assert values.tolist() == [[1, 2], [3, 4]]
    assert reasons(rejects) == ["not_a_number"]


@pytest.mark.parametrize("separator", [",", ";", " ", "\t", "|"])
@pytest.mark.parametrize("sign", ["+", "-"])
def test_a_sign_alone_is_no_part_of_the_next_cell(separator: str, sign: str) -> None:
    lines = "".join(separator.join(cells) + "\n" for cells in (("1", "2"), (sign, "3"), ("5", "6")))
    values, rejects = fed(make_stream_decoder(plan("csv", "a", "b", separator=separator)), [lines.encode()])
    assert values.tolist() == [[1, 2], [5, 6]]
    assert reasons(rejects) == ["not_a_number"]


def test_a_field_with_a_shape_takes_so_many_columns() -> None:
    assert rows_of(plan("csv", field("x", shape=(2, 2)), "b"), b"1,2,3,4,5\n") == [[1, 2, 3, 4, 5]]


class TestHeader:
    def test_of_a_stream(self) -> None:
        decoder = make_stream_decoder(plan("csv", "az", "ax", time=("time", "elapsed_s"), header=True))
        rows = decoder.feed(b'\xef\xbb\xbftime, "ax",note,az\r\n0.5,1,hello,3\r\n1,4,,6\r\n')
        assert rows is not None
        assert rows.values.tolist() == [[3, 1], [6, 4]]
        assert rows.time is not None
        assert rows.time.tolist() == [500_000_000, 1_000_000_000]

    def test_that_does_not_name_a_field(self) -> None:
        decoder = make_stream_decoder(plan("csv", "ax", "ay", header=True))
        values, rejects = fed(decoder, [b"time,ax,y,az\n1,2,3,4\n", b"ax,ay\n1,2\n"])
        assert values.tolist() == [[1, 2]]
        assert reasons(rejects) == ["missing", "missing"]
        assert rejects[0].detail == '"ay" is not in the header: time, ax, y, az; did you mean "y"?'
        assert [reject.offset for reject in rejects] == [0, 13]

    def test_after_the_port_was_opened_again(self) -> None:
        decoder = make_stream_decoder(plan("csv", "a", "b", header=True))
        assert fed(decoder, [b"b,a\n1,2\n"])[0].tolist() == [[2, 1]]
        decoder.reset()
        assert fed(decoder, [b"3,4\n"])[0].tolist() == [[4, 3]], "a sensor that was on all the time keeps its columns"
        decoder.reset()
        assert fed(decoder, [b"a,b\n5,6\n"])[0].tolist() == [[5, 6]]

    def test_of_each_payload(self) -> None:
        decoder = make_payload_decoder(plan("csv", "a", "b", header=True))
        rows = decoder.decode([b"b,a\n1,2\n3,4", b"5,6", b"a,b\n7,8\nx,9\n", b"a,b"])
        assert rows.values.tolist() == [[2, 1], [4, 3], [7, 8]]
        assert rows.payload is not None
        assert rows.payload.tolist() == [0, 0, 2]
        assert [(reject.reason, reject.payload, reject.offset) for reject in rows.rejects] == [
            ("missing", 1, 0),
            ("not_a_number", 2, 8),
        ]


def test_payloads_of_several_lines() -> None:
    rows = make_payload_decoder(plan("csv", "a", "b")).decode([b"1,2", b"3,4\r\n5,6\r\n", b"7\n8,9", b""])
    assert rows.values.tolist() == [[1, 2], [3, 4], [5, 6], [8, 9]]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 1, 1, 2]
    assert [(reject.reason, reject.payload, reject.data) for reject in rows.rejects] == [("short", 2, b"7"), ("short", 3, b"")]


def test_one_line_a_payload_needs_no_index() -> None:
    rows = make_payload_decoder(plan("csv", "a", "b")).decode([b"1,2\n", b"3,4", b"5,6\r\n"])
    assert rows.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.payload is None


def test_a_long_line_of_digits_is_quick_to_refuse() -> None:
    rows = make_payload_decoder(plan("csv", "a")).decode([b"1" * 60_000 + b"x", b" " * 60_000 + b"x", b"1" * 60_000])
    assert len(rows.rejects) == 3
