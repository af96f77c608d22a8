from __future__ import annotations

from pathlib import Path

from onnx import TensorProto as T

from tests.deployments import net
from tests.plan.planning import ACCEL, MAIN, Planned, planned

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
