"""From windows of normal operation to a model that scores how far another one is away from them.

In rounds, each of which needs only sums that add up (`Moments`, `Scores`), so that several devices can go through them together:

    1. mean and deviation of each field            the units of the features
    2. mean and covariance of the features         their principal components
    3. a histogram of the scores of the last third  the score that is 1.0

A window is reconstructed from its principal components, each cut off where normal operation hardly goes; the score is the root
mean square of what is left over. Without the cut, whatever only moves further along a component would be reconstructed well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.learn.features import INPUT, add_features
from edged.learn.graph import Graph, float32
from edged.learn.moments import Double, Moments
from edged.learn.scores import Scores

OUTPUT = "score"
REFERENCE, REFERENCE_OUT = "reference", "reference_out"
EXPLAINED = 0.95
"""Share of the variance that the components are to explain."""
CUT = 3.0
"""Deviations of a component beyond which it is not normal."""
MIN_DEVIATION = 0.1
"""Of a feature, in units of its field or as a logarithm: what hardly ever moved is not judged any finer."""
STILL = 1e-3
"""Of a field that never changed: its deviation, as a share of its value."""
QUANTILE = 0.999

SHRINK = 20.0
"""The deviation of a key counts as much as that of all keys once it has so many windows."""

Run = Callable[..., NDArray[Any]]
"""`run(file, windows, references)`: what a model file answers, `[n, ...]`; `references` where it has that input."""


class Normal(msgspec.Struct, frozen=True):
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
    by_key: bool = False
    """Features are judged by the mean and deviation of their own key where the input REFERENCE has them."""

    def file(self) -> bytes:
        """The ONNX file: windows in, scores `[N, 1]` out."""
        graph = Graph("normal")
        features = add_features(graph, self.size, self.mean, self.deviation, self.has_rate)
        node, weight = graph.node, graph.weight
        usual, factor = weight("feature_mean", self.feature_mean), weight("feature_scale", 1 / self.feature_deviation)
        count = len(self.feature_mean)
        if self.by_key:
            node("Identity", [REFERENCE], REFERENCE_OUT)
            axis = weight("axis", np.array([1]))
            ends = [weight(f"end_{at}", np.array([at])) for at in (0, count, 2 * count)]
            own = [node("Slice", [REFERENCE, *ends[i : i + 2], axis], f"own_{i}") for i in range(2)]
            is_known = node("Greater", [own[1], weight("nothing", 0.0)], "is_known")
            usual = node("Where", [is_known, own[0], usual], "usual")
            factor = node("Where", [is_known, own[1], factor], "factor")
        apart = node("Sub", [features, usual], "features_apart")
        standard = node("Mul", [apart, factor], "standardised")
        parts = node("MatMul", [standard, weight("components", self.components)], "parts")
        low, high = weight("lower_limits", -self.limits), weight("limits", self.limits)
        within = node("Min", [node("Max", [parts, low], "parts_from_below"), high], "parts_within")
        back = node("MatMul", [within, weight("components_back", self.components.T)], "reconstructed")
        rest = node("Sub", [standard, back], "rest")
        mean = node("ReduceMean", [node("Mul", [rest, rest], "rest_square")], "rest_power", axes=[1], keepdims=1)
        node("Mul", [node("Sqrt", [mean], "distance"), weight("scale", np.array(1 / self.scale))], OUTPUT)
        more = ((REFERENCE, (2 * count,)), (REFERENCE_OUT, (2 * count,))) if self.by_key else None
        return graph.encode((INPUT, row_shape(self.size, len(self.mean))), (OUTPUT, (1,)), state=more)


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


def reduce(
    size: int, has_rate: bool, mean: Double, deviation: Double, features: Moments, standard: Moments | None = None
) -> Normal:
    """After the second round; the scale is not known yet. `standard`: of features that are standardised by key."""
    feature_deviation = np.maximum(features.deviation, MIN_DEVIATION)
    correlation = features.covariance / np.outer(feature_deviation, feature_deviation)
    if standard is not None:
        correlation = standard.covariance
    powers, vectors = np.linalg.eigh(correlation)
    powers, vectors = np.maximum(powers[::-1], 0), vectors[:, ::-1]
    explained = np.cumsum(powers) / max(powers.sum(), 1e-12)
    count = min(int(np.searchsorted(explained, EXPLAINED)) + 1, max(1, len(powers) - 1))
    limits = CUT * np.sqrt(powers[:count])
    return Normal(
        size, has_rate, mean, deviation, features.mean, feature_deviation, vectors[:, :count], limits, 1.0, standard is not None
    )


def references(by_key: Mapping[int, Moments]) -> tuple[dict[int, Double], Moments]:
    """Of each key the row of REFERENCE, mean and one by deviation; and the moments of all, standardised by those. A key with few
    windows has a deviation near that of all keys around their own means."""
    width = len(next(iter(by_key.values())).mean)
    usual = sum((np.diag(m.scatter) for m in by_key.values()), np.zeros(width)) / max(1, sum(m.count for m in by_key.values()))
    found: dict[int, Double] = {}
    standard = Moments.none(width)
    for key, m in by_key.items():
        variance = (np.diag(m.scatter) + SHRINK * usual) / (m.count + SHRINK)
        factor = 1 / np.maximum(np.sqrt(variance), MIN_DEVIATION)
        found[key] = np.concatenate([m.mean, factor])
        standard += Moments(m.count, np.zeros(width), m.scatter * np.outer(factor, factor))
    return found, standard


def scale_of(scores: Scores) -> float:
    """The score that becomes 1.0."""
    return max(scores.quantile(QUANTILE), 1e-6)


def as_windows(rows: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Windows as the graph takes them."""
    return float32(rows[:, 0] if size == 1 else rows)
