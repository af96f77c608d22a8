"""Small ONNX models of every kind that edged must meet, built where a test wants them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

Axes = Sequence[int | str | None]


def value(name: str, kind: int, axes: Axes | None) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, axes)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    metadata: dict[str, str] | None = None,
    opsets: Sequence[tuple[str, int]] = (("", 17),),
    functions: Sequence[onnx.FunctionProto] = (),
) -> Path:
    """Writes the model to `path`; `Path` of it for chaining."""
    graph = h.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = h.make_model(graph, opset_imports=[h.make_opsetid(d, v) for d, v in opsets], ir_version=9, functions=list(functions))
    if metadata:
        h.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def linear(
    path: Path, *, batch: int | str | None = "n", width: int = 3, out: int = 2, metadata: dict[str, str] | None = None
) -> Path:
    """y = x @ W, W[i][j] = i + j + 1."""
    w = np.add.outer(np.arange(width), np.arange(out)).astype(np.float32) + 1
    return save(
        path,
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", T.FLOAT, [batch, width])],
        [value("y", T.FLOAT, [batch, out])],
        [nh.from_array(w, "w")],
        metadata=metadata,
    )


def identity(path: Path, kind: int, *, batch: int | str | None = "n", width: int = 2) -> Path:
    """y = x, for any element type."""
    axes = [batch, width]
    return save(path, [h.make_node("Identity", ["x"], ["y"])], [value("x", kind, axes)], [value("y", kind, axes)])


def no_batch(path: Path) -> Path:
    """y[5] = relu(x[5])."""
    return save(path, [h.make_node("Relu", ["x"], ["y"])], [value("x", T.FLOAT, [5])], [value("y", T.FLOAT, [5])])


def two_by_two(path: Path) -> Path:
    """sum = a + b and product = a * b; a is float32[n,2], b int32[n,2]."""
    return save(
        path,
        [
            h.make_node("Cast", ["b"], ["bf"], to=T.FLOAT),
            h.make_node("Add", ["a", "bf"], ["sum"]),
            h.make_node("Mul", ["a", "bf"], ["product"]),
        ],
        [value("a", T.FLOAT, ["n", 2]), value("b", T.INT32, ["n", 2])],
        [value("sum", T.FLOAT, ["n", 2]), value("product", T.FLOAT, ["n", 2])],
    )


def scaled(path: Path) -> Path:
    """y = x * gain; gain is a scalar without a batch axis."""
    return save(
        path,
        [h.make_node("Mul", ["x", "gain"], ["y"])],
        [value("x", T.FLOAT, ["n", 2]), value("gain", T.FLOAT, [])],
        [value("y", T.FLOAT, ["n", 2])],
    )


def open_axes(path: Path) -> Path:
    """y = mean over time of x[n, t, 3]; `whole` = x + x, whose axes are named otherwise in the file."""
    return save(
        path,
        [h.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0), h.make_node("Add", ["x", "x"], ["whole"])],
        [value("x", T.FLOAT, ["n", "t", 3])],
        [value("y", T.FLOAT, ["batch_out", 3]), value("whole", T.FLOAT, ["a", "b", "c"])],
    )


def non_zero(path: Path) -> Path:
    """found = the places of x[4] that are not zero: a shape that depends on the data."""
    return save(path, [h.make_node("NonZero", ["x"], ["found"])], [value("x", T.FLOAT, [4])], [value("found", T.INT64, [1, "k"])])


def selected(path: Path) -> Path:
    """kept = the rows of x[n, 2] whose first column is above 0: as many as there are."""
    return save(
        path,
        [
            h.make_node("Gather", ["x", "zero"], ["c"], axis=1),
            h.make_node("Greater", ["c", "nought"], ["m"]),
            h.make_node("Compress", ["x", "m"], ["kept"], axis=0),
        ],
        [value("x", T.FLOAT, ["n", 2])],
        [value("kept", T.FLOAT, ["m", 2])],
        [nh.from_array(np.array(0, np.int64), "zero"), nh.from_array(np.array(0, np.float32), "nought")],
    )


def text(path: Path) -> Path:
    """label[n] = the name of class i[n], as text; score = i."""
    return save(
        path,
        [
            h.make_node(
                "LabelEncoder", ["i"], ["label"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=["a", "b", "c"]
            ),
            h.make_node("Cast", ["i"], ["score"], to=T.FLOAT),
        ],
        [value("i", T.INT64, ["n"])],
        [value("label", T.STRING, ["n"]), value("score", T.FLOAT, ["n"])],
        opsets=(("", 17), ("ai.onnx.ml", 3)),
    )


def zip_map(path: Path) -> Path:
    """As scikit-learn's converter writes a classifier: y, and output_probability, a sequence of maps."""
    maps = h.make_sequence_type_proto(h.make_map_type_proto(T.INT64, h.make_tensor_type_proto(T.FLOAT, None)))
    return save(
        path,
        [
            h.make_node("Softmax", ["x"], ["p"], axis=1),
            h.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0),
            h.make_node("ZipMap", ["p"], ["output_probability"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
        ],
        [value("x", T.FLOAT, ["n", 3])],
        [value("y", T.INT64, ["n"]), h.make_value_info("output_probability", maps)],
        opsets=(("", 17), ("ai.onnx.ml", 3)),
    )


def centred(path: Path) -> Path:
    """y = x - mean over the batch: rows are not independent."""
    return save(
        path,
        [h.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), h.make_node("Sub", ["x", "m"], ["y"])],
        [value("x", T.FLOAT, ["n", 2])],
        [value("y", T.FLOAT, ["n", 2])],
    )


def picky(path: Path, *, batch: int | str = "n") -> Path:
    """y = table[i]; an index outside 0..3 fails the run."""
    return save(
        path,
        [h.make_node("Gather", ["table", "i"], ["y"], axis=0)],
        [value("i", T.INT64, [batch, 1])],
        [value("y", T.FLOAT, [batch, 1])],
        [nh.from_array(np.array([10, 11, 12, 13], np.float32), "table")],
    )


def external(path: Path, location: str) -> Path:
    """As `linear`, its weights in the file `location`, which is written only where it lies in the folder."""
    linear(path)
    model = onnx.load(str(path))
    weights = model.graph.initializer[0]
    raw = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = T.EXTERNAL
    for key, item in {"location": location, "offset": "0", "length": str(len(raw))}.items():
        entry = weights.external_data.add()
        entry.key, entry.value = key, item
    path.write_bytes(model.SerializeToString())
    if "/" not in location:
        (path.parent / location).write_bytes(raw)
    return path


def slow(path: Path, *, width: int = 384, layers: int = 40) -> Path:
    """A model that takes milliseconds: many products of a square matrix by itself."""
    w: Any = np.full((width, width), 1 / width, np.float32)
    names = ["x", *(f"h{i}" for i in range(layers - 1)), "y"]
    return save(
        path,
        [h.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)],
        [value("x", T.FLOAT, ["n", width, width])],
        [value("y", T.FLOAT, ["n", width, width])],
        [nh.from_array(w, "w")],
    )
