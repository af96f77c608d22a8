"""How well a learned model will do, from scores that it has not been made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMOOTH = 5
FALSE_PER_DAY = 0.1
"""Of all keys together: what the threshold that is proposed is to keep below."""
MARGIN = 1.05
FAR = 1e6


@dataclass(frozen=True, slots=True)
class Expected:
    """`above`, for the mean of `smooth` scores, is past in `false_per_day` windows of normal operation a day; without both, 1.0 in
    `raw_per_day`. `seen`: how many of the windows that were kept back were past `above`."""

    above: float
    smooth: int
    false_per_day: float
    raw_per_day: float
    seen: int


def expect(scores: NDArray[Any], keys: Sequence[int], per_day: float) -> Expected:
    """Of scores in the order of time, each of a key; `per_day` windows come in a day."""
    smoothed = np.log(np.maximum(smooth(scores, keys, SMOOTH), 1e-9))
    above = 1.0
    while (share := exceeding(smoothed, math.log(above))) * per_day > FALSE_PER_DAY and above < FAR:
        above *= MARGIN
    above = math.ceil(above * 20 - 1e-9) / 20
    seen = int(np.count_nonzero(smoothed > math.log(above)))
    raw = float(np.mean(scores > 1.0)) * per_day
    return Expected(above, SMOOTH, share * per_day, raw, seen)


def exceeding(logarithms: NDArray[Any], threshold: float) -> float:
    """The share that is expected above: at least what was seen, and what lies beyond that if logarithms of scores are normally
    spread."""
    seen = float(np.mean(logarithms > threshold))
    spread = float(np.std(logarithms)) or 1e-9
    beyond = (threshold - float(np.mean(logarithms))) / spread
    return max(seen, math.erfc(beyond / math.sqrt(2)) / 2)


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
