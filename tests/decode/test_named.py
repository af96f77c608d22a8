from __future__ import annotations

from edged.decode import Arrived, make_payload_decoder
from edged.decode.named import cell, first_number
from tests.support.decode_plans import field, plan, refused


def test_a_cell_and_a_first_number() -> None:
    assert cell(b" 21.5\r\n\0") == ("21.5",)
    assert cell(b'"3.01"') == ("3.01",)
    assert cell(b"") == (None,)
    assert first_number("21.5 °C".encode()) == ("21.5",)
    assert first_number(b"OFF") == ("OFF",)


def test_records_of_one_time_and_key_make_one_sample() -> None:
    planned = plan("json", "t", "h", rows=("r",), named_by=("n",), payload=("v",), time=("at", "unix_s"), key_fields=("k",))
    pack = b"""{"r":[{"n":"h","v":2,"at":2,"k":"a"},{"n":"t","v":1,"at":1,"k":"a"},{"n":"h","v":"5","at":1,"k":"a"},
        {"n":"t","v":7,"at":1,"k":"b"},{"n":"x","v":7,"at":1,"k":"b"},{"v":1,"at":1,"k":"b"},{"n":"t","at":1,"k":"b"}]}"""
    rows = make_payload_decoder(planned).decode([pack])
    assert rows.values.tolist() == [[1, 5], [1, 2]]
    assert rows.keys == [("a",), ("a",)]
    assert rows.time is not None
    assert rows.time.tolist() == [10**9, 2 * 10**9]
    assert refused(rows.rejects) == {"other": 3, "incomplete": 1}


def test_a_value_in_hexadecimal_and_one_with_a_decimal_comma() -> None:
    planned = plan("csv", field("a", base=16), field("b", path=("x/y",)), is_named=True, decimal=",")
    rows = make_payload_decoder(planned).decode([b"0x1F", b"2,5", b"1.5"], None, Arrived(("a", "x/y", "x/y")))
    assert rows.values.tolist() == [[31, 2.5]]
    assert refused(rows.rejects) == {"incomplete": 1, "not_a_number": 1}
