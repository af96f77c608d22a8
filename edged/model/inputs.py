"""From a window or a sample to the rows of a model's inputs: which columns, which rows, in which order, as which type.

`fit` says in which ways a window fits a tensor; which of them is meant is the plan's to decide. `Filler` does the copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.decode.letters import texts

Array = NDArray[Any]
Shape = tuple[int, ...]
Axes = Sequence[int | str | None]
"""A tensor's shape in a model file: sizes, and names, None or numbers below 1 for axes that may have any size."""

OpenShape = tuple[int | None, ...]

TIME_FIELD, FIELD_TIME = "time,field", "field,time"
HWC, CHW = "hwc", "chw"
"""How a picture lies in a tensor: height, width and colour, or colour, height and width."""
ANY = 0


class Fit(msgspec.Struct, frozen=True):
    """One way to see a window as a row of a tensor.

    `layout` is the order of its numbers, `shape` the row's shape without the batch axis, open axes resolved.
    `batch` is how many rows the tensor takes: `ANY` number, exactly n, or None where it has no batch axis.
    """

    layout: str
    shape: Shape
    batch: int | None


def fit(
    window: tuple[int | None, int],
    tensor: Axes,
    field_shape: Shape = (),
    layout: str | None = None,
    has_batch: bool | None = None,
) -> list[Fit]:
    """The ways in which a window `(size or None, width)` fits a tensor, at most one a layout; empty if it does not.

    `field_shape` is the shape of the only field, if that is a tensor of `width` numbers. Axes of length 1 may stand anywhere,
    the numbers may be flattened, the batch axis may be missing; the closest readings are preferred: with a batch axis
    before without, not flattened before flattened, open axes that hold something before open axes of length 1.
    Two fits mean that only `layout` can tell; given, it leaves the fits of that order. `has_batch` says whether the first axis
    counts rows (None: whatever fits).
    """
    for batch, row in _rows(tensor, has_batch):
        for may_be_one in (False, True):
            for orders in _readings(window, field_shape, layout):
                found = [
                    Fit(order, shape, batch) for order, dims in orders if (shape := _match(row, dims, may_be_one)) is not None
                ]
                if found:
                    return found
    return []


def _rows(tensor: Axes, has_batch: bool | None) -> Iterator[tuple[int | None, OpenShape]]:
    """What the batch axis and one row of it may be, the likelier reading first."""
    axes = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in tensor)
    if axes and has_batch is not False:
        yield axes[0] or ANY, axes[1:]
    if has_batch is not True:
        yield None, axes


def fit_picture(
    size: int | None, picture: Shape, tensor: Axes, layout: str | None = None, has_batch: bool | None = None
) -> list[Fit]:
    """The same for a picture `[height, width, channels]`, or a window of `size` of them: one fit for each order of its axes that
    fits; two only where the axes that the model leaves open cannot tell."""
    height, width, channels = picture
    time = (size or 1,)
    orders = {HWC: (*time, height, width, channels), CHW: (*time, channels, height, width)}
    for batch, row in _rows(tensor, has_batch):
        for may_be_one in (False, True):
            found = [
                Fit(order, shape, batch)
                for order, dims in orders.items()
                if layout in (None, order) and (shape := _match(row, tuple(n for n in dims if n != 1), may_be_one)) is not None
            ]
            if found:
                return found[:1] if channels == 1 else found  # of one colour both are the same
    return []


def seen_as(shape: Shape) -> tuple[tuple[int | None, int], Shape]:
    """What `preprocess` gives, as the first and third argument of `fit`: `[a, b]` is a window, anything else a sample."""
    if len(shape) == 2:
        return (shape[0], shape[1]), ()
    return (None, int(np.prod(shape))), shape if len(shape) > 2 else ()


def _readings(window: tuple[int | None, int], field_shape: Shape, layout: str | None) -> list[list[tuple[str, Shape]]]:
    """Shapes that the numbers have, by layout, in groups of falling preference. Axes of length 1 are left out."""
    size, width = window
    time = () if size is None or size == 1 else (size,)
    fields = tuple(n for n in field_shape if n != 1)
    flat = () if width == 1 else (width,)
    if not time or not flat:
        only = layout or TIME_FIELD  # one axis at most: both orders are the same
        return [[(only, time + fields)], [(only, time + flat)]] if fields else [[(only, time + flat)]]
    groups: list[list[tuple[str, Shape]]] = [
        [(TIME_FIELD, time + fields)] if fields else [],
        [(TIME_FIELD, time + flat), (FIELD_TIME, flat + time)],
        [(layout or TIME_FIELD, (time[0] * width,))],
    ]
    return [[reading for reading in group if layout in (None, reading[0])] for group in groups]


