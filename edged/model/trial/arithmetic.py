"""The arithmetic of trying a model out: bucket sizes, rows to try it on, and whether two answers agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT = 8  # up to here every number of rows has its own bucket; beyond, powers of two


class Timing(NamedTuple):
    median_ns: int
    longest_ns: int


BESIDE_NS = 80_000
"""What a run takes besides the session: taking rows, copying them, handing results out."""
WORTH = 0.9
"""Rows together must cost less than this share of what they cost alone: else the first would only wait for the last."""

GOLDEN = (5**0.5 - 1) / 2
SPREAD = 12**0.5
"""Evenly spread numbers of this range have a standard deviation of 1."""


def split_buckets(batch_max: int, fixed: int, exact: int = EXACT) -> list[int]:
    """The numbers of rows that a session is run with, ascending: 1 to `exact`, then powers of two, then the largest itself."""
    if fixed:
        return [fixed]
    buckets = list(range(1, min(batch_max, exact) + 1))
    while buckets[-1] * 2 < batch_max and buckets[-1] >= exact:
        buckets.append(buckets[-1] * 2)
    return buckets if buckets[-1] == batch_max else [*buckets, batch_max]


def batching(alone: Timing, together: Timing, rows: int, alone_rows: int = 1) -> tuple[bool, str]:
    """Whether a batch of `rows` pays against one of `alone_rows`, and the figures."""
    each, one = (together.median_ns + BESIDE_NS) / rows, (alone.median_ns + BESIDE_NS) / alone_rows
    many, few = together.median_ns / rows / 1e3, alone.median_ns / alone_rows / 1e3
    fewer = "alone" if alone_rows == 1 else f"in a run of {alone_rows}"
    figures = f"a row takes {many:.1f} us in a run of {rows}, {few:.1f} us {fewer}"
    return each < WORTH * one, figures


def probe_rows(
    shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, str], count: int, scale: int, words: Sequence[Sequence[str]] = ()
) -> dict[str, NDArray[Any]]:
    """`count` rows for each input, spread evenly and always the same; whole numbers are 0 or 1 (they may be indices).
    Scale 0: zeros. Texts are `words`, those of the n-th vocabulary in the n-th of all columns of texts."""
    rows, column = {}, 0
    for name, shape in shapes.items():
        dtype = np.dtype(types[name])
        size = (count, *shape[1:]) if shape[:1] == (-1,) else (1, *shape)
        if dtype.kind == "U":
            rows[name], column = _texts(size, dtype, scale, words, column)
            continue
        values = np.arange(1.0, math.prod(size) + 1)  # Weyl's sequence; numpy's random numbers cost 6 MiB to import
        values *= GOLDEN
        values %= 1
        if dtype.kind == "f":
            values -= 0.5
            values *= SPREAD * scale
        else:
            values *= 2
            np.floor(values, out=values)
            values *= scale
        rows[name] = values.reshape(size).astype(dtype)
    return rows


def _texts(
    size: tuple[int, ...], dtype: np.dtype[Any], scale: int, words: Sequence[Sequence[str]], column: int
) -> tuple[NDArray[Any], int]:
    """So many texts, and the number of the next column."""
    rows = np.empty((size[0], math.prod(size[1:])), dtype)
    for i in range(rows.shape[1]):
        known = words[(column + i) % len(words)] if words else ("",)
        rows[:, i] = [known[row * scale % len(known)] for row in range(len(rows))]
    return rows.reshape(size), column + rows.shape[1]


def agree(a: NDArray[Any], b: NDArray[Any], rtol: float | None = None, atol: float | None = None) -> bool:
    """Whether two answers are the same but for rounding; NaN agrees with NaN. Without tolerances: those of the coarser type."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        return bool(np.array_equal(a.astype(str), b.astype(str)))
    if a.dtype.kind != "f" and b.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    is_half = 2 in (a.itemsize, b.itemsize)
    rtol = (2e-2 if is_half else 1e-3) if rtol is None else rtol
    largest = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0))
    atol = rtol * max(largest, 1e-6) if atol is None else atol
    return bool(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True))
