"""From windows of normal operation to a model that scores how far another one is away from them.

In rounds, each of which needs only sums that add up (`Moments`, `Scores`), so that several devices can go through them together:

    1. mean and deviation of each field            the units of the features
    2. mean and covariance of the features         their principal components
    3. a histogram of the scores of the last third  the score that is 1.0

A window is reconstructed from its principal components, each cut off where normal operation hardly goes; the score is the root
mean square of what is left over. Without the cut, whatever only moves further along a component would be reconstructed well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.learn.features import INPUT, add_features
from edged.learn.graph import Graph, float32
from edged.learn.moments import Double, Moments
from edged.learn.scores import Scores

OUTPUT = "score"
EXPLAINED = 0.95
"""Share of the variance that the components are to explain."""
CUT = 3.0
"""Deviations of a component beyond which it is not normal."""
LEAST_DEVIATION = 0.1
"""Of a feature, in units of its field or as a logarithm: what hardly ever moved is not judged any finer."""
STILL = 1e-3
"""Of a field that never changed: its deviation, as a share of its value."""
QUANTILE = 0.999

Run = Callable[[bytes, NDArray[Any]], NDArray[Any]]
"""Runs a model file on windows: `[n, ...]` of its only output."""


@dataclass(frozen=True, slots=True)
class Normal:
    """What was learned. `components` is `[features, k]`, `limits` where each is cut off; `scale` the score that becomes 1.0."""

    size: int
    has_rate: bool
    mean: Double
    deviation: Double
    feature_mean: Double
    feature_deviation: Double
    components: Double
    limits: Double
    scale: float

    def file(self) -> bytes:
        """The ONNX file: windows in, scores `[N, 1]` out."""
        graph = Graph("normal")
        features = add_features(graph, self.size, self.mean, self.deviation, self.has_rate)
        node, weight = graph.node, graph.weight
        apart = node("Sub", [features, weight("feature_mean", self.feature_mean)], "features_apart")
        standard = node("Mul", [apart, weight("feature_scale", 1 / self.feature_deviation)], "standardised")
        parts = node("MatMul", [standard, weight("components", self.components)], "parts")
        low, high = weight("lower_limits", -self.limits), weight("limits", self.limits)
        within = node("Min", [node("Max", [parts, low], "parts_from_below"), high], "parts_within")
        back = node("MatMul", [within, weight("components_back", self.components.T)], "reconstructed")
        rest = node("Sub", [standard, back], "rest")
        mean = node("ReduceMean", [node("Mul", [rest, rest], "rest_square")], "rest_power", axes=[1], keepdims=1)
        node("Mul", [node("Sqrt", [mean], "distance"), weight("scale", np.array(1 / self.scale))], OUTPUT)
        return graph.encode((INPUT, row_shape(self.size, len(self.mean))), (OUTPUT, (1,)))


def row_shape(size: int, width: int) -> tuple[int, ...]:
    return (width,) if size == 1 else (size, width)


def units_of(fields: Moments) -> tuple[Double, Double]:
    """Mean and deviation of each field; of one that never changed what is taken for one."""
    still = np.maximum(STILL * np.abs(fields.mean), 1e-6)
    deviation = fields.deviation
    return fields.mean, np.where(deviation > 1e-6 * np.abs(fields.mean) + 1e-12, deviation, still)


def feature_file(size: int, mean: Double, deviation: Double, has_rate: bool, features: int) -> bytes:
    """Of the second round: windows in, features out."""
    graph = Graph("features")
    name = add_features(graph, size, mean, deviation, has_rate)
    return graph.encode((INPUT, row_shape(size, len(mean))), (name, (features,)))


def reduce(size: int, has_rate: bool, mean: Double, deviation: Double, features: Moments) -> Normal:
    """After the second round; the scale is not known yet."""
    feature_deviation = np.maximum(features.deviation, LEAST_DEVIATION)
    correlation = features.covariance / np.outer(feature_deviation, feature_deviation)
    powers, vectors = np.linalg.eigh(correlation)
    powers, vectors = np.maximum(powers[::-1], 0), vectors[:, ::-1]
    explained = np.cumsum(powers) / max(powers.sum(), 1e-12)
    count = min(int(np.searchsorted(explained, EXPLAINED)) + 1, max(1, len(powers) - 1))
    limits = CUT * np.sqrt(powers[:count])
    return Normal(size, has_rate, mean, deviation, features.mean, feature_deviation, vectors[:, :count], limits, 1.0)


def scale_of(scores: Scores) -> float:
    """The score that becomes 1.0."""
    return max(scores.quantile(QUANTILE), 1e-6)


def as_windows(rows: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Windows as the graph takes them."""
    return float32(rows[:, 0] if size == 1 else rows)
