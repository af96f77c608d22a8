import numpy as np
import pytest

from edged.decode import make_payload_decoder
from edged.decode.wire import size_of, wire_of
from tests.support.decode_plans import field, plan

ABCD = np.array([[0x41, 0x42, 0x43, 0x44]], np.uint8)


@pytest.mark.parametrize(
    ("order", "data"), [("big", "41424344"), ("little", "44434241"), ("cdab", "43444142"), ("badc", "42414443")]
)
def test_orders_of_bytes(order: str, data: str) -> None:
    for dtype, value in (("uint32", 0x41424344), ("float32", float(np.float32(12.141422)))):
        wire = wire_of(dtype, order, (0, 32) if dtype == "uint32" else None)
        if wire is None:
            continue
        column = np.frombuffer(bytes.fromhex(data), "V4")
        assert wire.numbers(column)[0] == pytest.approx(value)


@pytest.mark.parametrize(
    ("dtype", "order", "data", "value"),
    [
        ("int24", "big", "fffc18", -1000),
        ("int24", "little", "18fcff", -1000),
        ("uint24", "big", "fffc18", 0xFFFC18),
        ("uint24", "little", "010000", 1),
        ("int24", "big", "7fffff", 2**23 - 1),
        ("int24", "big", "800000", -(2**23)),
        ("float64", "cdab", "00000000000040f8", None),
        ("uint16", "badc", "0102", 0x0201),
        ("uint16", "cdab", "0102", 0x0102),
    ],
)
def test_numbers_that_numpy_has_no_type_for(dtype: str, order: str, data: str, value: float | None) -> None:
    wire = wire_of(dtype, order, None)
    assert wire is not None
    assert wire.size == size_of(dtype) == len(data) // 2
    found = wire.numbers(np.frombuffer(bytes.fromhex(data) * 3, f"V{wire.size}"))
    expected = (
        np.frombuffer(bytes.fromhex(data), np.uint16).byteswap()[::-1].astype(">u2").view(">f8")[0] if value is None else value
    )
    assert found.tolist() == [expected] * 3


def test_bits() -> None:
    data = np.frombuffer(bytes.fromhex("3e8102"), np.uint8)
    assert wire_of("uint8", "little", (2, 6)).numbers(data[:1].view("V1"))[0] == 15  # type: ignore[union-attr]
    assert wire_of("uint16", "little", (1, 15)).numbers(data[1:].view("V2"))[0] == 0x0281 >> 1  # type: ignore[union-attr]
    assert wire_of("int24", "big", (23, 1)).numbers(data.view("V3"))[0] == 0  # type: ignore[union-attr]
    assert wire_of("uint16", "little", None) is None, "numpy reads it by itself"


def test_fields_of_a_record_tensors_and_a_rest() -> None:
    planned = plan(
        "struct",
        field("ch", dtype="int24", shape=(2,), endian="big"),
        field("low", dtype="uint8", bits=(0, 4)),
        field("v", dtype="float32", endian="cdab"),
        endian="little",
        rest="skip",
    )
    record = bytes.fromhex("0003e8 fffc18 c5") + np.array([230.5], ">f4").view(np.uint8)[[2, 3, 0, 1]].tobytes()
    rows = make_payload_decoder(planned).decode([record, record + b"rest", record[:-1]])
    assert rows.values.tolist() == [[1000, -1000, 5, 230.5]] * 2
    assert [(reject.reason, reject.payload) for reject in rows.rejects] == [("short", 2)]
