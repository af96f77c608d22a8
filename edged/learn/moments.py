"""Sums over samples that add up: over batches, keys, and devices."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]


class Moments(msgspec.Struct, frozen=True):
    """How many rows there were, their mean `[width]`, and `scatter`, the sum of the products of their deviations from it,
    `[width, width]`. (Kept about the mean, since sums of squares of large values would lose the digits that count.)"""

    count: int
    mean: Double
    scatter: Double

    @staticmethod
    def none(width: int) -> Moments:
        return Moments(0, np.zeros(width), np.zeros((width, width)))

    @staticmethod
    def of(rows: NDArray[Any]) -> Moments:
        """Of rows `[n, width]`."""
        if not len(rows):
            return Moments.none(rows.shape[1])
        exact = rows.astype(np.float64)
        mean = exact.mean(axis=0)
        exact -= mean
        return Moments(len(rows), mean, exact.T @ exact)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, mean, scatter)

    @property
    def covariance(self) -> Double:
        return self.scatter / max(1, self.count)

    @property
    def deviation(self) -> Double:
        return np.asarray(np.sqrt(np.diag(self.covariance)))