def _match(row: OpenShape, dims: Shape, may_be_one: bool) -> Shape | None:
    """`row` with its open axes resolved so that it holds `dims` (none of them 1) and axes of length 1; None if it cannot."""
    if not row:
        return None if dims else ()
    axis, rest = row[0], row[1:]
    if axis == 1:
        shape = _match(rest, dims, may_be_one)
        return None if shape is None else (1, *shape)
    if dims and axis in (None, dims[0]):
        shape = _match(rest, dims[1:], may_be_one)
        if shape is not None:
            return (dims[0], *shape)
    if axis is None and may_be_one:
        shape = _match(rest, dims, may_be_one)
        return None if shape is None else (1, *shape)
    return None


class InputPlan(msgspec.Struct, frozen=True):
    """What goes into one input of a model.

    `shape` and `dtype` are those of a row, without the batch axis. `columns` of the window (None: all, in order), its newest
    `rows` (None: all), in the order `layout`. With `value` it is a constant instead; not `is_row` where the input has no
    axis that counts rows, so that one value serves a whole batch.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    columns: tuple[int, ...] | None = None
    rows: int | None = None
    layout: str = TIME_FIELD
    value: float | tuple[Any, ...] | None = None
    is_row: bool = True
    picture: Shape = ()
    """Height, width and channels of each of the window's pictures, where `layout` is one of pictures."""
    texts: tuple[tuple[int, int], ...] = ()
    """Of an input of strings the columns of each; `dtype` is then numpy's, with as many characters as the longest may have."""
    is_rounded: bool = False
    """Whether fractions go to the nearest whole number: of what steps made, as quantised models expect it; else towards zero."""

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of what the model sees, if that is a picture; else (0, 0)."""
        if self.picture:
            return self.picture[1], self.picture[0]
        shape = tuple(n for n in self.shape if n != 1) if len(self.shape) > 3 else self.shape
        if len(shape) != 3:
            return 0, 0
        return (shape[2], shape[1]) if shape[0] in (1, 3) else (shape[1], shape[0])


def make_constant(value: Any, shape: Shape, dtype: DTypeLike) -> Array:
    """A constant input's row: one number for all, or as many as `shape` holds. Raises ValueError."""
    given = np.asarray(value)
    row = np.empty(shape, dtype)
    if given.dtype.kind not in "biuf" or given.size not in (1, row.size):
        raise ValueError(f"expected one number or {row.size} of them for the shape {list(shape)}, found {value!r}")
    with np.errstate(all="ignore"):  # what does not fit is said below
        row[...] = given.reshape(shape if given.size == row.size else ())
    if row.dtype.kind in "iu" and not np.all(row.reshape(-1) == given.reshape(-1)):
        raise ValueError(f"{value!r} is no {row.dtype}")
    if row.dtype.kind == "f" and not np.all(np.isfinite(row)):
        raise ValueError(f"{value!r} is too large for {row.dtype}")
    return row


class Filler:
    """Copies windows and samples into rows of one input.

    A number that the input's type cannot hold becomes the nearest that it can; integers lose their fraction (towards zero, or
    `is_rounded` to the nearest) and take 0 for NaN; a bool is whether the number is not 0. Raises ValueError for a type that is
    no number.
    """

    def __init__(self, plan: InputPlan) -> None:
        kind = np.dtype(plan.dtype).kind
        if kind not in "biuf":
            raise ValueError(f"input {plan.name} is {plan.dtype}, which cannot be filled from numbers")
        whole = _put_rounded if plan.is_rounded else _put_integer
        self.put = _put_float if kind == "f" else _put_bool if kind == "b" else whole
        self._columns = _columns(plan.columns)
        self._newest = slice(None) if plan.rows is None else slice(-plan.rows, None)
        self._takes_part = plan.rows is not None or plan.columns is not None
        self._is_turned = plan.layout == FIELD_TIME
        self._dtype = np.dtype(plan.dtype)

    def fill(self, out: Array, window: Array) -> None:
        """One row: `window [size, width]`, or a sample `[width]`, into `out` of the plan's shape (for `()`: a 0-d array)."""
        if window.ndim == 1:
            if self._columns is not None:
                window = window[self._columns]
        elif self._takes_part:
            window = window[self._newest] if self._columns is None else window[self._newest, self._columns]
        if self._is_turned and window.ndim == 2:
            window = window.T
        self.put(out if out.shape == window.shape else out.reshape(window.shape), window)

    def fill_many(self, out: Array, rows: Sequence[int], values: Array) -> None:
        """Samples `[k, width]` (or what `preprocess` made of each) into k `rows` of `out`, an array `[slots, *shape]`."""
        values = self._as_taken(values)
        values = values.reshape(len(values), -1)
        flat = out.reshape(len(out), -1)
        if len(rows) == 1:
            self.put(flat[rows[0]], values[0])
            return
        if values.dtype != self._dtype:
            made = np.empty(values.shape, self._dtype)
            self.put(made, values)
            values = made
        flat[np.array(rows, np.intp)] = values

    def fill_all(self, out: Array, values: Array) -> None:
        """The same into all rows of `out`, in order."""
        values = self._as_taken(values)
        self.put(out if out.shape == values.shape else out.reshape(values.shape), values)

    def _as_taken(self, values: Array) -> Array:
        """Of each sample the columns that the input takes, in its order of axes."""
        if self._columns is not None:
            values = values[:, self._columns]
        return values.swapaxes(1, 2) if self._is_turned and values.ndim == 3 else values


