from typing import Any

import msgspec
import numpy as np
import pytest

from edged.decode import make_payload_decoder
from edged.decode.stream import make_stream_decoder
from edged.decode.where import Condition, conditions
from tests.support.decode_plans import fed, field, plan, refused


@pytest.mark.parametrize(
    ("accepted", "found", "fits"),
    [
        ("GPGGA", "GPGGA", True),
        ("GPGGA", "GPGSV", False),
        (5, 5, True),
        (5, 5.0, True),
        (5, "5", True),
        ("5", 5, True),
        (5, 6, False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (True, "true", True),
        ("true", True, True),
        (5, None, False),
        (5, [5], False),
        (5, "1_0", False),
    ],
)
def test_a_member_equals_by_text_or_number(accepted: Any, found: Any, fits: bool) -> None:
    assert Condition("x", (accepted,)).fits(found) is fits


@pytest.mark.parametrize(
    ("accepted", "cell", "base", "fits"),
    [
        (127250, "127250", 10, True),
        (0x123, "123", 16, True),
        (0x123, "0x123", 16, True),
        ("123", "123", 16, True),
        (5, "05", 10, True),
    ],
)
def test_a_cell_equals_in_its_base(accepted: Any, cell: str, base: int, fits: bool) -> None:
    assert Condition("x", (accepted,)).fits_text(cell, base) is fits


def test_lines_of_another_kind_cannot_be_malformed() -> None:
    planned = plan("csv", "kind", "a", where=conditions({"kind": ("GGA", "RMC")}))
    data = b"GGA,1\nGSV,x,y,z\nRMC,2\nGSV\nTXT,hello\n\nGGA,bad\n"
    for chunks in ([data], [data[i : i + 1] for i in range(len(data))]):
        values, rejects = fed(make_stream_decoder(planned), chunks)
        assert values.tolist() == [[1], [2]]
        assert refused(rejects) == {"other": 4, "not_a_number": 1}


def test_what_is_other_is_told_by_its_kind_and_place() -> None:
    planned = plan("csv", "kind", "a", where=conditions({"kind": ("GGA",)}))
    _, rejects = fed(make_stream_decoder(planned), [b"GGA,1\nGSV,1,2\nTXT\nGSV,3,4\n"])
    assert [(r.detail, r.times, r.data, r.offset) for r in rejects] == [
        ('kind = "GSV"', 2, b"GSV,1,2", 6),
        ('kind = "TXT"', 1, b"TXT", 14),
    ]


def test_other_lines_do_not_shift_what_is_said_of_the_rest() -> None:
    planned = plan("csv", "kind", "a", where=conditions({"kind": ("GGA",)}))
    _, rejects = fed(make_stream_decoder(planned), [b"GSV,1\nGGA,1\nGGA,x\n"])
    bad = next(r for r in rejects if r.reason == "not_a_number")
    assert (bad.data, bad.offset) == (b"GGA,x", 12)


def test_a_column_of_a_header_need_not_be_a_field() -> None:
    planned = plan("csv", "a", header=True, where=conditions({"state": ("OK",)}))
    values, rejects = fed(make_stream_decoder(planned), [b"a,state\n1,OK\n2,BAD\n3,OK\n"])
    assert values.tolist() == [[1], [3]]
    assert refused(rejects) == {"other": 1}


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode], ids=["json", "msgpack"])
def test_members_of_messages(encode: Any) -> None:
    kind = "json" if encode is msgspec.json.encode else "msgpack"
    planned = plan(kind, "t", where=conditions({"up.port": (5, 6), "type": ("telemetry",)}))
    messages = [
        {"t": 1.5, "up": {"port": 5}, "type": "telemetry"},
        {"t": 2.5, "up": {"port": 7}, "type": "telemetry"},
        {"t": "?", "up": {"port": 5}, "type": "text"},
        {"text": "hello"},
        {"t": 3.5, "up": {"port": 6}, "type": "telemetry"},
        {"t": 4.5, "up": {"port": [6]}, "type": "telemetry"},
        {"t": None, "up": {"port": 6}, "type": "telemetry"},
    ]
    rows = make_payload_decoder(planned).decode([encode(one) for one in messages])
    assert rows.values.tolist() == [[1.5], [3.5]]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 4]
    assert refused(rows.rejects) == {"other": 4, "missing": 1}
    assert [r.payload for r in rows.rejects if r.reason == "other"] == [1, 2, 3, 5]


def test_a_broken_message_is_malformed_and_not_other() -> None:
    rows = make_payload_decoder(plan("json", "t", where=conditions({"type": ("a",)}))).decode([b"{", b'{"type":"b"}'])
    assert refused(rows.rejects) == {"malformed": 1, "other": 1}


def test_records_by_a_tag() -> None:
    planned = plan(
        "struct", field("tag", dtype="uint8"), field("x", dtype="int16"), where=conditions({"tag": (0x51,)}), dtype=np.float64
    )
    rows = make_payload_decoder(planned).decode([b"\x51\x01\x00", b"\x52\x02\x00", b"\x51\x03\x00"])
    assert rows.values.tolist() == [[1], [3]]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 2]
    assert [(r.reason, r.payload, r.detail) for r in rows.rejects] == [("other", 1, "tag = 82")]
