import struct

import numpy as np
import pytest

from edged.config.schema import Element
from edged.decode import make_payload_decoder
from edged.decode.where import Condition
from edged.notation.field_paths import Step
from tests.support.decode_plans import field, plan, reasons


def test_fields_in_wire_order_packed() -> None:
    planned = plan(
        "struct",
        field("flags", dtype="uint8"),
        field("ax", dtype="int16", scale=0.01),
        field("_", dtype="uint8", shape=(3,)),
        field("t", dtype="uint32"),
        field("p", dtype="float64"),
        field("on", dtype="bool"),
        time=("t", "elapsed_ms"),
        key_fields=("flags",),
        dtype=np.float64,
        rows=(Step.SELF,),
    )
    record = struct.Struct("<Bh3xIdB")
    rows = make_payload_decoder(planned).decode([record.pack(7, -250, 1000, 0.1, 2), record.pack(8, 1, 2000, 0.2, 0) * 2])
    assert rows.values.tolist() == [[-2.5, 0.1, 1], [0.01, 0.2, 0], [0.01, 0.2, 0]]
    assert rows.time is not None
    assert rows.time.tolist() == [1_000_000_000, 2_000_000_000, 2_000_000_000]
    assert rows.keys == [("7",), ("8",), ("8",)]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 1, 1]


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(
    "dtype",
    ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"],
)
def test_every_type(dtype: str, endian: str) -> None:
    numbers = np.array([[0, 1, 100], [3, 4, 5]], np.dtype(dtype).newbyteorder("<" if endian == "little" else ">"))
    payloads = [row.tobytes() for row in numbers]
    for format in ("struct", "raw"):
        same = plan(format, *(field(name, dtype=dtype) for name in "abc"), endian=endian)
        rows = make_payload_decoder(same).decode(payloads)
        assert rows.values.dtype == np.float32
        assert rows.values.tolist() == [[0, 1, 100], [3, 4, 5]]
        assert rows.payload is None
    mixed = plan("struct", field("a", dtype=dtype), field("b", dtype="uint8"), endian=endian, dtype=np.float64)
    rows = make_payload_decoder(mixed).decode([payload[: numbers.itemsize] + b"\x09" for payload in payloads])
    assert rows.values.tolist() == [[0, 9], [3, 9]]


def test_a_payload_that_is_no_whole_number_of_rows() -> None:
    decoder = make_payload_decoder(plan("raw", field("pcm", dtype="int16", scale=0.5)))
    rows = decoder.decode([b"\1\0\2\0", b"x" * 1023, b"", b"\3\0"])
    assert rows.values[:, 0].tolist() == [0.5, 1, 1.5]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0, 3]
    assert reasons(rows.rejects) == ["long", "short"]
    assert rows.rejects[0].detail == "a payload of 1023 bytes is not a whole number of int16"
    tensor = make_payload_decoder(plan("raw", field("x", dtype="float32", shape=(64,))))
    assert "rows of 64 float32 (256 bytes)" in tensor.decode([b"x" * 255]).rejects[0].detail
    record = make_payload_decoder(plan("struct", field("a", dtype="int8"), field("b", dtype="int32")))
    assert "records of 5 bytes" in record.decode([b"x" * 9]).rejects[0].detail


def test_not_finite_is_dropped_by_itself() -> None:
    good, bad = np.ones(4, "<f4"), np.array([1, np.nan, 1, np.inf], "<f4")
    rows = make_payload_decoder(plan("raw", field("x", dtype="float32", shape=(4,)))).decode(
        [good.tobytes(), bad.tobytes() + good.tobytes()]
    )
    assert rows.values.tolist() == [[1] * 4] * 2
    assert [(reject.reason, reject.payload, reject.detail) for reject in rows.rejects] == [
        ("not_finite", 1, "x[1]: expected a finite number, found nan")
    ]


def test_large_integers_keep_their_digits_in_float64() -> None:
    planned = plan("struct", field("a", dtype="int64"), field("b", dtype="uint32"), dtype=np.float64)
    assert make_payload_decoder(planned).decode([struct.pack("<qI", 2**52 + 1, 2**32 - 1)]).values.tolist() == [
        [2**52 + 1, 2**32 - 1]
    ]


