"""Scores counted on a grid that is the same everywhere, so that the counts of several devices add up."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

DECADES = (-4, 6)
BINS_PER_DECADE = 200
EDGES = 10 ** (np.arange((DECADES[1] - DECADES[0]) * BINS_PER_DECADE + 1) / BINS_PER_DECADE + DECADES[0])
"""1.2 % apart. What lies beside the grid counts in its first or last bin."""


class Scores(msgspec.Struct, frozen=True):
    counts: NDArray[np.int64]

    @staticmethod
    def of(scores: NDArray[Any]) -> Scores:
        at = np.clip(np.searchsorted(EDGES, scores, side="right") - 1, 0, len(EDGES) - 2)
        return Scores(np.bincount(at, minlength=len(EDGES) - 1).astype(np.int64))

    def __add__(self, other: Scores) -> Scores:
        return Scores(self.counts + other.counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Below it lies this share of the scores; between two edges as if they lay evenly there."""
        before = np.concatenate(([0], np.cumsum(self.counts)))
        wanted = share * before[-1]
        bin = min(int(np.searchsorted(before, wanted, side="left")), len(self.counts)) - 1
        bin = max(bin, 0)
        part = (wanted - before[bin]) / max(1, self.counts[bin])
        return float(EDGES[bin] * (EDGES[bin + 1] / EDGES[bin]) ** part)
