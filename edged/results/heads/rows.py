"""Outputs as rows of numbers: which are finite, and the mean of the last rows of each key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.results.heads.head import Body


def rows_of(tensor: NDArray[Any]) -> NDArray[Any]:
    """`[k, *shape]` as `[k, n]`, in floats."""
    rows = tensor.reshape(len(tensor), -1)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


def finite_rows(rows: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which rows are finite throughout; None: all."""
    return None if all_finite(rows) else np.asarray(np.isfinite(rows).all(axis=1))


def all_finite(numbers: NDArray[Any]) -> bool:
    """A sum of squares is finite only if every number is: one call where all is well. (It may overflow by itself.)"""
    return math.isfinite(np.vdot(numbers, numbers)) or bool(np.isfinite(numbers).all())


def only_finite(bodies: list[Body | None], finite: NDArray[np.bool_] | None) -> list[Body | None]:
    if finite is None:
        return bodies
    return [body if ok else None for body, ok in zip(bodies, finite.tolist(), strict=True)]


class Mean:
    """The mean of the last `n` rows of each key; with n = 1 the rows themselves. Rows that are not finite are passed by."""

    def __init__(self, n: int, max_keys: int, width: int) -> None:
        self._n = n
        self._before = np.empty((max_keys if n > 1 else 0, n - 1, width))  # the last rows of each key, oldest first
        self._before.fill(0)  # touched now, so that its memory is resident from the start, as planned
        self._count = np.zeros(max_keys, np.int64)

    def of(self, rows: NDArray[Any], keys: Sequence[int], finite: NDArray[np.bool_] | None) -> NDArray[Any]:
        if self._n == 1:
            return rows
        ids = np.asarray(keys, np.intp)
        if finite is None and len(set(keys)) == len(keys):
            return self._of_each(ids, rows)
        out = np.zeros(rows.shape)
        for key in dict.fromkeys(keys):
            at = np.flatnonzero(ids == key if finite is None else (ids == key) & finite)
            out[at] = self._of_one(key, rows[at])
        return out

    def reset(self, key: int) -> None:
        if self._n > 1:
            self._before[key] = 0
            self._count[key] = 0

    def _of_each(self, keys: NDArray[np.intp], rows: NDArray[Any]) -> NDArray[Any]:
        """One row of each key."""
        last = np.concatenate((self._before[keys], rows[:, None]), axis=1)
        self._before[keys] = last[:, 1:]
        self._count[keys] += 1
        return np.asarray(last.sum(axis=1) / np.minimum(self._count[keys], self._n)[:, None])

    def _of_one(self, key: int, rows: NDArray[Any]) -> NDArray[Any]:
        """Some rows of one key, in order."""
        k, n = len(rows), self._n
        last = np.concatenate((self._before[key], rows))
        total = last[:k].copy()
        for shift in range(1, n):
            total += last[shift : shift + k]
        counts = np.minimum(np.arange(1, k + 1) + self._count[key], n)
        self._before[key] = last[k:]
        self._count[key] += k
        return np.asarray(total / counts[:, None])