def test_times_that_cannot_be_reject_their_record() -> None:
    planned = plan("struct", field("t", dtype="float64"), field("a", dtype="uint8"), time=("t", "unix_s"))
    rows = make_payload_decoder(planned).decode([struct.pack("<dB", t, 1) for t in (1.5, float("nan"), 1e30, 2.0)])
    assert rows.time is not None
    assert rows.time.tolist() == [1_500_000_000, 2_000_000_000]
    assert reasons(rows.rejects) == ["not_finite", "out_of_range"]
    assert [reject.payload for reject in rows.rejects] == [1, 2]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 3]


def test_a_payload_of_struct_is_one_record() -> None:
    fields = [field("a", dtype="int16"), field("b", dtype="uint8")]
    rows = make_payload_decoder(plan("struct", *fields)).decode([b"\1\0\2", b"\1\0\2\3\0\4", b"\1", b"\5\0\6"])
    assert rows.values.tolist() == [[1, 2], [5, 6]]
    assert reasons(rows.rejects) == ["long", "short"]
    assert 'rows = "."' in rows.rejects[0].detail
    several = make_payload_decoder(plan("struct", *fields, rows=(Step.SELF,))).decode([b"\1\0\2\3\0\4", b"\1\0\2\3"])
    assert several.values.tolist() == [[1, 2], [3, 4]]
    assert reasons(several.rejects) == ["long"]
    cut = make_payload_decoder(plan("struct", *fields, rows=(Step.SELF,), rest="skip")).decode([b"\1\0\2\3\0\4\\9"])
    assert cut.values.tolist() == [[1, 2], [3, 4]]


def test_a_group_is_a_tensor_for_each_field_or_a_sample_for_each_element() -> None:
    group = field("points", repeat=3, fields=(Element(name="d", dtype="uint16", scale=0.5), Element(name="i", dtype="uint8")))
    fields = [field("speed", dtype="uint8"), group, field("end", dtype="uint8")]
    payloads = [struct.pack("<BHBHBHBB", 9, 2, 1, 4, 2, 6, 3, n) for n in (7, 8)]
    tensors = make_payload_decoder(plan("struct", *fields)).decode(payloads)
    assert tensors.values.tolist() == [[9, 1, 2, 3, 1, 2, 3, n] for n in (7, 8)]
    points = make_payload_decoder(plan("struct", *fields, rows=("points",))).decode(payloads)
    assert points.values.tolist() == [[9, d, d, n] for n in (7, 8) for d in (1, 2, 3)]
    assert points.payload is not None
    assert points.payload.tolist() == [0, 0, 0, 1, 1, 1]
    keyed = make_payload_decoder(plan("struct", *fields, rows=("points",), key_fields=("end",))).decode(payloads)
    assert keyed.keys == [("7",)] * 3 + [("8",)] * 3


def test_texts_in_records_are_numbers_words_and_keys() -> None:
    planned = plan(
        "struct",
        field("id", dtype="text", size=3),
        field("kg", dtype="text", size=6),
        field("state", dtype="text", size=2, values={"ST": 1.0, "US": 0.0}),
        field("tag", dtype="text", size=2, base=16),
        key_fields=("id",),
    )
    rows = make_payload_decoder(planned).decode([b"A1 +01.50ST1F", b"B2\0 -2.25USff", b"A1 +0x.50ST1F", b"A1 +01.50??1F"])
    assert rows.values.tolist() == [[1.5, 1, 31], [-2.25, 0, 255]]
    assert rows.keys == [("A1",), ("B2",)]
    assert reasons(rows.rejects) == ["not_finite", "not_finite"]
    hexed = plan(
        "struct",
        field("tag", dtype="text", size=2, base=16),
        field("v", dtype="uint8"),
        where=(Condition("tag", (0x1F,)),),
    )
    meant = make_payload_decoder(hexed).decode([b"1F\5", b"20\6"])
    assert meant.values.tolist() == [[5]]
    assert reasons(meant.rejects) == ["other"]


def test_another_kind_of_message_is_other_whatever_its_size() -> None:
    planned = plan("struct", field("kind", dtype="uint8"), field("v", dtype="uint16"), where=(Condition("kind", (7,)),))
    rows = make_payload_decoder(planned).decode([b"\x07\1\0", b"\x08", b"\x09\1\2\3\4", b"\x07", b"", b"\x08\1\0"])
    assert rows.values.tolist() == [[1]]
    assert reasons(rows.rejects) == ["other", "other", "short", "short", "other"]
