"""How well a learned model will do, from scores that it has not been made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

SMOOTH = 5
FALSE_PER_DAY = 0.1
"""Of all keys together: what the threshold that is proposed is to keep below."""
TAIL, MIN_BEYOND = 0.02, 20
"""The share of scores that the tail is made of, and how many it takes at least."""


class Expected(msgspec.Struct, frozen=True):
    """`above`, for the mean of `smooth` scores, is past in `false_per_day` windows of normal operation a day; without both, 1.0
    in `raw_per_day`. `seen`: how many of the windows that were kept back were past `above`."""

    above: float
    smooth: int
    false_per_day: float
    raw_per_day: float
    seen: int


def expect(scores: NDArray[Any], keys: Sequence[int], per_day: float) -> Expected:
    """Of scores in the order of time, each of a key; `per_day` windows come in a day."""
    smoothed = smooth(scores, keys, SMOOTH)
    tail = Tail.of(smoothed)
    above = math.ceil(20 * max(1.0, tail.above(FALSE_PER_DAY / per_day)) - 1e-9) / 20
    false = per_day * tail.share(above)
    raw = per_day * Tail.of(scores).share(1.0)
    return Expected(above, SMOOTH, false, raw, int(np.count_nonzero(smoothed > above)))


class Tail(msgspec.Struct, frozen=True):
    """What is to be expected beyond the scores that were seen: above `start`, which `beyond` of them are, they fall off
    exponentially, by `mean` on average (peaks over a threshold). Of tails like a normal one that says too much rather than too
    little."""

    start: float
    beyond: float
    mean: float

    @staticmethod
    def of(scores: NDArray[Any]) -> Tail:
        start = float(np.quantile(scores, 1 - max(TAIL, min(0.5, MIN_BEYOND / len(scores)))))
        excess = scores[scores > start] - start
        if not len(excess):
            return Tail(start, 1 / len(scores), 1e-9)
        return Tail(start, len(excess) / len(scores), max(float(excess.mean()), 1e-9))

    def share(self, score: float) -> float:
        """Of scores above this one; beyond the start of the tail."""
        return min(1.0, self.beyond * math.exp(min(0.0, (self.start - score) / self.mean)))

    def above(self, share: float) -> float:
        """The score above which that share lies."""
        return self.start + self.mean * math.log(max(1.0, self.beyond / share))


def smooth(scores: NDArray[Any], keys: Sequence[int], n: int) -> NDArray[np.float64]:
    """The mean of the last `n` of each key, as `smooth` of an output makes it."""
    out = np.empty(len(scores))
    ids = np.asarray(keys)
    for key in np.unique(ids):
        at = np.flatnonzero(ids == key)
        sums = np.cumsum(np.concatenate(([0.0], scores[at])))
        count = np.minimum(np.arange(1, len(at) + 1), n)
        out[at] = (sums[1:] - sums[np.arange(1, len(at) + 1) - count]) / count
    return out


def drift(features: NDArray[Any], deviation: NDArray[Any], names: Sequence[str], most: int = 3) -> list[tuple[str, float]]:
    """How far the mean of each feature went from the first third to the last, in deviations: those that went furthest."""
    third = len(features) // 3
    went = (features[-third:].mean(axis=0) - features[:third].mean(axis=0)) / deviation
    return [(names[i], float(went[i])) for i in np.argsort(-np.abs(went))[:most]]
