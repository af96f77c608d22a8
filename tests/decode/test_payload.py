import math
import struct
import tracemalloc

import numpy as np
import pytest

from edged.decode import DecodePlan, make_payload_decoder
from edged.decode.refusals import MAX_RECORDS, MAX_ROWS
from edged.notation.field_paths import Step
from edged.records import EXCERPT
from tests.support.decode_plans import field, plan, reasons, refused


def test_nothing_to_decode() -> None:
    rows = make_payload_decoder(plan("raw", field("x", dtype="float32", shape=(3,)))).decode([])
    assert rows.values.shape == (0, 3)
    assert not rows.rejects


def test_too_large_is_refused_by_itself() -> None:
    decoder = make_payload_decoder(plan("csv", "a", max_bytes=10))
    rows = decoder.decode([b"1", b"2" * 11, b"3\nx\n4", b"y", b"5" * 100], None)
    assert rows.values[:, 0].tolist() == [1, 3, 4]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 2, 2]
    assert sorted((reject.payload, reject.reason) for reject in rows.rejects) == [
        (1, "too_large"),
        (2, "not_a_number"),
        (3, "not_a_number"),
        (4, "too_large"),
    ]
    assert {reject.payload: reject.data for reject in rows.rejects} == {1: b"2" * 11, 2: b"x", 3: b"y", 4: b"5" * 100}


def test_only_too_large_ones() -> None:
    rows = make_payload_decoder(plan("json", "a", max_bytes=4)).decode([b'{"a":1}'])
    assert rows.values.shape == (0, 1)
    assert reasons(rows.rejects) == ["too_large"]


def test_sensors_are_those_of_what_is_left() -> None:
    decoder = make_payload_decoder(plan("csv", "a", max_bytes=10, on_bad="hold"))
    rows = decoder.decode([b"1", b"2" * 11, b"3"], ["x", "y", "z"])
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 2]
    assert decoder.decode([b"", b"", b""], ["z", "y", "x"]).values[:, 0].tolist() == [3, 1]


def test_raw_tensors_of_one_turn_are_one_array() -> None:
    tensors = np.arange(64 * 64, dtype="<f4").reshape(64, 64)
    rows = make_payload_decoder(plan("raw", field("x", dtype="float32", shape=(64,)))).decode([row.tobytes() for row in tensors])
    assert rows.values.tobytes() == tensors.tobytes()
    assert rows.payload is None
    assert rows.degraded is None


NAN = struct.pack("<f", math.nan)
NILS = 65_000
STORMS: dict[str, tuple[DecodePlan, bytes, bytes, dict[str, int]]] = {
    "newlines": (plan("csv", "a", "b"), b"\n" * 65_000, b"1,2", {"short": 65_000}),
    "newlines of one column": (plan("csv", "a"), b"\n" * 65_000, b"1", {"missing": 65_000}),
    "newlines instead of a header": (plan("csv", "a", header=True), b"\n" * 65_000, b"a\n1", {"missing": 65_000}),
    "commas": (plan("csv", "a", "b"), b",\n" * 32_000, b"1,2", {"missing": 32_000}),
    "too many columns": (plan("csv", "a"), b",\n" * 32_000, b"1", {"long": 32_000}),
    "letters": (plan("csv", "a"), b"x\n" * 32_000, b"1", {"not_a_number": 32_000}),
    "keys": (plan("csv", "k", "a", key_fields=["k"]), b"/,1\n" * 16_000, b"k,1", {"bad_key": 16_000}),
    "nils": (
        plan("msgpack", "a"),
        b"\x81\xa1a\xdd" + struct.pack(">I", NILS) + b"\xc0" * NILS,
        b"\x81\xa1a\x01",
        {"missing": NILS},
    ),
    "nulls": (plan("json", "a"), b'{"a":[%b]}' % b",".join([b"null"] * 13_000), b'{"a":1}', {"missing": 13_000}),
    "raw NaN": (plan("raw", field("a", dtype="float32")), NAN * 16_000, struct.pack("<f", 1), {"not_finite": 16_000}),
    "out of range": (plan("raw", field("a", dtype="uint8", valid=(0, 9))), b"\xff" * 65_000, b"\x01", {"out_of_range": 65_000}),
    "held NaN": (
        plan("raw", field("a", dtype="float32"), on_bad="hold"),
        NAN * 16_000,
        struct.pack("<f", 1),
        {"not_finite": 16_000},
    ),
    "struct times": (
        plan("struct", field("t", dtype="float32"), field("a", dtype="uint8"), time=("t", "unix_s"), rows=(Step.SELF,)),
        (NAN + b"\1") * 13_000,
        struct.pack("<fB", 1, 1),
        {"not_finite": 13_000},
    ),
}


@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_is_told_in_few_words_and_counted_in_full(storm: str) -> None:
    planned, payload, good, counts = STORMS[storm]
    decoder = make_payload_decoder(planned)
    tracemalloc.start()
    try:
        rows = decoder.decode([payload, good, payload])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row[-1] for row in rows.values.tolist()][-1:] == ([2] if good == b"1,2" else [1])
    assert rows.payload is not None
    held = planned.on_bad == "hold"  # once there was a good one, that is held
    assert rows.payload.tolist() == ([1] + [2] * 16_000 if held else [1])
    for index in (0,) if held else (0, 2):
        of_this = [reject for reject in rows.rejects if reject.payload == index]
        assert refused(of_this) == counts
        assert len(of_this) == MAX_RECORDS + 1
        assert all(reject.detail for reject in of_this)
        assert all(len(reject.data) <= EXCERPT for reject in of_this)
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("planned", "payload"),
    [
        (plan("csv", "a", max_bytes=1 << 20), b"\n" * (MAX_ROWS + 1)),
        (plan("raw", field("a", dtype="uint8"), max_bytes=1 << 20), b"\1" * (MAX_ROWS + 1)),
        (plan("json", "a", max_bytes=1 << 20), b'{"a":[%b]}' % b",".join([b"1"] * (MAX_ROWS + 1))),
        (plan("msgpack", "a", max_bytes=1 << 20), b"\x81\xa1a\xdd" + struct.pack(">I", MAX_ROWS + 1) + b"\1" * (MAX_ROWS + 1)),
    ],
)
def test_the_rows_of_a_payload_have_a_bound(planned: DecodePlan, payload: bytes) -> None:
    rows = make_payload_decoder(planned).decode([payload])
    assert reasons(rows.rejects) == ["too_many_rows"]
    assert "at most 262144 samples" in rows.rejects[0].detail
    assert not len(rows.values)


def test_good_lines_between_bad_ones_all_survive_in_order() -> None:
    lines = [b"%d" % i if i % 3 else b"x" for i in range(3000)]
    rows = make_payload_decoder(plan("csv", "a")).decode([b"\n".join(lines), b"7"])
    assert rows.values[:, 0].tolist() == [*(i for i in range(3000) if i % 3), 7]
    assert refused(rows.rejects) == {"not_a_number": 1000}
    assert [reject.data for reject in rows.rejects] == [b"x"] * 5
    assert [reject.offset for reject in rows.rejects] == [len(b"\n".join(lines[:i])) + bool(i) for i in (0, 3, 6, 9, 12)]
