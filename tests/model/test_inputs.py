from __future__ import annotations

import gc
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.model.inputs import (
    ANY,
    CHW,
    FIELD_TIME,
    HWC,
    TIME_FIELD,
    Filler,
    Fit,
    InputPlan,
    fit,
    fit_picture,
    make_constant,
    make_filler,
    seen_as,
)

TF, FT = TIME_FIELD, FIELD_TIME


@pytest.mark.parametrize(
    ("window", "tensor", "want"),
    [
        ((60, 4), ["N", 60, 4], [Fit(TF, (60, 4), ANY)]),
        ((60, 4), [None, 4, 60], [Fit(FT, (4, 60), ANY)]),
        ((60, 4), [-1, 240], [Fit(TF, (240,), ANY)]),
        ((60, 4), ["N", 1, 60, 4], [Fit(TF, (1, 60, 4), ANY)]),
        ((60, 4), ["N", 4, 1, 60], [Fit(FT, (4, 1, 60), ANY)]),
        ((60, 4), [1, 60, 4], [Fit(TF, (60, 4), 1)]),
        ((60, 4), [16, 60, 4], [Fit(TF, (60, 4), 16)]),
        ((60, 4), [60, 4], [Fit(TF, (60, 4), None)]),
        ((60, 4), [240], [Fit(TF, (240,), None)]),
        ((60, 4), ["N", "time", 4], [Fit(TF, (60, 4), ANY)]),
        ((60, 4), ["N", "time", 60], [Fit(FT, (4, 60), ANY)]),
        ((60, 4), ["N", "numbers"], [Fit(TF, (240,), ANY)]),
        ((60, 4), ["N", "channel", 60, 4], [Fit(TF, (1, 60, 4), ANY)]),
        ((60, 4), ["N", "a", "b"], [Fit(TF, (60, 4), ANY), Fit(FT, (4, 60), ANY)]),
        ((64, 64), ["N", 64, 64], [Fit(TF, (64, 64), ANY), Fit(FT, (64, 64), ANY)]),
        ((60, 4), ["N", 60, 5], []),
        ((60, 4), ["N", 61, 4], []),
        ((60, 4), [], []),
        ((128, 1), ["N", 128], [Fit(TF, (128,), ANY)]),
        ((128, 1), ["N", 1, 128], [Fit(TF, (1, 128), ANY)]),
        ((128, 1), ["samples"], [Fit(TF, (128,), None)]),
        ((1, 4), ["N", 4], [Fit(TF, (4,), ANY)]),
        ((1, 4), ["N", 1, 4], [Fit(TF, (1, 4), ANY)]),
        ((1, 4), ["N", "time", 4], [Fit(TF, (1, 4), ANY)]),
        ((None, 4), ["N", 4], [Fit(TF, (4,), ANY)]),
        ((None, 4), ["N", 1, 4], [Fit(TF, (1, 4), ANY)]),
        ((None, 4), [4], [Fit(TF, (4,), None)]),
        ((None, 4), ["N", 2, 2], []),
        ((None, 64), [64, 64], [Fit(TF, (64,), 64)]),
        ((None, 1), [], [Fit(TF, (), None)]),
        ((None, 1), [1], [Fit(TF, (), 1)]),
        ((None, 1), ["N"], [Fit(TF, (), ANY)]),
        ((None, 1), ["N", 1], [Fit(TF, (1,), ANY)]),
        ((None, 1), ["N", "M"], [Fit(TF, (1,), ANY)]),
        ((1, 1), ["N", 1, 1], [Fit(TF, (1, 1), ANY)]),
    ],
)
def test_fits(window: tuple[int | None, int], tensor: list[Any], want: list[Fit]) -> None:
    assert fit(window, tensor) == want