class PictureFiller:
    """The same for pictures: rows of bytes, or of floats where a step before made them, `[height, width, channels]`, one or a
    window of them. One strided copy turns and converts: 0.6 ms for 640 x 640 pixels."""

    def __init__(self, plan: InputPlan) -> None:
        self._filler = Filler(plan)  # refuses what is no number
        self._picture = plan.picture
        self._rows = plan.rows
        self._is_turned = plan.layout == CHW
        self._dtype = np.dtype(plan.dtype)

    def fill(self, out: Array, window: Array) -> None:
        pictures = window.reshape(-1, *self._picture)
        if self._rows is not None:
            pictures = pictures[-self._rows :]
        if self._is_turned:
            pictures = pictures.transpose(0, 3, 1, 2)
        if pictures.dtype.kind == "u" and self._dtype.kind == "i":
            pictures = pictures.astype(np.float32)  # 200 is no int8
        rows = out.reshape(pictures.shape)
        if pictures.dtype.kind == "u" and self._dtype.kind in "uf":
            rows[...] = pictures
        else:
            self._filler.put(rows, pictures)

    def fill_many(self, out: Array, rows: Sequence[int], values: Array) -> None:
        for row, picture in zip(rows, values, strict=True):
            self.fill(out[row], picture)

    def fill_all(self, out: Array, values: Array) -> None:
        self.fill_many(out, range(len(values)), values)


class TextFiller:
    """The same for strings: those of a sample, or of the newest of a window."""

    def __init__(self, plan: InputPlan) -> None:
        self._texts = [slice(start, stop) for start, stop in plan.texts]

    def fill(self, out: Array, window: Array) -> None:
        sample = window if window.ndim == 1 else window[-1]
        flat = out.reshape(-1)
        for i, columns in enumerate(self._texts):
            flat[i] = texts(sample[columns])
        out[...] = flat.reshape(out.shape)

    def fill_many(self, out: Array, rows: Sequence[int], values: Array) -> None:
        flat = out.reshape(len(out), -1)
        for i, columns in enumerate(self._texts):
            flat[np.array(rows, np.intp), i] = texts(values[:, columns])

    def fill_all(self, out: Array, values: Array) -> None:
        self.fill_many(out, range(len(values)), values)


AnyFiller = Filler | PictureFiller | TextFiller


def make_filler(plan: InputPlan) -> AnyFiller:
    return TextFiller(plan) if plan.texts else PictureFiller(plan) if plan.picture else Filler(plan)


def _columns(columns: tuple[int, ...] | None) -> slice | Array | None:
    """As a slice where they follow each other: a view, where an index array would be a copy."""
    if columns is None:
        return None
    first = columns[0]
    if columns == tuple(range(first, first + len(columns))):
        return slice(first, first + len(columns))
    return np.array(columns, np.intp)


def _put_float(out: Array, values: Array) -> None:
    if values.dtype is not out.dtype and values.dtype.itemsize > out.dtype.itemsize:
        most = np.finfo(out.dtype).max
        values = np.clip(values, -most, most)
    out[...] = values


def _put_bool(out: Array, values: Array) -> None:
    np.not_equal(values, 0, out=out)


def _put_rounded(out: Array, values: Array) -> None:
    _put_integer(out, np.rint(values))


def _put_integer(out: Array, values: Array) -> None:
    info = np.iinfo(out.dtype)
    most = values.dtype.type(info.max)
    if int(most) > info.max:  # float32 has no 2147483647: the next number below, and the true limit where that was passed
        most = np.nextafter(most, values.dtype.type(0))
    out[...] = np.nan_to_num(np.clip(values, info.min, most), copy=False)
    out[values > most] = info.max
