import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from edged.decode import make_payload_decoder
from edged.decode.values import Range
from tests.support.decode_plans import field, plan, reasons

NULL = b'{"a":null}'


def test_scale_then_range() -> None:
    planned = plan("csv", field("t", scale=0.1, offset=-40, valid=(-40, 85)), "a")
    rows = make_payload_decoder(planned).decode([b"0,1", b"1250,2", b"1251,3", b"-1,4"])
    assert rows.values.tolist() == [[-40, 1], [85, 2]]
    assert reasons(rows.rejects) == ["out_of_range"] * 2
    assert rows.rejects[0].detail == "t: 85.1 is outside -40 to 85"
    assert rows.rejects[0].payload == 2
    assert rows.rejects[0].data == b"1251,3"


def test_a_float32_bound_is_a_float32() -> None:
    planned = plan("raw", field("a", dtype="float32", valid=(0, 0.1)))
    rows = make_payload_decoder(planned).decode([np.float32(0.1).tobytes(), np.float32(0.11).tobytes()])
    assert rows.values.tolist() == [[np.float32(0.1)]]


def test_scaling_into_infinity_is_bad() -> None:
    rows = make_payload_decoder(plan("csv", field("a", scale=1e300), dtype=np.float64)).decode([b"1e300", b"1"])
    assert rows.values.tolist() == [[1e300]]
    assert reasons(rows.rejects) == ["not_finite"]


def test_pass_marks_and_keeps_what_is_bad() -> None:
    planned = plan("json", field("a", valid=(0, 1)), "b", on_bad="pass")
    rows = make_payload_decoder(planned).decode([b'{"a":0.5,"b":1}', b'{"a":7,"b":null}', b'{"b":1e999}', b'{"a":1,"b":"x"}'])
    assert np.array_equal(rows.values, [[0.5, 1], [7, np.nan], [np.nan, np.inf], [1, np.nan]], equal_nan=True)
    assert rows.degraded is not None
    assert rows.degraded.tolist() == [False, True, True, True]
    assert not rows.rejects


class TestHold:
    def test_last_good_value_of_each_field(self) -> None:
        decoder = make_payload_decoder(plan("json", "occupancy", "lux", on_bad="hold"))
        first = decoder.decode([b'{"occupancy":true}', b'{"lux":5}', b'{"occupancy":false,"lux":null}'])
        assert first.values.tolist() == [[1, 5], [0, 5]]
        assert reasons(first.rejects) == ["missing"]
        assert first.rejects[0].detail == "lux: absent"
        assert first.degraded is not None
        assert first.degraded.tolist() == [True, True]
        assert first.payload is not None
        assert first.payload.tolist() == [1, 2]
        later = decoder.decode([b'{"lux":6,"occupancy":true}'])
        assert later.degraded is None
        assert reasons(decoder.decode([b"{}"]).rejects) == ["other"]
        assert decoder.decode([b'{"lux":null}']).values.tolist() == [[1, 6]]

    def test_each_sensor_has_its_own(self) -> None:
        decoder = make_payload_decoder(plan("json", "a", on_bad="hold", max_keys=2))
        decoder.decode([b'{"a":1}', b'{"a":2}'], [("x",), ("y",)])
        assert decoder.decode([NULL, NULL], [("y",), ("x",)]).values.tolist() == [[2], [1]]
        decoder.decode([b'{"a":3}'], [("z",)])
        rows = decoder.decode([NULL, NULL, NULL], [("z",), ("x",), ("y",)])
        assert rows.values.tolist() == [[3], [1]], "y was heard longest ago"
        assert reasons(rows.rejects) == ["missing"]

    def test_keys_of_the_payload(self) -> None:
        decoder = make_payload_decoder(plan("csv", "k", "a", key_fields=("k",), on_bad="hold"))
        rows = decoder.decode([b"x,1\ny,2\nx,\ny,nan"])
        assert rows.values.tolist() == [[1], [2], [1], [2]]
        assert rows.keys == [("x",), ("y",), ("x",), ("y",)]

    def test_out_of_range_is_held(self) -> None:
        decoder = make_payload_decoder(plan("csv", field("a", valid=(0, 10)), on_bad="hold"))
        rows = decoder.decode([b"99", b"5", b"99"])
        assert rows.values.tolist() == [[5], [5]]
        assert reasons(rows.rejects) == ["out_of_range"]


@pytest.mark.parametrize("on_bad", ["drop", "hold"])
def test_bad_values_never_reach_the_rows(on_bad: str) -> None:
    generator = np.random.default_rng(0)
    numbers = generator.choice([0.0, 0.5, 1.0, -0.1, 1.1, np.nan, np.inf, -np.inf, 1e38], (500, 4)).astype("<f4")
    planned = plan("raw", *(field(name, dtype="float32", valid=(0, 1)) for name in "abcd"), on_bad=on_bad)
    rows = make_payload_decoder(planned).decode([row.tobytes() for row in numbers])
    assert len(rows.values) + len(rows.rejects) == 500
    assert ((rows.values >= 0) & (rows.values <= 1)).all()
    if on_bad == "drop":
        good = ((numbers >= 0) & (numbers <= 1)).all(axis=1)
        assert rows.values.tobytes() == numbers[good].tobytes()


def test_keys_and_times_follow_their_rows() -> None:
    planned = plan("json", field("a", valid=(0, 1)), time=("t", "elapsed_ms"), key_fields=("k",))
    rows = make_payload_decoder(planned).decode([b'{"a":%d,"t":%d,"k":"k%d"}' % (i % 3, i, i) for i in range(6)])
    assert rows.values[:, 0].tolist() == [0, 1, 0, 1]
    assert rows.keys == [("k0",), ("k1",), ("k3",), ("k4",)]
    assert rows.time is not None
    assert rows.time.tolist() == [0, 1_000_000, 3_000_000, 4_000_000]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 1, 3, 4]


def test_limits_alike_hold_for_every_number_of_a_row() -> None:
    planned = plan("csv", field("a", valid=(-5, 5)), field("b", valid=(-5, 5)), field("c", valid=(-5, 5)))
    decoder = make_payload_decoder(planned)
    payloads = [b"0,0,0", b"2,-1,1", b"5,-5,5", b"5.1,0,0", b"0,0,-5.000001", b"0,0,nan", b"0,1e308,0"]
    rows = decoder.decode(payloads)
    assert rows.values.tolist() == [[0, 0, 0], [2, -1, 1], [5, -5, 5]]
    for payload, is_good in zip(payloads, (True, True, True, False, False, False, False), strict=True):
        assert len(decoder.decode([payload]).values) == is_good, payload


NUMBERS = st.one_of(
    st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, -1.0, 100.0, -50.0, 3.4028234663852886e38, 1.7e38, -1.8e38])
)


@given(
    values=st.lists(NUMBERS, min_size=1, max_size=300),
    limits=st.sampled_from([(-np.inf, np.inf), (-3.5e38, 3.5e38), (-50.0, 100.0), (0.0, 1.0), (-1e30, 1e30), (0.0, np.inf)]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_range_holds_all_that_it_holds_one_by_one(values: list[float], limits: tuple[float, float], dtype: DTypeLike) -> None:
    most = float(np.finfo(np.dtype(dtype)).max)
    low, high = [np.full(len(values), max(-most, min(limit, most)), dtype) for limit in limits]
    row = np.array([values], dtype)
    assert Range(low, high).holds_all(row) is bool(Range(low, high).holds(row).all())