@pytest.mark.parametrize(
    ("size", "tensor", "shape"),
    [
        (None, ["N", 3, 224, 224], (3, 224, 224)),
        (None, ["N", 3 * 224 * 224], (3 * 224 * 224,)),
        (None, [3, 224, 224], (3, 224, 224)),
        (None, ["N", 1, 3, "h", "w"], (1, 3, 224, 224)),
        (2, ["N", 2, 3, 224, 224], (2, 3, 224, 224)),
        (2, ["N", 2, 3 * 224 * 224], (2, 3 * 224 * 224)),
    ],
)
def test_a_field_that_is_a_tensor_keeps_its_shape(size: int | None, tensor: list[Any], shape: tuple[int, ...]) -> None:
    assert [f.shape for f in fit((size, 3 * 224 * 224), tensor, (3, 224, 224))] == [shape]


def test_a_given_layout_decides_and_may_refuse() -> None:
    assert fit((64, 64), ["N", 64, 64], layout=FT) == [Fit(FT, (64, 64), ANY)]
    assert fit((60, 4), ["N", 60, 4], layout=FT) == []
    assert fit((60, 4), ["N", 240], layout=FT) == [Fit(FT, (240,), ANY)]


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.lists(st.integers(0, 3), max_size=3), st.booleans())
def test_axes_of_length_one_may_stand_anywhere(size: int, width: int, places: list[int], turned: bool) -> None:
    shape = [width, size] if turned else [size, width]
    for place in places:
        shape.insert(min(place, len(shape)), 1)
    fits = fit((size, width), ["N", *shape])
    assert (FT if turned else TF) in [f.layout for f in fits]
    assert all(f.shape == tuple(shape) and f.batch == ANY for f in fits)
    assert len(fits) == (2 if size == width else 1)


@pytest.mark.parametrize(
    ("shape", "want"),
    [((5, 3), ((5, 3), ())), ((5,), ((None, 5), ())), ((), ((None, 1), ())), ((2, 3, 4), ((None, 24), (2, 3, 4)))],
)
def test_what_steps_give_is_a_window_or_a_sample(shape: tuple[int, ...], want: Any) -> None:
    assert seen_as(shape) == want


@settings(deadline=None)
@given(
    size=st.integers(1, 6),
    width=st.integers(1, 5),
    data=st.data(),
    turned=st.booleans(),
    is_flat=st.booleans(),
)
def test_a_window_is_copied_number_by_number(size: int, width: int, data: st.DataObject, turned: bool, is_flat: bool) -> None:
    columns = data.draw(st.none() | st.lists(st.integers(0, width - 1), min_size=1, max_size=5).map(tuple))
    rows = data.draw(st.none() | st.integers(1, size))
    window = np.arange(size * width, dtype=np.float32).reshape(size, width)
    picked = [[window[t, c] for c in (columns or range(width))] for t in range(size - (rows or size), size)]
    if turned:
        picked = [list(column) for column in zip(*picked, strict=True)]
    shape = (len(picked) * len(picked[0]),) if is_flat else (len(picked), 1, len(picked[0]))
    slots = np.full((3, *shape), -1, np.float32)
    Filler(InputPlan("x", shape, "float32", columns, rows, FT if turned else TF)).fill(slots[1], window)
    assert slots[1].reshape(-1).tolist() == list(itertools.chain(*picked))
    assert np.all(slots[[0, 2]] == -1)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_many_samples_are_copied_as_one_by_one(count: int, width: int, data: st.DataObject) -> None:
    columns = data.draw(st.none() | st.lists(st.integers(0, width - 1), min_size=1, max_size=5).map(tuple))
    dtype = data.draw(st.sampled_from(["float32", "float64", "float16", "int8", "bool"]))
    taken = data.draw(st.permutations(range(8)))[:count]
    n = len(columns) if columns else width
    shape = data.draw(st.sampled_from([(n,), (1, n), (n, 1)] + ([()] if n == 1 else [])))
    values = np.random.default_rng(0).normal(size=(count, width), scale=100).astype(np.float32)
    filler = Filler(InputPlan("x", shape, dtype, columns))
    many, single = np.zeros((2, 8, *shape), dtype)
    filler.fill_many(many, taken, values)
    for row, sample in zip(taken, values, strict=True):
        filler.fill(single[row, ...], sample)
    np.testing.assert_array_equal(many, single)


