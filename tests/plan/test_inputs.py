from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from edged.model.inputs import Filler, InputPlan, make_filler
from tests.support.deployments import folder_model, net
from tests.support.models import Axes, linear, save, value
from tests.support.planning import ACCEL, MAIN, Planned, planned


def model(folder: Path, axes: Axes, toml: str = "", kind: int = T.FLOAT) -> None:
    folder_model(folder / "m", toml, net, {"x": (kind, axes)}, {"y": ["N", 2]})


def plan(folder: Path, more: str = "", source: str = ACCEL) -> Planned:
    return planned(folder, MAIN + source + f'[model.m]\npath = "m"\n[pipeline.p]\nsource = "accel"\nmodel = "m"\n{more}')


def only(found: Planned) -> InputPlan:
    [one] = found.whole.pipelines["p"].inputs
    return one


def test_all_fields_go_into_the_only_input(tmp_path: Path) -> None:
    model(tmp_path, ["N", 8, 3])
    assert only(plan(tmp_path, "window = { size = 8 }")) == InputPlan("x", (8, 3))


def test_the_layout_that_fits_is_found(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3, 8])
    assert only(plan(tmp_path, "window = { size = 8 }")).layout == "field,time"


def test_the_manifest_names_the_fields(tmp_path: Path) -> None:
    model(tmp_path, ["N", 2], '[inputs.x]\nfields = ["az", "ax"]\n')
    assert only(plan(tmp_path)) == InputPlan("x", (2,), columns=(2, 0))
    # The configuration wins, and that is said.
    found = plan(tmp_path, 'inputs = { x = { fields = ["ay", "ax"] } }')
    assert only(found).columns == (1, 0)
    assert [p.text for p in found.problems if p.is_warning] == ["wins over model.toml, which names az, ax"]


def test_units_are_compared(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3], '[inputs.x]\nunits = { ax = "m/s2" }\n'.replace("units", 'fields = ["ax", "ay", "az"]\nunits'))
    assert plan(tmp_path).lines == []
    model(tmp_path, ["N", 3], '[inputs.x]\nfields = ["ax", "ay", "az"]\nunits = { ax = "g" }\n')
    assert "takes ax in g, the source gives m/s2" in plan(tmp_path).lines[0]


def test_only_the_newest_rows(tmp_path: Path) -> None:
    net(tmp_path / "m" / "model.onnx", {"a": (T.FLOAT, ["N", 8, 2]), "b": (T.FLOAT, ["N", 1])}, {"y": ["N", 1]})
    found = plan(tmp_path, 'window = { size = 8 }\ninputs = { a = { fields = ["ax", "ay"] }, b = { fields = "az", size = 1 } }')
    assert found.whole.pipelines["p"].inputs == (
        InputPlan("a", (8, 2), columns=(0, 1)),
        InputPlan("b", (1,), columns=(2,), rows=1),
    )
    window = np.arange(24, dtype=np.float32).reshape(8, 3)
    out = np.zeros(1, np.float32)
    Filler(found.whole.pipelines["p"].inputs[1]).fill(out, window)
    assert out == [23]


def test_constants(tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"x": (T.FLOAT, ["N", 3]), "sr": (T.INT64, [1]), "gain": (T.FLOAT, ["N", 2])}
    net(tmp_path / "m" / "model.onnx", inputs, {"y": ["N", 1]})
    found = plan(tmp_path, "inputs = { sr = { value = 16000 }, gain = { value = [1, 2] } }").whole
    x, sr, gain = found.pipelines["p"].inputs
    assert (x.value, sr.value, gain.value) == (None, 16000, (1, 2))
    assert (sr.is_row, gain.is_row, gain.shape) == (False, True, (2,))
    assert found.models["m"].constants["sr"].tolist() == [16000]
    assert found.models["m"].rows == {"x": (3,), "gain": (2,)}
    assert found.sources["accel"].dtype == "float32"  # an int64 constant asks nothing of the source


def test_what_float32_cannot_carry_makes_the_source_wide(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3], kind=T.INT64)
    found = plan(tmp_path).whole
    assert found.sources["accel"].dtype == found.pipelines["p"].dtype == "float64"
    assert only(plan(tmp_path)).dtype == "int64"


