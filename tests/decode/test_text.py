from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import schema
from edged.decode import DecodePlan, make_payload_decoder
from edged.decode.stream import make_stream_decoder
from tests.support.decode_plans import chopped, fed, field, plan, refused, rows_of

T, H = field("t", after="T"), field("h", after="H")


def wide(*fields: str | schema.FieldSpec, **keys: Any) -> DecodePlan:
    return plan("text", *fields, dtype=np.float64, **keys)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("T:23.4 H:55.0", [23.4, 55]),
        ("H = 55 % T = -3 C", [-3, 55]),
        ("T23.4,H55", [23.4, 55]),
        ("T: + 4.5 H: -  2", [4.5, -2]),
        ("T:1e3;H:.5", [1000, 0.5]),
        ("Temp 3 HT:1 T:2 H:3", [2, 3]),
        ("T:1,5 H:2", [1, 2]),
        ("T:283D,H:0.3M", [283, 0.3]),
    ],
)
def test_the_number_behind_a_label(line: str, values: list[float]) -> None:
    assert rows_of(wide(T, H), (line + "\r\n").encode()) == [values]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello", "other"),
        ("Temperature: 5", "other"),
        ("T:5", "missing"),
        ("T:5 H:", "missing"),
        ("T:nan H:5", "not_finite"),
        ("T:1.2.3 H:5", "not_a_number"),
        ("T:err H:5", "not_a_number"),
    ],
)
def test_what_is_no_value_is_refused_by_its_reason(line: str, reason: str) -> None:
    values, rejects = fed(make_stream_decoder(wide(T, H)), [b"T:1 H:2\n" + line.encode() + b"\nT:3 H:4\n"])
    assert values.tolist() == [[1, 2], [3, 4]]
    assert refused(rejects) == {reason: 1}
    assert rejects[0].offset == 8
    assert rejects[0].data == line.encode()


def test_words_stand_for_numbers() -> None:
    door = field("door", values={"open": 1, "closed": 0, "open wide": 2})
    assert rows_of(wide(door), b"door open\ndoor: closed\ndoor=open wide\ndoor = 7\n") == [[1], [0], [2], [7]]


def test_no_label_is_the_first_number() -> None:
    assert rows_of(wide(field("x", after="")), b"DHT22 says 5.5 and 7\n-3\n") == [[5.5], [-3]]


def test_decimal_comma_and_hexadecimal() -> None:
    assert rows_of(wide(T, H, decimal=","), b"T: 23,4 H: 5\n") == [[23.4, 5]]
    assert rows_of(wide(field("id", base=16), field("n")), b"id=0x1F n=10\nid:ff n:11\n") == [[31, 10], [255, 11]]


def test_times_and_keys_are_behind_labels_too() -> None:
    planned = wide("t", time=("ms", "elapsed_ms"), key_fields=("node",))
    rows = make_payload_decoder(planned).decode([b"ms=1500 node=a1 t=2.5"])
    assert rows.values.tolist() == [[2.5]]
    assert rows.keys == [("a1",)]
    assert rows.time is not None
    assert rows.time.tolist() == [1_500_000_000]


def test_a_pattern_for_fixed_columns() -> None:
    planned = wide("w", pattern=r"^\x02...(?P<w>[ \d]{6})[ \d]{6}$")
    values, rejects = fed(make_stream_decoder(planned), [b"\x02*0   1234     0\nx\n\x02*0   1236     0\n"])
    assert values.tolist() == [[1234], [1236]]
    assert refused(rejects) == {"other": 1}


@pytest.mark.parametrize("pattern", [r"(?P<a>\d+)[^x]*?(?P<b>\d+)", r"(?P<b>\d+) (?P<a>\d+)$", r"(?i)N(?P<a>\d+)|N(?P<b>\d+)"])
def test_a_pattern_stays_within_its_line(pattern: str) -> None:
    planned = wide("a", "b", pattern=pattern, on_bad="pass")
    lines = [b"1 2", b"3", b"4 5", b"n6", b"7 8 9", b""]
    alone = [rows_of(planned, line + b"\n") for line in lines]
    together = rows_of(planned, b"".join(line + b"\n" for line in lines))
    np.testing.assert_equal(together, [row for rows in alone for row in rows])


def test_payloads_have_lines_of_their_own() -> None:
    rows = make_payload_decoder(wide(T, H)).decode([b"T:1 H:2\nT:3 H:4", b"nothing", b"T:5 H:6\r\n", b"T:5 H:x"])
    assert rows.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0, 2]
    assert [(r.reason, r.payload) for r in rows.rejects] == [("other", 1), ("not_a_number", 3)]


PIECES = st.sampled_from(
    ["T:", "H:", "T", " ", "1", "23.4", "-", "+", ".", "5.", "e3", "C", ",", "\x01", "x", "T: 2 H: 3", "T:2.5 H:7"]
)


@given(st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=12), st.lists(st.integers(0, 200), max_size=4))
def test_lines_are_read_alike_alone_and_among_others(lines: list[str], cuts: list[int]) -> None:
    """What was learned from other lines changes no value."""
    planned = wide(T, H, on_bad="pass")
    text = [b"T:1.5 H:2 C", *(line.encode() for line in lines), b"T:2.5 H:7 C"]
    alone = [row for line in text for row in rows_of(planned, line + b"\n")]
    values, _ = fed(make_stream_decoder(planned), chopped(b"".join(line + b"\n" for line in text), cuts))
    np.testing.assert_equal(values.tolist(), alone)
