"""What the nodes of a graph say: the names of its classes, the scale of its colours, whether rows round each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.model.onnx_file import OnnxFile, read_onnx
from tests.support import models
from tests.support.models import save, value

ML = (("", 17), ("ai.onnx.ml", 3))


def graph(path: Path, *steps: tuple[str, Any], kind: Any = T.FLOAT) -> OnnxFile:
    """A chain of nodes; those with a number have it as their second input."""
    nodes, weights = [], []
    for i, (op, number) in enumerate(steps):
        ins = [f"t{i}"]
        if number is not None:
            weights.append(nh.from_array(np.asarray(number, np.float32), f"c{i}"))
            ins.append(f"c{i}")
        attributes: dict[str, Any] = {"to": T.FLOAT} if op == "Cast" else {}
        nodes.append(h.make_node(op, ins, [f"t{i + 1}"], **attributes))
    last = value(f"t{len(steps)}", T.FLOAT, ["N", 3, 8, 8])
    return read_onnx(save(path, nodes, [value("t0", kind, ["N", 3, 8, 8])], [last], weights))


@pytest.mark.parametrize(
    ("steps", "largest"),
    [
        ([("Div", 255)], 255),
        ([("Mul", 1 / 255), ("Relu", None)], 255),
        ([("Cast", None), ("Transpose", None), ("Div", 127.5), ("Sub", 1)], 255),
        ([("Sub", [[[123.675]], [[116.28]], [[103.53]]]), ("Div", [[[58.4]], [[57.1]], [[57.4]]])], 255),
        ([("Add", -127.5), ("Mul", 1 / 127.5)], 255),
        ([("Sub", 0), ("Div", 255)], 255),
        ([("Sub", [[[0.485]], [[0.456]], [[0.406]]]), ("Div", 0.226)], 1),
        ([("Mul", 255), ("Sub", 127.5)], 1),
        ([("Relu", None)], None),
        ([("Relu", None), ("Div", 255)], None),
        ([], None),
    ],
)
def test_the_scale_of_colours_stands_in_the_first_operations(tmp_path: Path, steps: Any, largest: float | None) -> None:
    assert graph(tmp_path / "m.onnx", *steps).sketch.largest_colour("t0") == largest


def test_a_constant_may_be_a_node(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Constant", [], ["c"], value=nh.from_array(np.array([255], np.float32))),
        h.make_node("Div", ["x", "c"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 3])], [value("y", T.FLOAT, ["N", 3])])
    assert read_onnx(path).sketch.largest_colour("x") == 255


@pytest.mark.parametrize(("scale", "largest"), [(1 / 255, 1), (1.0, 255), (0.0187, None)])
def test_the_grid_of_a_quantised_model_says_it_too(tmp_path: Path, scale: float, largest: float | None) -> None:
    nodes = [h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), h.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    weights = [nh.from_array(np.float32(scale), "s"), nh.from_array(np.uint8(0), "z")]
    path = save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 3])], [value("y", T.FLOAT, ["N", 3])], weights)
    assert read_onnx(path).sketch.largest_colour("x") == largest


@pytest.mark.parametrize("classes", [("healthy", "worn", "broken"), (3, 7, 9), (-1, 0, 1)])
def test_classes_of_a_classifier(tmp_path: Path, classes: Any) -> None:
    assert read_onnx(models.named(tmp_path / "m.onnx", classes)).classes == classes


@pytest.mark.parametrize("classes", [["a", "b"], [3, 7]])
def test_classes_that_are_picked_by_index(tmp_path: Path, classes: Any) -> None:
    """As scikit-learn's converter writes most classifiers: classes[argmax]."""
    nodes = [
        h.make_node("ArgMax", ["x"], ["i"], axis=1),
        h.make_node("ArrayFeatureExtractor", ["classes", "i"], ["picked"], domain="ai.onnx.ml"),
        h.make_node("Reshape", ["picked", "flat"], ["label"]),
    ]
    kind = T.STRING if isinstance(classes[0], str) else T.INT64
    weights = [h.make_tensor("classes", kind, [2], classes), nh.from_array(np.array([-1], np.int64), "flat")]
    path = save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 2])], [value("label", kind, ["N"])], weights, opsets=ML)
    assert read_onnx(path).classes == tuple(classes)


def test_the_columns_of_a_zip_map(tmp_path: Path) -> None:
    path = models.zip_map(tmp_path / "m.onnx")
    assert read_onnx(path).classes == (0, 1, 2)


def test_a_regression_has_no_classes(tmp_path: Path) -> None:
    assert read_onnx(models.linear(tmp_path / "m.onnx")).classes == ()


def test_rows_that_round_each_other(tmp_path: Path) -> None:
    assert read_onnx(models.dynamic(tmp_path / "m.onnx")).sketch.quantises_by_batch
    assert not read_onnx(models.linear(tmp_path / "m.onnx")).sketch.quantises_by_batch


def test_inputs_with_a_value_of_their_own(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.input.append(value("w", T.FLOAT, [3, 2]))
    path.write_bytes(model.SerializeToString())
    assert [i.name for i in read_onnx(path).defaults] == ["w"]
    model.ir_version = 3  # when all weights were listed as inputs
    path.write_bytes(model.SerializeToString())
    assert read_onnx(path).defaults == ()


@pytest.mark.parametrize(("op", "largest"), [("ArgMax", True), ("ArgMin", False), (None, None)])
def test_whether_a_label_is_that_of_the_largest_score(tmp_path: Path, op: str | None, largest: bool | None) -> None:
    """Clusters have distances: that of the smallest is the label."""
    node = h.make_node("Sign", ["x"], ["i"]) if op is None else h.make_node(op, ["x"], ["i"], axis=1, keepdims=0)
    nodes = [node, h.make_node("Cast", ["i"], ["label"], to=T.INT64)]
    path = save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 3])], [value("label", T.INT64, ["N"])])
    assert read_onnx(path).sketch.is_of_largest("label") is largest


def test_what_works_as_in_training(tmp_path: Path) -> None:
    path = models.in_training(tmp_path / "m.onnx", "BatchNormalization")
    assert read_onnx(path).sketch.trained == {"BatchNormalization"}
    assert read_onnx(models.in_training(tmp_path / "n.onnx", "Dropout")).sketch.draws == ["Dropout"]
