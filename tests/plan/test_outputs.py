from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from edged.plan.outputs import chained_fields
from edged.results.heads.anomaly import AnomalyPlan
from edged.results.heads.classify import ClassifyPlan
from edged.results.heads.head import OutputPlan
from edged.results.heads.raw import RawPlan
from edged.results.heads.regress import ValueField
from tests.support.deployments import autoencoder, folder_model, net
from tests.support.models import Axes, clusters, named, save, value, zip_map
from tests.support.planning import ACCEL, MAIN, Planned, planned


def model(folder: Path, outputs: Mapping[str, Axes], metadata: dict[str, str] | None = None) -> None:
    net(folder / "m.onnx", {"x": (T.FLOAT, ["N", 3])}, outputs, metadata)


def plan(folder: Path, output: str, more: str = "", model: str = "") -> Planned:
    text = f'[model.m]\npath = "m.onnx"\n{model}[pipeline.p]\nsource = "accel"\nmodel = "m"\noutput = {output}\n{more}'
    return planned(folder, MAIN + ACCEL + text)


def output(found: Planned) -> OutputPlan:
    return found.whole.pipelines["p"].output


def test_raw_is_all_tensors(tmp_path: Path) -> None:
    model(tmp_path, {"a": ["N", 4], "b": ["N", 2, 2]})
    found = plan(tmp_path, '"raw"')
    assert output(found).tensors == ("a", "b")
    assert [(f.name, f.shape) for f, _ in found.whole.pipelines["p"].results] == [("outputs.a", (4,)), ("outputs.b", (2, 2))]
    assert not output(found).keeps_arrays
    assert output(plan(tmp_path, '"raw"', 'publish = { format = "raw", fields = "outputs.a" }\n')).keeps_arrays


def test_labels_come_from_the_file_the_manifest_or_the_configuration(tmp_path: Path) -> None:
    model(tmp_path, {"y": ["N", 3]}, {"labels": "a,b,c"})
    assert output(plan(tmp_path, '"classify"')).labels == ("a", "b", "c")
    found = plan(tmp_path, '"classify"', model='labels = ["x", "y", "z"]\n')
    assert output(found).labels == ("x", "y", "z")
    assert [p.text for p in found.problems] == ["wins over the model's own: a, b, c"]
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\n\n")
    assert output(plan(tmp_path, '"classify"', model='labels = "labels.txt"\n')).labels == ("one", "two", "three")


def test_one_number_is_the_second_of_two_classes(tmp_path: Path) -> None:
    model(tmp_path, {"y": ["N", 1]})
    found: Any = output(plan(tmp_path, '{ type = "classify", softmax = true }', model='labels = ["off", "on"]\n'))
    assert (found.size, found.labels, found.softmax) == (1, ("off", "on"), True)


def test_labels_say_how_many_classes_an_open_axis_has(tmp_path: Path) -> None:
    model(tmp_path, {"y": ["N", "classes"]})
    assert output(plan(tmp_path, '"classify"', model='labels = ["a", "b"]\n')).size == 2


def test_a_label_by_itself(tmp_path: Path) -> None:
    """A classifier that says its class and no scores."""
    nodes = [h.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)]
    save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 3])], [value("label", T.INT64, ["N"])])
    found = plan(tmp_path, '"classify"', model='labels = ["a", "b", "c"]\n')
    assert output(found) == ClassifyPlan((), labels=("a", "b", "c"), label_tensor="label")
    assert found.whole.models["m"].outputs == ("label",)


def test_scores_are_told_from_a_label_by_their_type(tmp_path: Path) -> None:
    nodes = [h.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0), h.make_node("Softmax", ["x"], ["p"], axis=1)]
    outs = [value("label", T.INT64, ["N"]), value("p", T.FLOAT, ["N", 3])]
    save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 3])], outs)
    assert output(plan(tmp_path, '"classify"')).tensors == ("p",)


def test_values_have_names(tmp_path: Path) -> None:
    model(tmp_path, {"y": ["N", 2]})
    found = plan(tmp_path, '{ type = "regress", fields = ["hours", { name = "wear", scale = 100, unit = "%" }] }')
    made: Any = output(found)
    assert made.fields == (ValueField("hours"), ValueField("wear", 100.0, 0.0, "%"))
    assert [(f.name, f.unit) for f, _ in found.whole.pipelines["p"].results] == [("values.hours", None), ("values.wear", "%")]
    # Labels for another number of values are not names for these.
    assert output(plan(tmp_path, '"regress"', model='labels = ["a", "b", "c"]\n')).labels is None


def test_the_error_of_an_autoencoder(tmp_path: Path) -> None:
    autoencoder(tmp_path / "m.onnx", ["N", "t", 3])
    found = plan(tmp_path, '{ type = "anomaly", error = "mae", above = 0.8 }', "window = { size = 8 }\n")
    assert output(found) == AnomalyPlan(("y",), 24, error="mae", input="x", above=0.8)  # `t` is the input's
    assert [f.name for f, _ in found.whole.pipelines["p"].results] == ["score", "anomaly"]


