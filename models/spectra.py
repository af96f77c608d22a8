"""What the vibration model hears: two spectra of each window, computed in numpy for training and as ONNX nodes for use.

The spectrum of the motion shows the shaft's harmonics (imbalance, looseness). The spectrum of the envelope of what lies
above them shows how often the structure is struck (bearings), whatever frequency it rings at. Both are made so that
what tells nothing about the machine's health cannot be seen:

    where gravity points         each window's mean is removed
    how the sensor is turned     powers are summed over the three axes
    how loud the ringing is      the envelope is divided by its mean
    how fast the shaft turns     frequencies are spaced evenly in pitch, so that another speed is but a shift

Filters have linear phase and no padding, so that no sample is made up at the edges of a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.learn.graph import Graph, float32

RATE_HZ = 1000.0
SIZE = 512  # samples in a window
CHANNELS = 2  # motion, envelope
BINS = 96
CUT_HZ = 200.0  # motion below, ringing above
LOWEST_HZ, BINS_PER_OCTAVE = 5.0, 17.0  # up to 240 Hz: just below Nyquist of every second sample
FLOOR = 1e-6  # (m/s2)^2 below which a sensor shows only itself
FLOORS = np.array([[FLOOR], [1e-3]])  # of the power in either channel; the second is relative, and below what noise beats with

Wave = NDArray[np.float32]


def low_pass(taps: int) -> NDArray[np.float64]:
    n = np.arange(taps) - (taps - 1) / 2
    kernel: NDArray[np.float64] = np.sinc(2 * CUT_HZ / RATE_HZ * n) * np.hamming(taps)
    kernel /= kernel.sum()
    return kernel


def high_pass(taps: int) -> NDArray[np.float64]:
    kernel = -low_pass(taps)
    kernel[taps // 2] += 1
    return kernel


MOTION = low_pass(65)
RINGING = high_pass(33)  # this one after the other leaves as many samples as MOTION does
ENVELOPE = low_pass(33)
KEPT = (SIZE - len(MOTION)) // 2 + 1  # every second sample


def _waves() -> tuple[Wave, Wave]:
    """Cosines and sines under a Hann window, `[KEPT, BINS]`: a sine of amplitude 1 has power 1."""
    hertz = LOWEST_HZ * 2 ** (np.arange(BINS) / BINS_PER_OCTAVE)
    angles = 2 * np.pi * np.outer(np.arange(KEPT), hertz) / (RATE_HZ / 2)
    hann = np.hanning(KEPT + 2)[1:-1, None]
    hann *= 2 / hann.sum()
    return float32(hann * np.cos(angles)), float32(hann * np.sin(angles))


COSINES, SINES = _waves()


def spectra(windows: NDArray[Any]) -> NDArray[np.float32]:
    """Logarithms of power, `[N, CHANNELS, BINS]`, of windows `[N, SIZE, 3]` in m/s2."""
    centred = (windows - windows.mean(axis=1, keepdims=True)).transpose(0, 2, 1)
    motion = _convolve(centred, MOTION, stride=2)
    envelope = _convolve((_convolve(centred, RINGING) ** 2).sum(axis=1, keepdims=True), ENVELOPE, stride=2)
    relative = envelope / (envelope.mean(axis=2, keepdims=True) + FLOOR)
    waves = np.concatenate([motion, relative - relative.mean(axis=2, keepdims=True)], axis=1)
    power = (waves @ COSINES) ** 2 + (waves @ SINES) ** 2
    return float32(np.log(np.stack([power[:, :3].sum(axis=1), power[:, 3]], axis=1) + FLOORS))


def _convolve(waves: NDArray[Any], kernel: NDArray[np.float64], stride: int = 1) -> NDArray[Any]:
    return np.lib.stride_tricks.sliding_window_view(waves, len(kernel), axis=2)[:, :, ::stride] @ float32(kernel)


def add_spectra(graph: Graph, windows: str) -> str:
    """The same as nodes of `graph`; returns the output's name."""
    node, weight = graph.node, graph.weight
    floor = weight("floor", FLOOR)
    mean = node("ReduceMean", [windows], "gravity", axes=[1])
    centred = node("Transpose", [node("Sub", [windows, mean], "shaken")], "centred", perm=[0, 2, 1])

    def filtered(waves: str, kernel: NDArray[np.float64], output: str, stride: int, axes: int) -> str:
        kernels = weight(f"{output}_kernel", np.tile(kernel, (axes, 1, 1)))
        return node("Conv", [waves, kernels], output, group=axes, strides=[stride])

    motion = filtered(centred, MOTION, "motion", 2, 3)
    ringing = filtered(centred, RINGING, "ringing", 1, 3)
    loudness = node("ReduceSum", [node("Mul", [ringing, ringing], "ringing_power"), weight("axes", [1])], "loudness")
    envelope = filtered(loudness, ENVELOPE, "envelope", 2, 1)
    level = node("Add", [node("ReduceMean", [envelope], "mean_envelope", axes=[2]), floor], "level")
    relative = node("Div", [envelope, level], "relative")
    beating = node("Sub", [relative, node("ReduceMean", [relative], "mean_relative", axes=[2])], "beating")
    waves = node("Concat", [motion, beating], "waves", axis=1)
    squares = []
    for name, table in (("cosine", COSINES), ("sine", SINES)):
        part = node("MatMul", [waves, weight(f"{name}s", table)], name)
        squares.append(node("Mul", [part, part], f"{name}_power"))
    summed = weight("summed", [[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # the three axes to one, the envelope by itself
    power = node("MatMul", [summed, node("Add", squares, "powers")], "power")
    return node("Log", [node("Add", [power, weight("floors", FLOORS)], "power_and_floor")], "spectra")
