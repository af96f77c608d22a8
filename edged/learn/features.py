"""What a window is judged by, as nodes of an ONNX graph: the one place where it is computed, in learning and in use.

Of each field, all in units of its deviation in normal operation: mean, and the logarithms of deviation, RMS, peak, and kurtosis;
where the samples per second are known, also of the power in each octave. Logarithms, since a machine that is twice as loud is as
far away from normal as one that is half as loud, and since their spread is nearer to a normal one. A sample alone is its own
feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edged.learn.graph import Graph

FLOOR = 1e-3
"""Of a field's own deviation: below that it stands still."""
SEGMENT = 256
"""Samples of one spectrum at most; those of a window are averaged."""
INPUT = "window"


def segment_of(size: int) -> int:
    return min(SEGMENT, size)


def octaves(size: int) -> list[tuple[int, int]]:
    """The bands, each up to twice where it begins, as bins of a spectrum; without 0 Hz. None where a window is too short."""
    top = segment_of(size) // 2
    if top < 8:
        return []
    starts = [1, *(2**k for k in range(1, 32) if 2**k < top)]
    return [(low, high) for low, high in zip(starts, [*starts[1:], top + 1], strict=True)]


def feature_names(fields: Sequence[str], size: int, rate: float | None) -> list[str]:
    """In the order of what `add_features` gives: field by field, then band by band."""
    if size == 1:
        return [*fields]
    kinds = ["mean", "deviation", "RMS", "peak", "kurtosis"]
    names = [f"{kind} of {field}" for field in fields for kind in kinds]
    if rate is not None:
        hz = rate / segment_of(size)
        names += [f"{f} from {low * hz:.3g} to {high * hz:.3g} Hz" for f in fields for low, high in octaves(size)]
    return names


def add_features(graph: Graph, size: int, mean: NDArray[np.float64], deviation: NDArray[np.float64], has_rate: bool) -> str:
    """Adds the nodes from the input INPUT, `[N, size, width]` (`[N, width]` of single samples), to what it returns the name of:
    `[N, features]`."""
    node, weight = graph.node, graph.weight
    apart = node("Sub", [INPUT, weight("field_mean", mean)], "apart")  # first: 101325 Pa have few digits left in float32
    units = node("Mul", [apart, weight("field_scale", 1 / deviation)], "units")
    if size == 1:
        return units
    waves = node("Transpose", [units], "waves", perm=[0, 2, 1])
    floor, floor_2, one = weight("floor", FLOOR), weight("floor_2", FLOOR**2), weight("one", 1.0)

    def average(of: str, name: str) -> str:
        return node("ReduceMean", [of], name, axes=[2], keepdims=1)

    def log(of: str, least: str, name: str) -> str:
        return node("Log", [node("Add", [of, least], f"{name}_and_floor")], name)

    level = average(waves, "level")
    moving = node("Sub", [waves, level], "moving")
    square = node("Mul", [moving, moving], "square")
    variance = average(square, "variance")
    fourth = average(node("Mul", [square, square], "fourth_power"), "fourth")
    power = average(node("Mul", [waves, waves], "waves_square"), "power")
    peak = node("ReduceMax", [node("Abs", [moving], "size")], "peak", axes=[2], keepdims=1)
    scale = node("Add", [node("Mul", [variance, variance], "variance_square"), floor_2], "variance_square_and_floor")
    kurtosis = node("Div", [fourth, scale], "kurtosis")
    parts = [
        level,
        log(node("Sqrt", [variance], "deviation"), floor, "log_deviation"),
        log(node("Sqrt", [power], "rms"), floor, "log_rms"),
        log(peak, floor, "log_peak"),
        log(kurtosis, one, "log_kurtosis"),
    ]
    width = len(mean)
    whole = node("Reshape", [node("Concat", parts, "moments", axis=2), weight("flat", np.array([-1, 5 * width]))], "moments_flat")
    bands = octaves(size) if has_rate else []
    if not bands:
        return whole
    length = segment_of(size)
    bins = length // 2 + 1
    angle = 2 * np.pi * np.outer(np.arange(bins), np.arange(length)) / length
    taper = np.hanning(length + 1)[:-1]
    taper = taper / np.sqrt(np.square(taper).sum())
    kernels = np.concatenate([np.cos(angle) * taper, np.sin(angle) * taper])[:, None, :]
    single = node("Reshape", [moving, weight("single", np.array([-1, 1, size]))], "single_waves")
    spectra = node("Conv", [single, weight("kernels", kernels)], "spectra", strides=[max(1, length // 2)])
    energy = node("ReduceMean", [node("Mul", [spectra, spectra], "spectra_square")], "energy", axes=[2], keepdims=0)
    into = np.zeros((2 * bins, len(bands)))
    for band, (low, high) in enumerate(bands):
        into[low:high, band] = into[bins + low : bins + high, band] = 2 / length
    banded = log(node("MatMul", [energy, weight("into", into)], "banded"), floor_2, "log_bands")
    flat = node("Reshape", [banded, weight("flat_bands", np.array([-1, width * len(bands)]))], "bands_flat")
    return node("Concat", [whole, flat], "features", axis=1)