def test_results_of_a_chain_hold_only_what_is_always_there() -> None:
    all_scores = ClassifyPlan(("y",), 3, labels=("a", "b", "c"))
    assert [f.name for f, _ in chained_fields(all_scores, {})] == ["score", "scores.a", "scores.b", "scores.c"]
    best = ClassifyPlan(("y",), 3, labels=("a", "b", "c"), top=2)
    assert [f.name for f, _ in chained_fields(best, {})] == ["score"]
    assert chained_fields(RawPlan(("y",)), {}) == ()


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_of_two_tensors_one_must_be_named(tmp_path: Path, kind: str) -> None:
    model(tmp_path, {"a": ["N", 4], "b": ["N", 2]})
    [line] = plan(tmp_path, f'"{kind}"').lines
    assert f'output = {{ type = "{kind}", tensor = "a" }}' in line
    assert output(plan(tmp_path, f'{{ type = "{kind}", tensor = "b" }}')).tensors == ("b",)


def test_functions_may_make_other_outputs(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text('def pair(outputs):\n    return {"pair": outputs["y"][:2]}\n')
    model(tmp_path, {"y": ["N", 4]})
    found = plan(tmp_path, '"regress"', 'postprocess = "steps.py:pair"\n')
    assert (output(found).tensors, output(found).size) == (("pair",), 2)


def test_names_in_the_graph_are_the_labels(tmp_path: Path) -> None:
    named(tmp_path / "m.onnx")
    assert output(plan(tmp_path, '"classify"')).labels == ("healthy", "worn")
    found = plan(tmp_path, '"classify"', model='labels = ["gesund", "verschlissen"]\n')
    assert output(found).labels == ("gesund", "verschlissen")
    assert (
        'labels: "worn" is class 0 here and class 1 there'
        in plan(tmp_path, '"classify"', model='labels = ["worn", "healthy"]\n').lines[0]
    )
    only = output(plan(tmp_path, '{ type = "classify", tensor = "label" }', model='labels = ["gesund", "verschlissen"]\n'))
    assert isinstance(only, ClassifyPlan)
    assert only.make_head().results({"label": np.array(["worn", "healthy"], object)}, {}, [0, 0]) == [
        {"label": "verschlissen"},
        {"label": "gesund"},
    ]


def test_one_output_for_each_class_that_the_graph_names(tmp_path: Path) -> None:
    """As scikit-learn's converter writes them with `zipmap` as "columns"."""
    named(tmp_path / "m.onnx", apart=True)
    found = output(plan(tmp_path, '"classify"'))
    assert (found.tensors, found.labels) == (("healthy", "worn"), ("healthy", "worn"))
    assert output(plan(tmp_path, '{ type = "classify", tensor = "worn" }')).tensors == ("worn",)


def test_classes_that_are_numbers_of_their_own(tmp_path: Path) -> None:
    """A classifier of 3, 7 and 9 says 7: the second of three labels."""
    named(tmp_path / "m.onnx", (3, 7, 9))
    assert output(plan(tmp_path, '"classify"')).labels == ("3", "7", "9")
    only = output(plan(tmp_path, '{ type = "classify", tensor = "label" }', model='labels = ["low", "mid", "high"]\n'))
    assert only.make_head().results({"label": np.array([7, 9])}, {}, [0, 0]) == [{"label": "mid"}, {"label": "high"}]


def test_maps_are_not_missed_where_another_output_serves(tmp_path: Path) -> None:
    zip_map(tmp_path / "m.onnx")
    assert output(plan(tmp_path, '"raw"')).tensors == ("y",)
    assert output(plan(tmp_path, '"classify"')).wanted == ("y",)


def test_the_manifest_says_the_shape_that_the_file_leaves_open(tmp_path: Path) -> None:
    folder_model(tmp_path / "m.onnx", "[outputs.y]\nshape = [2, 5]\n", net, {"x": (T.FLOAT, ["N", 3])}, {"y": ["N", "a", "b"]})
    found = plan(tmp_path, '"raw"')
    assert [(f.name, f.shape) for f, _ in found.whole.pipelines["p"].results] == [("outputs.y", (2, 5))]
    folder_model(tmp_path / "m.onnx", "[outputs.y]\nshape = [2]\n", net, {"x": (T.FLOAT, ["N", 3])}, {"y": ["N", "a", "b"]})
    assert "outputs.y.shape: [2] is not a row of float32[N,a,b]" in plan(tmp_path, '"raw"').lines[0]


def test_a_label_that_its_scores_need_not_agree_with(tmp_path: Path) -> None:
    """Of clusters the nearest is the class, and its distance the smallest."""
    clusters(tmp_path / "m.onnx")
    text = MAIN + ACCEL + '[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "accel"\nmodel = "m"\n'
    fields = 'inputs = { x = { fields = ["ax", "ay"] } }\n'
    found: Any = output(planned(tmp_path, text + fields + 'output = "classify"\n'))
    assert (found.tensors, found.label_tensor) == ((), "label")
    named: Any = output(planned(tmp_path, text + fields + 'output = { type = "classify", tensor = "scores" }\n'))
    assert named.tensors == ("scores",)


def test_several_classes_themselves_are_no_scores(tmp_path: Path) -> None:
    nodes = [h.make_node("Cast", ["x"], ["label"], to=T.INT64)]
    save(tmp_path / "m.onnx", nodes, [value("x", T.FLOAT, ["N", 3])], [value("label", T.INT64, ["N", 3])])
    [problem] = plan(tmp_path, '"classify"').problems
    assert problem.text.startswith("label is int64[N,3]: several classes themselves and no scores")
