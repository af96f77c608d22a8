from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support.deployments import net
from tests.support.models import save, total, value
from tests.support.planning import ACCEL, MAIN, Planned, planned

BOTH = """
[model.m]
path = "m.onnx"
batch = { max = 4 }
threads = 2
[pipeline.a]
source = "accel"
model = "m"
window = { size = 8 }
output = { type = "classify", tensor = "scores" }
[pipeline.b]
source = "accel"
model = "m"
window = { size = SIZE, hop = 2 }
output = { type = "raw", tensor = "embedding" }
"""


def both(folder: Path, size: int, more: str = "") -> Planned:
    net(folder / "m.onnx", {"x": (T.FLOAT, ["N", "t", 3])}, {"scores": ["N", 4], "embedding": ["N", 8], "other": ["N", 1]})
    (folder / "steps.py").write_text("def same(outputs):\n    return outputs\n")
    return planned(folder, MAIN + ACCEL + BOTH.replace("SIZE", str(size)) + more)


def test_pipelines_share_a_model(tmp_path: Path) -> None:
    found = both(tmp_path, 8).whole.models["m"]
    assert found.rows == {"x": (8, 3)}
    assert found.outputs == ("scores", "embedding")  # the third is not computed
    assert (found.batch_max, found.threads, found.providers, found.run) == (4, 2, "auto", "auto")


def test_they_must_fill_it_alike(tmp_path: Path) -> None:
    [line] = both(tmp_path, 16).lines
    assert "b gives x 16x3, a x 8x3; load it twice under two names" in line


def test_functions_get_all_outputs(tmp_path: Path) -> None:
    assert both(tmp_path, 8, 'postprocess = "steps.py:same"\n').whole.models["m"].outputs is None


def test_models_that_nobody_uses_are_not_loaded(tmp_path: Path) -> None:
    found = both(tmp_path, 8, '[model.spare]\npath = "m.onnx"\n').whole
    assert list(found.models) == ["m"]


def test_labels_that_nothing_shows_are_warned_of(tmp_path: Path) -> None:
    text = 'labels = ["a", "b", "c", "d"]\n'
    found = both(
        tmp_path,
        8,
        f'[model.raw]\npath = "m.onnx"\n{text}[pipeline.c]\nsource = "accel"\nmodel = "raw"\nwindow = {{ size = 8 }}\n',
    )
    assert [line for line in found.lines if "labels" in line] == [
        '28:10: model.raw.labels: no pipeline of this model has output = "classify", so nothing shows them'
    ]
    assert found.whole


REMEMBERS = """
[model.m]
path = "m"
MODEL
[pipeline.p]
source = "accel"
model = "m"
"""


def remembering(folder: Path, model: str, toml: str = "", more: str = "") -> Planned:
    total(folder / "m" / "model.onnx", width=3, layers=2)
    (folder / "m" / "model.toml").write_text(toml)
    return planned(folder, MAIN + ACCEL + REMEMBERS.replace("MODEL", model) + more)


STATE = 'state = { sum_out = "sum" }'


def test_what_a_model_remembers_is_no_input_of_its_pipelines(tmp_path: Path) -> None:
    for model, toml in ((STATE, ""), ("", STATE), (STATE, STATE)):
        found = remembering(tmp_path, model, toml)
        assert not found.lines
        plan = found.whole
        assert [i.name for i in plan.pipelines["p"].inputs] == ["x"]
        assert plan.models["m"].rows == {"x": (3,), "sum": (2, 3)}
        assert plan.models["m"].batch_max == 1  # there is one key
        assert plan.pipelines["p"].output.tensors == ("y",)
        assert plan.pipelines["p"].state_gap_ns == 10**9


def test_the_configuration_wins_over_the_manifest(tmp_path: Path) -> None:
    found = remembering(tmp_path, STATE, 'state = { y = "x" }')
    assert found.whole.models["m"].manifest.states[0].input == "sum"
    assert found.lines == ['14:1: model.m.state: wins over model.toml, which says { y = "x" }']


def test_a_batch_holds_a_key_once(tmp_path: Path) -> None:
    other = REMEMBERS[REMEMBERS.index("[pipeline") :].replace("pipeline.p", "pipeline.q")
    found = remembering(tmp_path, STATE + "\nbatch = { max = 8 }", more=other)
    assert found.whole.models["m"].batch_max == 2
    assert "batch.max: has no effect beyond 2: a model with state takes one row of each key at once" in found.lines[0]


def test_an_output_may_be_a_state_if_it_is_named(tmp_path: Path) -> None:
    found = remembering(tmp_path, STATE, more='output = { type = "regress", tensor = "sum_out" }')
    assert found.whole.pipelines["p"].output.size == 6


def test_a_state_may_be_of_a_type_that_sensors_are_not(tmp_path: Path) -> None:
    nodes = [h.make_node("Add", ["n", "one"], ["n_out"]), h.make_node("Identity", ["x"], ["y"])]
    ins = [value("x", T.FLOAT, ["N", 3]), value("n", T.INT64, ["N"])]
    outs = [value("y", T.FLOAT, ["N", 3]), value("n_out", T.INT64, ["N"])]
    save(tmp_path / "m.onnx", nodes, ins, outs, [nh.from_array(np.array(1, np.int64), "one")])
    text = MAIN + ACCEL + REMEMBERS.replace("MODEL", 'state = { n_out = "n" }').replace('path = "m"', 'path = "m.onnx"')
    assert planned(tmp_path, text).whole.sources["accel"].dtype == "float32"
