"""Rows, named fields and absent values, over the formats that have trees."""

from __future__ import annotations

import math
import struct

import msgspec
import numpy as np
import pytest

from edged.decode import Arrived, make_payload_decoder
from edged.decode.refusals import MAX_ROWS
from edged.decode.where import Condition
from edged.notation.field_paths import parse_field_path
from tests.support.decode_plans import field, plan, reasons, refused

ROWS = parse_field_path(".")


def test_an_element_that_is_wrong_costs_no_other_one() -> None:
    decoder = make_payload_decoder(plan("json", "v", rows=ROWS, time=("t", "unix_s"), key_fields=("k",)))
    rows = decoder.decode([b'[{"v":1,"t":1,"k":"a"},{"v":2,"t":"x","k":"a"},{"v":3,"t":3,"k":"/"},{"w":1},{"v":4,"t":4,"k":4}]'])
    assert rows.values.tolist() == [[1], [4]]
    assert rows.keys == [("a",), ("4",)]
    assert rows.time is not None
    assert rows.time.tolist() == [10**9, 4 * 10**9]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0]
    assert reasons(rows.rejects) == ["not_a_number", "bad_key", "other"]


def test_where_is_judged_for_each_element_and_line() -> None:
    planned = plan("json", "v", rows=ROWS, where=(Condition("kind", ("a", 2.0)),))
    text = b'[{"kind":"a","v":1},{"kind":"b","v":2},{"kind":2,"v":3}]'
    assert make_payload_decoder(planned).decode([text]).values.tolist() == [[1], [3]]
    lines = plan("json", "v", where=(Condition("kind", ("a",)),))
    rows = make_payload_decoder(lines).decode([b'{"kind":"a","v":1}\n{"kind":"b","v":2}', b'{"v":3}', b'{"kind":"a","v":"4"}'])
    assert rows.values.tolist() == [[1], [4]]
    assert refused(rows.rejects) == {"other": 2}


def test_one_payload_gives_no_more_rows_than_are_planned() -> None:
    decoder = make_payload_decoder(plan("msgpack", "v", rows=ROWS, max_bytes=1 << 21))
    rows = decoder.decode([b"\xdd" + struct.pack(">I", MAX_ROWS + 1) + b"\x01" * (MAX_ROWS + 1), b"\x91\x05"])
    assert rows.values.tolist() == [[5]]
    assert reasons(rows.rejects) == ["too_many_rows"]


@pytest.mark.parametrize("payload", [b"[]", b"{}", b'{"d":[]}', b'{"d":null}'])
def test_a_message_without_rows_is_another_one_or_has_no_value(payload: bytes) -> None:
    rows = make_payload_decoder(plan("json", "v", rows=("d",))).decode([payload])
    assert not len(rows.values)
    assert len(rows.rejects) == 1


class TestAbsent:
    def test_by_field(self) -> None:
        fields = field("a"), field("b", absent="hold"), field("c", absent=7.0), field("d", absent="drop")
        decoder = make_payload_decoder(plan("json", *fields, on_bad="hold"))
        found = decoder.decode([b'{"a":1,"b":2,"c":3,"d":4}', b'{"a":1,"d":4}', b'{"b":5,"d":null}', b'{"a":2}'])
        assert found.values.tolist() == [[1, 2, 3, 4], [1, 2, 7, 4], [1, 5, 7, 4]]
        assert found.degraded is not None
        assert found.degraded.tolist() == [False, False, True]
        assert found.rejects[0].reason == "missing"
        assert found.rejects[0].detail == "d: absent"

    def test_before_the_first_value_a_sample_is_incomplete(self) -> None:
        decoder = make_payload_decoder(plan("json", "a", field("b", absent="hold")))
        rows = decoder.decode([b'{"a":1}', b'{"b":2}', b'{"a":3,"b":"x"}', b'{"a":4}'])
        assert rows.values.tolist() == [[4, 2]]
        assert refused(rows.rejects) == {"incomplete": 1, "missing": 1, "not_a_number": 1}

    def test_a_number_is_the_value_and_is_not_scaled(self) -> None:
        decoder = make_payload_decoder(plan("json", "a", field("b", scale=10, offset=1, absent=0.0)))
        assert decoder.decode([b'{"a":1}', b'{"a":1,"b":2}']).values.tolist() == [[1, 0], [1, 21]]

    def test_an_empty_cell_is_absent(self) -> None:
        decoder = make_payload_decoder(plan("csv", "a", field("b", absent="hold"), field("c", absent=0.0)))
        rows = decoder.decode([b"1,2,3", b"4,,"])
        assert rows.values.tolist() == [[1, 2, 3], [4, 2, 0]]
        assert rows.degraded is None


