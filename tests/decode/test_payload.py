import numpy as np

from edged.decode import make_payload_decoder
from tests.decode.plans import field, plan, reasons


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
    assert {reject.payload: reject.data for reject in rows.rejects} == {1: b"2" * 11, 2: b"x", 3: b"y", 4: b"5" * 64}


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
