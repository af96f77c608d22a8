"""The learned part of the vibration model: one convolution over pitch, the strongest answer of each filter, two dense layers.

A filter is nearly three octaves wide: it sees a whole family of harmonics at once. Because only the best match counts,
wherever in pitch it lies, speeds that were never trained are recognised like those that were. Gradients are by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from spectra import CHANNELS

from edged.learn.graph import Graph, float32

TAPS, FILTERS, HIDDEN = 48, 24, 48
BATCH, EPOCHS, RATE = 128, 15, 3e-3
BLUR = 0.2  # noise added to the spectra in training, in standard deviations
DECAY = 1e-3
SMOOTHING = 0.02  # of the wanted probabilities: nothing is certain

Array = NDArray[np.float32]


class Network:
    """`layers` are weights and biases in turn: the convolution `[CHANNELS * TAPS, FILTERS]`, then two dense layers."""

    def __init__(self, rng: np.random.Generator, spectra: Array, classes: int) -> None:
        self.mean = spectra.mean(axis=(0, 2), keepdims=True)
        self.deviation = spectra.std(axis=(0, 2), keepdims=True)
        self.layers: list[Array] = []
        for wide, narrow in ((CHANNELS * TAPS, FILTERS), (FILTERS, HIDDEN), (HIDDEN, classes)):
            self.layers += [float32(rng.standard_normal((wide, narrow)) * (2 / wide) ** 0.5), np.zeros(narrow, np.float32)]

    def probabilities(self, spectra: Array) -> Array:
        """`[N, classes]` of spectra `[N, CHANNELS, BINS]`."""
        return _softmax(self._forward((spectra - self.mean) / self.deviation)[-1])

    def train(self, rng: np.random.Generator, spectra: Array, classes: NDArray[Any]) -> None:
        """Adam with a cosine schedule on the cross-entropy; `classes[i]` is the index of what `spectra[i]` shows."""
        scaled = (spectra - self.mean) / self.deviation
        count = len(self.layers[-1])
        wanted = np.eye(count, dtype=np.float32)[classes] * (1 - SMOOTHING) + SMOOTHING / count
        first = [np.zeros_like(p) for p in self.layers]
        second = [np.zeros_like(p) for p in self.layers]
        steps = EPOCHS * (len(scaled) // BATCH)
        step = 0
        for _ in range(EPOCHS):
            order = rng.permutation(len(scaled))
            for start in range(0, len(scaled) - BATCH + 1, BATCH):
                rows = order[start : start + BATCH]
                blur = BLUR * rng.standard_normal((BATCH, *scaled.shape[1:]), dtype=np.float32)
                slopes = self._slopes(scaled[rows] + float32(blur), wanted[rows])
                step += 1
                pace = RATE * (1 + np.cos(np.pi * step / steps)) / 2
                for weights, slope, m, v in zip(self.layers, slopes, first, second, strict=True):
                    m += 0.1 * (slope - m)
                    v += 0.001 * (slope**2 - v)
                    move = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
                    weights -= float32(pace * (move + DECAY * weights * (weights.ndim == 2)))

    def _forward(self, scaled: Array) -> tuple[Array, NDArray[Any], Array, Array, Array]:
        """What each layer sees and says: patches, where each filter answered best, those answers, hidden, logits."""
        filters, bias, dense, dense_bias, last, last_bias = self.layers
        patches = np.lib.stride_tricks.sliding_window_view(scaled, TAPS, axis=2).transpose(0, 2, 1, 3)
        patches = patches.reshape(len(scaled), -1, CHANNELS * TAPS)
        answers = patches @ filters
        best = answers.argmax(axis=1)
        strongest = np.maximum(np.take_along_axis(answers, best[:, None], axis=1)[:, 0] + bias, 0)
        hidden = np.maximum(strongest @ dense + dense_bias, 0)
        return patches, best, strongest, hidden, hidden @ last + last_bias

    def _slopes(self, scaled: Array, wanted: Array) -> list[Array]:
        """The gradient of the mean cross-entropy by each of `layers`."""
        patches, best, strongest, hidden, logits = self._forward(scaled)
        _, _, dense, _, last, _ = self.layers
        at_logits = (_softmax(logits) - wanted) / len(scaled)
        at_hidden = at_logits @ last.T * (hidden > 0)
        at_strongest = at_hidden @ dense.T * (strongest > 0)
        at_answers = np.zeros((*patches.shape[:2], FILTERS), np.float32)
        np.put_along_axis(at_answers, best[:, None], at_strongest[:, None], axis=1)
        filters = patches.reshape(-1, CHANNELS * TAPS).T @ at_answers.reshape(-1, FILTERS)
        return [
            *(filters, at_strongest.sum(axis=0)),
            *(strongest.T @ at_hidden, at_hidden.sum(axis=0)),
            *(hidden.T @ at_logits, at_logits.sum(axis=0)),
        ]

    def add_to(self, graph: Graph, spectra: str, output: str) -> str:
        """The same as nodes of `graph`; returns the output's name."""
        node, weight = graph.node, graph.weight
        filters, bias, dense, dense_bias, last, last_bias = self.layers
        kernels = filters.T.reshape(FILTERS, CHANNELS, TAPS)
        centred = node("Sub", [spectra, weight("mean", self.mean)], "spectra_centred")
        scaled = node("Div", [centred, weight("deviation", self.deviation)], "scaled")
        answers = node("Conv", [scaled, weight("filters", kernels), weight("filters_bias", bias)], "answers")
        strongest = node("Relu", [node("ReduceMax", [answers], "best", axes=[2], keepdims=0)], "strongest")
        first = node("Gemm", [strongest, weight("dense", dense), weight("dense_bias", dense_bias)], "dense_sum")
        hidden = node("Relu", [first], "hidden")
        logits = node("Gemm", [hidden, weight("last", last), weight("last_bias", last_bias)], "logits")
        return node("Softmax", [logits], output, axis=-1)


def _softmax(logits: Array) -> Array:
    powers: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