def test_what_steps_gave_in_three_axes_is_copied_whole() -> None:
    out = np.zeros((2, 24), np.float32)
    filler = Filler(InputPlan("x", (24,)))
    made = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4)
    filler.fill(out[0], made[0])
    assert out[0].tolist() == list(range(24))
    filler.fill_many(out, [1, 0], made)
    assert out[0].tolist() == list(range(24, 48))


@pytest.mark.parametrize("layout", [TF, FT])
@pytest.mark.parametrize("count", [1, 2])
def test_what_steps_gave_in_two_axes_lies_as_the_model_wants_it_alone_and_with_others(layout: str, count: int) -> None:
    made = np.arange(12 * count, dtype=np.float32).reshape(count, 4, 3)
    want = made if layout == TF else made.swapaxes(1, 2)
    filler = Filler(InputPlan("x", want.shape[1:], layout=layout))
    one_by_one, many, together = np.zeros((3, *want.shape), np.float32)
    for row, values in zip(one_by_one, made, strict=True):
        filler.fill(row, values)
    filler.fill_many(many, range(count), made)
    filler.fill_all(together, made)
    for found in (one_by_one, many, together):
        assert found.tolist() == want.tolist()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("given_as", ["float32", "float64"])
@pytest.mark.parametrize(
    ("dtype", "values", "want"),
    [
        ("uint8", [-1, 0.9, 1.5, 2.5, 255, 256, 1e9, INF, -INF, NAN], [0, 0, 1, 2, 255, 255, 255, 255, 0, 0]),
        ("int8", [-129, -1.9, 127.9, 128], [-128, -1, 127, 127]),
        ("int32", [2**31, -(2.0**31), -1e30, 3], [2**31 - 1, -(2**31), -(2**31), 3]),
        ("int64", [1e30, -1e30, 2.0**40], [2**63 - 1, -(2**63), 2**40]),
        ("uint64", [1e30, -1, 2.0**40], [2**64 - 1, 0, 2**40]),
        ("bool", [0, -0.0, 0.1, -3, NAN], [False, False, True, True, True]),
        ("float16", [1e6, -1e6, 1.5], [65504, -65504, 1.5]),
    ],
)
def test_numbers_that_a_type_cannot_hold(given_as: str, dtype: str, values: list[float], want: list[Any]) -> None:
    out = np.zeros((2, len(values)), dtype)
    filler = Filler(InputPlan("x", (len(values),), dtype))
    filler.fill(out[0], np.array(values, given_as))
    assert out[0].tolist() == want
    filler.fill_many(out, [1, 0], np.array([values, values], given_as))
    assert out.tolist() == [want, want]


def test_a_double_too_large_for_a_float_stays_finite() -> None:
    out = np.zeros(2, np.float32)
    Filler(InputPlan("x", (2,))).fill(out, np.array([1e300, NAN]))
    assert out[0] == np.finfo(np.float32).max
    assert np.isnan(out[1])


def test_text_is_no_input() -> None:
    with pytest.raises(ValueError, match="input x is str, which cannot be filled from numbers"):
        Filler(InputPlan("x", (2,), "str"))


def test_constants() -> None:
    assert make_constant(16000, (), np.int64).tolist() == 16000
    assert make_constant(0.5, (1, 2), np.float32).tolist() == [[0.5, 0.5]]
    assert make_constant([1, 2], (1, 2), np.float16).tolist() == [[1, 2]]
    for value, shape, said in [
        ([1, 2], (3,), "one number or 3"),
        ("a", (1,), "one number"),
        (300, (1,), "300 is no int8"),
        (0.5, (), "no int8"),
    ]:
        with pytest.raises(ValueError, match=said):
            make_constant(value, shape, np.int8)


def test_filling_leaves_nothing_allocated() -> None:
    plain = Filler(InputPlan("x", (4, 16), columns=(0, 1, 2, 3), rows=16, layout=FT))
    chosen = Filler(InputPlan("y", (2,), "int8", columns=(5, 1)))
    slots, small = np.zeros((8, 4, 16), np.float32), np.zeros((8, 2), np.int8)
    window = np.ones((32, 6), np.float32)

    def turn(times: int) -> None:
        for _ in range(times):
            plain.fill(slots[3], window)
            chosen.fill_many(small, [1, 5, 2], window[:3])

    turn(20)
    gc.collect()
    tracemalloc.start()
    turn(20)
    grown = []
    for _ in range(3):  # what is left behind is so each time; what a thread of another test allocates is not
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        turn(500)
        gc.collect()
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    assert min(grown) < 2048