class TestNamed:
    def test_values_of_one_sensor_are_held_until_they_are_too_old(self) -> None:
        decoder = make_payload_decoder(plan("json", "t", "h", is_named=True, stale_ns=100))
        first = decoder.decode([b"1", b"2", b"3"], [("a",), ("b",), ("a",)], Arrived(("t", "h", "h"), 1000))
        assert first.values.tolist() == [[1, 3]]
        assert reasons(first.rejects) == ["incomplete"] * 2
        assert decoder.decode([b"4"], [("a",)], Arrived(("t",), 1100)).values.tolist() == [[4, 3]]
        late = decoder.decode([b"5"], [("a",)], Arrived(("t",), 1101))
        assert not len(late.values)
        assert late.rejects[0].detail == "h: no value yet, or none within stale_after"
        assert decoder.decode([b"6"], [("a",)], Arrived(("h",), 1102)).values.tolist() == [[5, 6]]

    def test_no_more_sensors_are_remembered_than_there_may_be_keys(self) -> None:
        decoder = make_payload_decoder(plan("json", "t", "h", is_named=True, stale_ns=100, max_keys=2))
        for name in "abc":
            decoder.decode([b"1"], [(name,)], Arrived(("t",), 0))
        rows = decoder.decode([b"2", b"2"], [("c",), ("a",)], Arrived(("h", "h"), 0))
        assert rows.values.tolist() == [[1, 2]]

    def test_a_bad_value_is_no_value(self) -> None:
        decoder = make_payload_decoder(plan("csv", "t", field("m", values={"ON": 1.0}), is_named=True))
        names = ("t", "m", "m", "t", "x")
        rows = decoder.decode([b"21.5", b"ON", b"OFF", b"unavailable", b"1"], None, Arrived(names))
        assert rows.values.tolist() == [[21.5, 1]]
        assert refused(rows.rejects) == {"incomplete": 1, "not_a_number": 2, "other": 1}
        assert "m: expected a number or one of ON, found 'OFF'" in [reject.detail for reject in rows.rejects]

    def test_without_a_name_a_message_is_another_one(self) -> None:
        decoder = make_payload_decoder(plan("json", "t", is_named=True))
        assert reasons(decoder.decode([b"1"]).rejects) == ["other"]


def test_formats_of_trees_agree() -> None:
    cbor2 = pytest.importorskip("cbor2")
    tree = {"a": {"b": [1, {"c": 2.5}]}, "k": "x", "t": 1_636_000_000, "s": "3", "n": None}
    fields = field("c", path=("a", "b", 1, "c")), "s"
    for format, encode in (("json", msgspec.json.encode), ("msgpack", msgspec.msgpack.encode), ("cbor", cbor2.dumps)):
        decoder = make_payload_decoder(plan(format, *fields, time=("t", "unix_s"), key_fields=("k",)))
        rows = decoder.decode([encode(tree), encode(5), b"\xff\xff", encode({"k": "y"})])
        assert rows.values.tolist() == [[2.5, 3]], format
        assert rows.keys == [("x",)]
        assert rows.time is not None
        assert rows.time.tolist() == [1_636_000_000 * 10**9]
        assert refused(rows.rejects)["other"] >= 1


def test_what_is_not_finite_is_bad_wherever_it_stands() -> None:
    decoder = make_payload_decoder(plan("json", "a", "b", on_bad="pass"))
    rows = decoder.decode([b'{"a": NaN, "b": "NaN"}', b'{"a":1e999,"b":-Infinity}', b'{"a":"x\\"NaN","b":nan}'])
    assert np.isnan(rows.values[0]).all()
    assert math.isinf(rows.values[1, 0])
    assert np.isnan(rows.values[2]).all()
    assert rows.degraded is not None
    assert rows.degraded.all()
