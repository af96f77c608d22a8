"""The models of the bench: a small MLP over 64 numbers and a 1-D CNN over a window of 128 samples of 6 fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support.models import save, value

MLP_INPUT = (64,)
WINDOW_INPUT = (4, 16)
"""The same 64 numbers as a window of four samples."""
CNN_INPUT = (128, 6)
CLASSES = 4


def write_mlp(path: Path, shape: tuple[int, ...] = MLP_INPUT) -> Path:
    """y = softmax of 64 -> 32 -> 4. `shape` is that in which the 64 come."""
    rng = np.random.default_rng(64)
    flatten = [h.make_node("Flatten", ["x"], ["flat"])] if len(shape) > 1 else []
    return save(
        path,
        [
            *flatten,
            h.make_node("Gemm", ["flat" if flatten else "x", "w1", "b1"], ["hidden"]),
            h.make_node("Relu", ["hidden"], ["active"]),
            h.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
            h.make_node("Softmax", ["logits"], ["y"], axis=1),
        ],
        [value("x", T.FLOAT, ["n", *shape])],
        [value("y", T.FLOAT, ["n", CLASSES])],
        [_weights(rng, "w1", 64, 32), _weights(rng, "b1", 32), _weights(rng, "w2", 32, CLASSES), _weights(rng, "b2", CLASSES)],
    )


def write_cnn(path: Path, channels: int = 64) -> Path:
    """y = softmax of two convolutions over time, their mean, and a layer to 4."""
    rng = np.random.default_rng(128)
    conv: dict[str, Any] = {"kernel_shape": [9], "strides": [2], "pads": [4, 4]}
    return save(
        path,
        [
            h.make_node("Transpose", ["x"], ["series"], perm=[0, 2, 1]),
            h.make_node("Conv", ["series", "k1", "b1"], ["c1"], **conv),
            h.make_node("Relu", ["c1"], ["r1"]),
            h.make_node("Conv", ["r1", "k2", "b2"], ["c2"], **conv),
            h.make_node("Relu", ["c2"], ["r2"]),
            h.make_node("GlobalAveragePool", ["r2"], ["mean"]),
            h.make_node("Flatten", ["mean"], ["flat"]),
            h.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
            h.make_node("Softmax", ["logits"], ["y"], axis=1),
        ],
        [value("x", T.FLOAT, ["n", *CNN_INPUT])],
        [value("y", T.FLOAT, ["n", CLASSES])],
        [
            _weights(rng, "k1", channels, CNN_INPUT[1], 9),
            _weights(rng, "b1", channels),
            _weights(rng, "k2", channels, channels, 9),
            _weights(rng, "b2", channels),
            _weights(rng, "w", channels, CLASSES),
            _weights(rng, "b", CLASSES),
        ],
    )


def _weights(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    return nh.from_array((rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32), name)
