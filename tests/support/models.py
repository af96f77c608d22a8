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


def root(path: Path) -> Path:
    """y = sqrt(x), which is no number below 0."""
    return save(path, [h.make_node("Sqrt", ["x"], ["y"])], [value("x", T.FLOAT, ["n", 1])], [value("y", T.FLOAT, ["n", 1])])


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


def named(path: Path, classes: Sequence[str] | Sequence[int] = ("healthy", "worn"), apart: bool = False) -> Path:
    """label and probabilities of x[n, 3], as scikit-learn's converters write them: its classes stand in the graph. `apart`: those
    of each class are an output of its name."""
    names: dict[str, Any] = {"classlabels_strings" if isinstance(classes[0], str) else "classlabels_ints": list(classes)}
    count = len(classes)
    return save(
        path,
        [
            h.make_node(
                "LinearClassifier",
                ["x"],
                ["label", "scores"],
                domain="ai.onnx.ml",
                coefficients=[float(i - j) for i in range(count) for j in range(3)],
                intercepts=[0.0] * count,
                post_transform="SOFTMAX",
                **names,
            ),
            h.make_node("Split", ["scores"], [*map(str, classes)], axis=1)
            if apart
            else h.make_node("Identity", ["scores"], ["probabilities"]),
        ],
        [value("x", T.FLOAT, ["n", 3])],
        [
            value("label", T.STRING if isinstance(classes[0], str) else T.INT64, ["n"]),
            *([value(str(c), T.FLOAT, ["n", 1]) for c in classes] if apart else [value("probabilities", T.FLOAT, ["n", count])]),
        ],
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


def cells(path: Path, *, batch: int | str = "n", metadata: dict[str, str] | None = None) -> Path:
    """As a YOLOv8 of three classes looks from outside: boxes[n, 4 + 3, 64] of images[n, 3, 64, 64]. Each cell of 8 x 8 pixels
    has a box of its own, whose scores are the means of its red, green and blue."""
    side = np.arange(8, dtype=np.float32) * 8 + 4
    grid = np.stack([np.tile(side, 8), np.repeat(side, 8), np.full(64, 8, np.float32), np.full(64, 8, np.float32)])
    return save(
        path,
        [
            h.make_node("AveragePool", ["images"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
            h.make_node("Reshape", ["means", "flat"], ["scores"]),
            h.make_node("ReduceMax", ["scores"], ["most"], axes=[1], keepdims=1),
            h.make_node("Mul", ["most", "nought"], ["nothing"]),
            h.make_node("Add", ["grid", "nothing"], ["where"]),
            h.make_node("Concat", ["where", "scores"], ["boxes"], axis=1),
        ],
        [value("images", T.FLOAT, [batch, 3, 64, 64])],
        [value("boxes", T.FLOAT, [batch, 7, 64])],
        [
            nh.from_array(grid[None], "grid"),
            nh.from_array(np.array([-1, 3, 64], np.int64), "flat"),
            nh.from_array(np.float32(0), "nought"),
        ],
        metadata={"author": "Ultralytics"} | (metadata or {}),
    )


def sequence(path: Path, given: Axes = (8, "N", 3), made: Axes = ("N", 4), hidden: int = 4) -> Path:
    """last = what an LSTM, as PyTorch exports it, has in the end of x[time, N, fields]; each row alone, in any batch."""
    rng = np.random.default_rng(3)
    sizes = {"W": (1, 4 * hidden, 3), "R": (1, 4 * hidden, hidden), "B": (1, 8 * hidden)}
    return save(
        path,
        [
            h.make_node("LSTM", ["x", "W", "R", "B"], ["", "h"], hidden_size=hidden),
            h.make_node("Squeeze", ["h", "first"], ["last"]),
        ],
        [value("x", T.FLOAT, given)],
        [value("last", T.FLOAT, made)],
        [
            *(nh.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in sizes.items()),
            nh.from_array(np.array([0], np.int64), "first"),
        ],
    )


def single(path: Path) -> Path:
    """y = x in a new shape that the exporter wrote for one row, although it leaves the number of rows open."""
    return save(
        path,
        [h.make_node("Reshape", ["x", "to"], ["y"])],
        [value("x", T.FLOAT, ["n", 4])],
        [value("y", T.FLOAT, ["n", 2, 2])],
        [nh.from_array(np.array([1, 2, 2], np.int64), "to")],
    )


def dynamic(path: Path, batch: int | str = "n") -> Path:
    """y = x @ W, quantised by the range of all of x, as `quantize_dynamic` makes it."""
    weights: Any = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    return save(
        path,
        [
            h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            h.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
            h.make_node("Cast", ["i"], ["f"], to=T.FLOAT),
            h.make_node("Mul", ["f", "s"], ["y"]),
        ],
        [value("x", T.FLOAT, [batch, 3])],
        [value("y", T.FLOAT, [batch, 4])],
        [nh.from_array(weights, "w"), nh.from_array(np.int8(0), "wz")],
    )


def by_range(path: Path, batch: int | str = "n") -> Path:
    """y = x rounded to 1/256 of the largest number of the whole batch, with ordinary operators."""
    return save(
        path,
        [
            h.make_node("Abs", ["x"], ["a"]),
            h.make_node("ReduceMax", ["a"], ["most"], keepdims=0),
            h.make_node("Div", ["most", "steps"], ["step"]),
            h.make_node("Div", ["x", "step"], ["scaled"]),
            h.make_node("Round", ["scaled"], ["whole"]),
            h.make_node("Mul", ["whole", "step"], ["y"]),
        ],
        [value("x", T.FLOAT, [batch, 3])],
        [value("y", T.FLOAT, [batch, 3])],
        [nh.from_array(np.float32(2048), "steps")],
    )


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


def total(path: Path, *, batch: int | str = "n", width: int = 1, layers: int = 0, metadata: dict[str, str] | None = None) -> Path:
    """y = sum_out = x + sum: what came in so far. With `layers`, as recurrent networks have it: sum is [layers, n, width], each
    layer adds one more than the one before, and y is the sum of all of them."""
    axes: Axes = [layers, batch, width] if layers else [batch, width]
    if layers:
        nodes = [
            h.make_node("Mul", ["x", "times"], ["scaled"]),
            h.make_node("Add", ["sum", "scaled"], ["sum_out"]),
            h.make_node("ReduceSum", ["sum_out", "first"], ["y"], keepdims=0),
        ]
        times = np.arange(1, layers + 1, dtype=np.float32)[:, None, None]
        weights = [nh.from_array(times, "times"), nh.from_array(np.array([0], np.int64), "first")]
    else:
        nodes, weights = [h.make_node("Add", ["x", "sum"], ["sum_out"]), h.make_node("Identity", ["sum_out"], ["y"])], []
    ins = [value("x", T.FLOAT, [batch, width]), value("sum", T.FLOAT, axes)]
    outs = [value("y", T.FLOAT, [batch, width]), value("sum_out", T.FLOAT, axes)]
    return save(path, nodes, ins, outs, weights, metadata=metadata)


def lstm(path: Path, *, frames: int = 9, size: int = 64, hidden: int = 8, classes: int = 4) -> Path:
    """scores = softmax of what an LSTM makes of audio[n, frames * size], frame by frame, times sr / 16000; h and c are [1, n,
    hidden]."""
    rng = np.random.default_rng(7)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return nh.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        h.make_node("Cast", ["sr"], ["sr_f"], to=T.FLOAT),
        h.make_node("Div", ["sr_f", "usual"], ["speed"]),
        h.make_node("Mul", ["audio", "speed"], ["heard"]),
        h.make_node("Reshape", ["heard", "framed"], ["frames"]),
        h.make_node("Transpose", ["frames"], ["steps"], perm=[1, 0, 2]),
        h.make_node("LSTM", ["steps", "W", "R", "B", "", "h", "c"], ["", "h_out", "c_out"], hidden_size=hidden),
        h.make_node("Squeeze", ["h_out", "first"], ["last"]),
        h.make_node("MatMul", ["last", "O"], ["logits"]),
        h.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    ends = [value(n, T.FLOAT, [1, "n", hidden]) for n in ("h", "c", "h_out", "c_out")]
    return save(
        path,
        nodes,
        [value("audio", T.FLOAT, ["n", frames * size]), value("sr", T.INT64, [1]), *ends[:2]],
        [value("scores", T.FLOAT, ["n", classes]), *ends[2:]],
        [
            weights("W", 1, 4 * hidden, size),
            weights("R", 1, 4 * hidden, hidden),
            weights("B", 1, 8 * hidden),
            weights("O", hidden, classes),
            nh.from_array(np.array(16000, np.float32), "usual"),
            nh.from_array(np.array([-1, frames, size], np.int64), "framed"),
            nh.from_array(np.array([0], np.int64), "first"),
        ],
    )


def in_training(path: Path, op: str) -> Path:
    """A layer as it is while a model is trained: what a PyTorch module exports that is not in `eval()`."""
    ones = [nh.from_array(np.ones(3, np.float32), name) for name in ("scale", "shift", "mean", "var")]
    flags = [nh.from_array(np.array(0.5, np.float32), "ratio"), nh.from_array(np.array(True), "training")]
    if op == "BatchNormalization":
        node, weights = h.make_node(op, ["x", "scale", "shift", "mean", "var"], ["y", "m", "v"], training_mode=1), ones
    else:
        node, weights = h.make_node(op, ["x", "ratio", "training"], ["y"]), flags
    axes: Axes = ["N", 3]
    return save(path, [node], [value("x", T.FLOAT, axes)], [value("y", T.FLOAT, axes)], weights)


def passed_on(path: Path) -> Path:
    """y = relu(x), and x itself, which the file lists as an output too."""
    axes: Axes = ["N", 3]
    outputs = [value("y", T.FLOAT, axes), value("x", T.FLOAT, axes)]
    return save(path, [h.make_node("Relu", ["x"], ["y"])], [value("x", T.FLOAT, axes)], outputs)


def clusters(path: Path) -> Path:
    """scores[N, 2] = distances of x[N, 2] from (0, 0) and (9, 9); label[N] = the nearer one, as scikit-learn's KMeans."""
    centres = nh.from_array(np.array([[[0, 0], [9, 9]]], np.float32), "centres")
    nodes = [
        h.make_node("Unsqueeze", ["x", "one"], ["wide"]),
        h.make_node("Sub", ["wide", "centres"], ["away"]),
        h.make_node("ReduceL2", ["away"], ["scores"], axes=[2], keepdims=0),
        h.make_node("ArgMin", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [value("label", T.INT64, ["N"]), value("scores", T.FLOAT, ["N", 2])]
    return save(path, nodes, [value("x", T.FLOAT, ["N", 2])], outputs, [centres, nh.from_array(np.array([1], np.int64), "one")])


def twice(path: Path) -> Path:
    """y = x[n, 3] twice, behind each other; the file leaves open how many columns that are."""
    nodes = [h.make_node("Concat", ["x", "x"], ["y"], axis=1)]
    return save(path, nodes, [value("x", T.FLOAT, ["n", 3])], [value("y", T.FLOAT, ["n", "columns"])])
