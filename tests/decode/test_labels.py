import pytest

from edged.decode import make_payload_decoder
from edged.decode.where import Condition
from tests.support.decode_plans import field, plan, reasons

TELEGRAM = b"""/ISk5\\2MT382-1000

0-0:1.0.0(101209113020W)
1-0:1.8.1(123456.789*kWh)
1-0:16.7.0*255(000412.34*W)
0-0:96.14.0(0002)
0-1:24.2.1(101209112500W)(12785.123*m3)
0-1:24.3.0(120517020000)(08)(60)(1)(0-1:24.2.1)(m3)
(00124.477)
0-0:96.3.10(on)
!"""


def test_obis_codes_are_written_as_they_are() -> None:
    planned = plan(
        "dsmr",
        field("energy", path=("1-0:1", 8, 1), unit="kWh"),
        field("power", path=("1-0:16", 7, 0)),
        field("also", path=("1-0:16", 7, "0*255")),
        field("tariff", path=("0-0:96", 14, 0)),
        field("gas", path=("0-1:24", 2, 1)),
        field("old_gas", path=("0-1:24", 3, 0)),
        field("relay", path=("0-0:96", 3, 10), values={"on": 1.0, "off": 0.0}),
    )
    rows = make_payload_decoder(planned).decode([TELEGRAM, TELEGRAM.replace(b"\n", b"\r\n")])
    wanted = pytest.approx([123456.789, 412.34, 412.34, 2, 12785.123, 124.477, 1])
    assert rows.values.tolist() == [wanted, wanted]


def test_a_value_in_another_unit_is_refused_and_another_telegram_is_other() -> None:
    planned = plan("dsmr", field("power", path=("1-0:1", 7, 0), unit="kW"))
    decoder = make_payload_decoder(planned)
    rows = decoder.decode([b"1-0:1.7.0(00.244*kW)", b"1-0:1.7.0(244*W)", b"1-0:2.7.0(1*kW)", b"1-0:1.7.0()", b"1-0:1.7.0(x)"])
    assert rows.values.tolist() == [[pytest.approx(0.244)]]
    assert reasons(rows.rejects) == ["malformed", "other", "missing", "not_a_number"] or sorted(reasons(rows.rejects)) == [
        "malformed",
        "missing",
        "not_a_number",
        "other",
    ]
    assert "expected the unit kW, found W" in next(r.detail for r in rows.rejects if r.reason == "malformed")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_value_on_the_next_line_among_plain_ones(end: bytes) -> None:
    planned = plan("dsmr", field("power", path=("1-0:1", 7, 0)), field("gas", path=("0-1:24", 3, 0)))
    plain = b"1-0:1.7.0(00.244)\n0-1:24.3.0(7)"
    folded = b"1-0:1.7.0(00.244)\n0-1:24.3.0(120517020000)(08)\n(00124.477)"
    rows = make_payload_decoder(planned).decode([plain.replace(b"\n", end), folded.replace(b"\n", end)])
    assert rows.values.tolist() == [pytest.approx([0.244, 7]), pytest.approx([0.244, 124.477])]


def test_an_empty_value_of_a_telegram_that_comes_alone_is_missing() -> None:
    rows = make_payload_decoder(plan("dsmr", field("power", path=("1-0:1", 7, 0)))).decode([b"1-0:1.7.0(*kW)"])
    assert reasons(rows.rejects) == ["missing"]


def test_labels_and_tabs() -> None:
    planned = plan(
        "vedirect",
        field("V", scale=0.001),
        field("load", path=("LOAD",), values={"ON": 1.0, "OFF": 0.0}),
        field("pid", path=("PID",)),
        key_fields=("SER#",),
        where=(Condition("FW", (163,)),),
    )
    payload = b"PID\t0xA060\nFW\t163\nSER#\tHQ1\nV\t52590\nLOAD\tON"
    rows = make_payload_decoder(planned).decode([payload, payload.replace(b"163", b"164"), payload.replace(b"\nV\t52590", b"")])
    assert rows.values.tolist() == [pytest.approx([52.59, 1, 0xA060])]
    assert rows.keys == [("HQ1",)]
    assert sorted(reasons(rows.rejects)) == ["missing", "other"]