def test_the_manifest_settles_open_axes(tmp_path: Path) -> None:
    model(tmp_path, ["N", "t", 3], "[inputs.x]\nshape = [8, 3]\n")
    assert only(plan(tmp_path, "window = { size = 8 }")).shape == (8, 3)
    assert "set window.size = 8" in plan(tmp_path, "window = { size = 9 }").lines[0]
    model(tmp_path, ["N", 8, 3], "[inputs.x]\nshape = [9, 3]\n")
    assert "model.toml says that a row of x is [9, 3], its file float32[N,8,3]" in plan(tmp_path).lines[0]


def test_an_open_first_axis_counts_rows_unless_the_manifest_says_otherwise(tmp_path: Path) -> None:
    model(tmp_path, ["N", 3])
    assert 'say batch_axis = "none"' in plan(tmp_path, "window = { size = 8 }").lines[0]
    model(tmp_path, ["t", 3], 'batch_axis = "none"\n')
    assert only(plan(tmp_path, "window = { size = 8 }")).shape == (8, 3)


def test_steps_that_change_the_shape_end_the_choice_of_fields(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def half(window):\n    return window[::2, :2]\n")
    model(tmp_path, ["N", 4, 2])
    more = 'window = { size = 8 }\npreprocess = "steps.py:half"\n'
    assert only(plan(tmp_path, more)) == InputPlan("x", (4, 2))
    [line] = plan(tmp_path, more + 'inputs = { x = { fields = ["ax"] } }').lines
    assert "preprocess makes [4, 2] of the window" in line


@pytest.mark.parametrize(
    ("axes", "more", "fix"),
    [
        (["N", 8, 3], "", "; set window = { size = 8 }"),
        (["N", 8, 3], "window = { size = 4 }", "; set window.size = 8"),
        (["N", 3], "window = { size = 4 }", "; it takes single samples: remove window"),
    ],
)
def test_a_misfit_says_what_would_fit(tmp_path: Path, axes: Axes, more: str, fix: str) -> None:
    model(tmp_path, axes)
    [line] = plan(tmp_path, more).lines
    assert fix in line


def test_an_input_named_like_a_field_gets_that_field(tmp_path: Path) -> None:
    """scikit-learn's converters make an input of each column."""
    names: dict[str, tuple[int, Axes]] = {name: (T.FLOAT, ["N", 1]) for name in ("az", "ax")}
    folder_model(tmp_path / "m", "", net, names, {"y": ["N", 2]})
    inputs = plan(tmp_path).whole.pipelines["p"].inputs
    assert [(i.name, i.columns, i.shape) for i in inputs] == [("az", (2,), (1,)), ("ax", (0,), (1,))]
    folder_model(tmp_path / "m", "", net, {"ax": (T.FLOAT, ["N", 1]), "rest": (T.FLOAT, ["N", 2])}, {"y": ["N", 2]})
    inputs = plan(tmp_path).whole.pipelines["p"].inputs
    assert [(i.name, i.columns) for i in inputs] == [("ax", (0,)), ("rest", (1, 2))]
    folder_model(tmp_path / "m", "", net, {"ax": (T.FLOAT, ["N", 1]), "all": (T.FLOAT, ["N", 3])}, {"y": ["N", 2]})
    assert [i.columns for i in plan(tmp_path).whole.pipelines["p"].inputs] == [(0,), None]
    folder_model(tmp_path / "m", "", net, {"ax": (T.FLOAT, ["N", 3])}, {"y": ["N", 2]})
    assert only(plan(tmp_path)).columns is None
    folder_model(tmp_path / "m", "", net, {"ax": (T.FLOAT, ["N", 1])}, {"y": ["N", 2]})
    assert only(plan(tmp_path)).columns == (0,)
    folder_model(tmp_path / "m", "", net, {"ax": (T.FLOAT, [2]), "ay": (T.FLOAT, [1])}, {"y": [2]})
    assert [
        i.columns for i in plan(tmp_path, "window = { size = 2 }\ninputs = { ay = { size = 1 } }").whole.pipelines["p"].inputs
    ] == [
        (0,),
        (1,),
    ]


def test_time_may_come_first_as_pytorch_has_it(tmp_path: Path) -> None:
    folder_model(tmp_path / "m", "", net, {"x": (T.FLOAT, [8, "N", 3])}, {"y": ["N", 2]})
    assert only(plan(tmp_path, "window = { size = 8 }")) == InputPlan("x", (8, 3))
    model(tmp_path, [8, None, 3], "batch_axis = 1\n")
    assert only(plan(tmp_path, "window = { size = 8 }")) == InputPlan("x", (8, 3))


def test_an_input_with_a_value_of_its_own_is_filled_only_when_asked(tmp_path: Path) -> None:
    linear(tmp_path / "m")
    model = onnx.load(str(tmp_path / "m"))
    model.graph.input.append(value("w", T.FLOAT, [3, 2]))
    (tmp_path / "m").write_bytes(model.SerializeToString())
    assert [i.name for i in plan(tmp_path).whole.pipelines["p"].inputs] == ["x"]
    found = plan(tmp_path, "inputs = { w = { value = 2 } }").whole
    assert [(i.name, i.value) for i in found.pipelines["p"].inputs] == [("x", None), ("w", 2)]
    assert found.models["m"].constants["w"].tolist() == [[2, 2]] * 3


def test_what_steps_make_is_rounded(tmp_path: Path) -> None:
    """A quantised input: -0.6 is -1 there, and 2.9 is 3."""
    model(tmp_path, ["N", 3], kind=T.INT8)
    one = only(plan(tmp_path, 'preprocess = { step = "normalize", mean = 0, std = 0.1 }'))
    assert one.is_rounded
    out = np.zeros((1, 3), np.int8)
    Filler(one).fill_many(out, [0], np.array([[-0.6, 2.9, 500]], np.float32))
    assert out.tolist() == [[-1, 3, 127]]
    assert not only(plan(tmp_path)).is_rounded


def texts_model(folder: Path, axes: Axes) -> None:
    nodes = [h.make_node("Identity", ["city"], ["y"]), h.make_node("Mul", ["t", "t"], ["u"])]
    inputs = [value("city", T.STRING, axes), value("t", T.FLOAT, ["N", 2])]
    save(folder / "m.onnx", nodes, inputs, [value("y", T.STRING, axes), value("u", T.FLOAT, ["N", 2])])


TEXTS = """
[source.s]
type = "mqtt"
topic = "s"
decode = { format = "json", fields = ["a", { name = "city", dtype = "text", size = 5 }, "b", { name = "mode", dtype = "text" }] }
[model.m]
path = "m.onnx"
[pipeline.p]
source = "s"
model = "m"
"""


def test_an_input_of_strings_takes_fields_of_texts_and_others_do_not(tmp_path: Path) -> None:
    texts_model(tmp_path, ["N", 1])
    city, t = planned(tmp_path, MAIN + TEXTS).whole.pipelines["p"].inputs
    assert (city.dtype, city.shape, city.texts) == ("<U5", (1,), ((1, 6),))
    assert (t.dtype, t.columns) == ("float32", (0, 6))
    out = np.zeros((2, 1), "<U5")
    row = np.array([[0.5, *map(ord, "Kyiv"), 0, 2, *[0] * 64], [1, *map(ord, "Lviv!"), 3, *[0] * 64]])
    make_filler(city).fill(out[0], row[0])
    make_filler(city).fill_many(out, [1], row[1:])
    assert out.tolist() == [["Kyiv"], ["Lviv!"]]
    texts_model(tmp_path, ["N", 2])
    assert planned(tmp_path, MAIN + TEXTS + 'inputs = { city = { fields = ["mode", "city"] } }').whole.pipelines["p"].inputs[
        0
    ] == InputPlan("city", (2,), "<U64", texts=((7, 71), (1, 6)))


def test_what_an_input_of_strings_does_not_take(tmp_path: Path) -> None:
    texts_model(tmp_path, ["N", 1])
    found = planned(tmp_path, MAIN + TEXTS + 'inputs = { city = { fields = "a" } }')
    assert [p.text for p in found.problems] == [
        "city: string[N,1] takes texts, and a is a number; make it a text, "
        'such as decode = { format = "json", fields = [{ name = "city", dtype = "text" }] }'
    ]
    found = planned(tmp_path, MAIN + TEXTS + 'preprocess = "detrend"')
    assert [p.text for p in found.problems] == [
        "works on numbers, and city, mode is a text; give such a model its steps in the graph"
    ]
