"""Rows of a block that are corrected together, each by its key."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edged.decode import PayloadDecoder, make_payload_decoder
from edged.decode.by_key import ByKey
from edged.decode.plan import Correction, Corrections
from tests.support.planning import MAIN, planned

USUAL = (np.array([2.0, 1.0]), np.array([0.0, 1.0]), np.array([-9.0, -9.0]), np.array([9.0, 9.0]))


def by_key(*parts: tuple[str, int]) -> ByKey:
    cells = (
        Correction(0, "scale", 0, 1, 10.0),
        Correction(0, "valid.high", 0, 1, 100.0),
        Correction(1, "offset", 0, 2, -1.0),
        Correction(1, "valid.low", 1, 2, 0.5),
    )
    return ByKey(Corrections(("a/x", "b/x"), cells, parts), USUAL, 1e9)


def test_each_row_by_its_key_and_the_others_as_usual() -> None:
    raw = np.array([[2, 2], [2, 2], [2, 2], [11, 1]], np.float64)
    keys = [("x",)] * 4
    origin = np.array([0, 1, 2, 0], np.int32)
    found = by_key(("capture", 0), ("field", 0)).apply(raw, keys, origin, [("a",), ("b",), ("c",)])
    assert found.values.tolist() == [[20, 3], [3, 1], [4, 3], [110, 2]]
    assert found.is_good.tolist() == [[True, True], [True, True], [True, True], [False, True]]
    assert found.low[1].tolist() == [-9, 0.5]
    assert found.high[3].tolist() == [100, 9]


def test_parts_of_a_key_in_their_order_and_rows_without_a_topic() -> None:
    raw = np.array([[1.0, 1.0]])
    assert by_key(("field", 1), ("field", 0)).apply(raw, [("x", "a")], None, None).values.tolist() == [[10, 2]]
    assert by_key(("capture", 0), ("capture", 1)).apply(raw, None, None, [("b", "x")]).values.tolist() == [[1, 0]]


def test_a_number_of_the_wire_is_within_a_range_that_ends_at_it() -> None:
    table = ByKey(
        Corrections(("k",), (Correction(0, "valid.high", 0, 1, 0.1),), (("field", 0),)),
        (np.ones(1), np.zeros(1), np.array([-9.0]), np.array([9.0])),
        1e9,
    )
    found = table.apply(np.array([[0.1], [0.11], [np.nan]], np.float32), [("k",)] * 3, None, None)
    assert found.is_good.tolist() == [[True], [False], [False]]


def test_what_is_not_finite_is_bad_whatever_the_rows_are_made_of() -> None:
    largest = float(np.finfo(np.float64).max)
    usual = (np.ones(1), np.zeros(1), np.array([-largest]), np.array([largest]))
    table = ByKey(Corrections(("k",), (Correction(0, "scale", 0, 1, 2.0),), (("capture", 0),)), usual, largest)
    for raw in (np.array([[np.inf]], np.float32), np.array([[-np.inf]]), np.array([[1.5e308]])):
        assert table.apply(raw, None, None, [("k",)]).is_good.tolist() == [[False]]
        assert table.one(raw, [("k",)]) is None


def test_one_row_alone_is_as_it_is_among_others() -> None:
    table = by_key(("capture", 0), ("capture", 1))
    for sensor in (("a", "x"), ("b", "x"), ("c", "x")):
        for row in ([2.0, 2.0], [9.9, 9.0], [np.nan, 1.0], [np.inf, 1.0]):
            raw = np.array([row], np.float32)
            found, one = table.apply(raw, None, None, [sensor]), table.one(raw, [sensor])
            assert (one is not None) == bool(found.is_good.all())
            assert one is None or one.tolist() == found.values.tolist()
    assert by_key(("capture", 0), ("field", 0)).one(np.ones((1, 2)), [("a",)]) is None


def decoder_of(folder: Path, table: str, source: str) -> PayloadDecoder:
    """Of a source with a table of keys, as it is planned."""
    (folder / "keys.csv").write_text(table)
    text = MAIN + f'[source.s]\nkeys = "keys.csv"\n{source}\n[pipeline.p]\nsource = "s"\npublish = "out/{{key}}"\n'
    decode = planned(folder, text).whole.sources["s"].decode
    assert decode is not None
    return make_payload_decoder(decode)


def test_a_lone_message_gives_what_several_give(tmp_path: Path) -> None:
    decoder = decoder_of(
        tmp_path,
        "key,t.scale,t.valid.high\np7,10,30\n",
        """type = "mqtt"
topic = "plant/{pump}"
decode = { format = "json", fields = [{ name = "t", scale = 2, valid = [0, 10] }, "h"] }""",
    )
    payload = b'{"t":1,"h":5}'
    assert decoder.decode([payload], [("p7",)]).values.tolist() == [[10, 5]]
    assert decoder.decode([payload], [("p8",)]).values.tolist() == [[2, 5]]
    assert decoder.decode([payload] * 2, [("p7",), ("p8",)]).values.tolist() == [[10, 5], [2, 5]]
    for bad, said in ((("p7",), "t: 50 is outside 0 to 30"), (("p8",), "t: 10.2 is outside 0 to 10")):
        rows = decoder.decode([b'{"t":5%b,"h":5}' % (b".1" if bad == ("p8",) else b"")], [bad])
        assert [reject.detail for reject in rows.rejects] == [said]


def test_bytes_in_a_member_and_what_stands_around_them(tmp_path: Path) -> None:
    decoder = decoder_of(
        tmp_path,
        "key,t.offset,t.valid.high,rssi.scale\nd1,100,103,-1\n",
        """type = "mqtt"
topic = "v3/{dev}/up"
decode = { format = "struct", payload = "d", encoding = "hex", fields = [
  { name = "t", dtype = "int16" }, { name = "rssi", path = "radio.rssi" },
] }""",
    )
    payloads = [b'{"d":"0%d00","radio":{"rssi":7}}' % t for t in (2, 2, 4)]
    rows = decoder.decode(payloads, [("d1",), ("d2",), ("d1",)])
    assert rows.values.tolist() == [[102, -7], [2, 7]]
    assert [(reject.payload, reject.detail) for reject in rows.rejects] == [(2, "t: 104 is outside -inf to 103")]
    assert decoder.decode(payloads[:1], [("d1",)]).values.tolist() == [[102, -7]]


def test_units_of_a_bus(tmp_path: Path) -> None:
    decoder = decoder_of(
        tmp_path,
        "key,watts.scale,watts.valid.high\n2,60,7000\n",
        """type = "modbus"
port = "/dev/ttyS9"
baudrate = 9600
every = "1s"
address = [1, 2]
decode = { fields = [{ name = "watts", register = 0, scale = 0.1 }, { name = "volts", register = 1 }] }""",
    )
    samples = [bytes([unit]) + (100).to_bytes(2, "big") + (230).to_bytes(2, "big") for unit in (1, 2)]
    assert decoder.decode(samples).values.tolist() == [[10, 230], [6000, 230]]
    assert [decoder.decode([one]).values.tolist() for one in samples] == [[[10, 230]], [[6000, 230]]]
    rows = decoder.decode([bytes.fromhex("02 0078 00e6")])
    assert [reject.detail for reject in rows.rejects] == ["watts: 7200 is outside -inf to 7000"]