class TestPictures:
    @pytest.mark.parametrize(
        ("size", "picture", "tensor", "want"),
        [
            (None, (48, 64, 3), ["N", 3, 48, 64], [Fit(CHW, (3, 48, 64), ANY)]),
            (None, (48, 64, 3), ["N", 48, 64, 3], [Fit(HWC, (48, 64, 3), ANY)]),
            (None, (48, 64, 3), ["N", 3, "h", "w"], [Fit(CHW, (3, 48, 64), ANY)]),
            (None, (48, 64, 3), [1, 3, 48, 64], [Fit(CHW, (3, 48, 64), 1)]),
            (None, (48, 64, 3), [3, 48, 64], [Fit(CHW, (3, 48, 64), None)]),
            (None, (48, 64, 3), ["N", "a", "b", "c"], [Fit(HWC, (48, 64, 3), ANY), Fit(CHW, (3, 48, 64), ANY)]),
            (None, (48, 64, 1), ["N", 1, 48, 64], [Fit(HWC, (1, 48, 64), ANY)]),
            (None, (48, 64, 1), ["N", 48, 64, 1], [Fit(HWC, (48, 64, 1), ANY)]),
            (2, (48, 64, 3), ["N", 2, 3, 48, 64], [Fit(CHW, (2, 3, 48, 64), ANY)]),
            (1, (48, 64, 3), ["N", 3, 48, 64], [Fit(CHW, (3, 48, 64), ANY)]),
            (None, (48, 64, 3), ["N", 3, 64, 48], []),
            (2, (48, 64, 3), ["N", 3, 48, 64], []),
        ],
    )
    def test_the_orders_that_fit(self, size: int | None, picture: Any, tensor: Any, want: list[Fit]) -> None:
        assert fit_picture(size, picture, tensor, None, len(tensor) > 3) == want
        for one in want:
            assert fit_picture(size, picture, tensor, one.layout, len(tensor) > 3)[0].shape == one.shape

    @pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "int32"])
    @pytest.mark.parametrize("source", ["uint8", "float32"])
    def test_one_and_many(self, dtype: str, source: str) -> None:
        pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(source)
        filler = make_filler(InputPlan("x", (3, 4, 6), dtype, layout=CHW, picture=(4, 6, 3)))
        slots = np.zeros((5, 3, 4, 6), dtype)
        filler.fill_many(slots, [4, 0, 2], pictures.reshape(3, -1))
        assert (slots[[4, 0, 2]] == pictures.transpose(0, 3, 1, 2)).all()
        plain = make_filler(InputPlan("x", (4, 6, 3), dtype, layout=HWC, picture=(4, 6, 3)))
        out = np.zeros((4, 6, 3), dtype)
        plain.fill(out, pictures[1].reshape(-1))
        assert (out == pictures[1]).all()

    def test_the_newest_of_a_window(self) -> None:
        window = np.random.default_rng(0).integers(0, 256, (4, 2 * 3 * 3)).astype(np.uint8)
        out = np.zeros((2, 3, 2, 3), np.float32)
        make_filler(InputPlan("x", (2, 3, 2, 3), rows=2, layout=CHW, picture=(2, 3, 3))).fill(out, window)
        assert (out == window[-2:].reshape(2, 2, 3, 3).transpose(0, 3, 1, 2)).all()

    def test_a_colour_that_does_not_fit_is_the_nearest(self) -> None:
        out = np.zeros((1, 2, 1), np.int8)
        make_filler(InputPlan("x", (1, 2, 1), "int8", layout=HWC, picture=(1, 2, 1))).fill(out, np.array([5, 200], np.uint8))
        assert out.ravel().tolist() == [5, 127]
