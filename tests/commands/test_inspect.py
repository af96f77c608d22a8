from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.cli import main
from tests.support import hostile, models
from tests.support.deployments import net

TINY = Path(__file__).parents[2] / "models" / "tiny"


def test_a_model_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "inspect", str(TINY)]) == 0
    out = capsys.readouterr().out.splitlines()
    titles = ["model", "", "sha256", "size", "format", "input", "output", "labels", "metadata", "memory", "time", "time"]
    assert [line[:9].strip() for line in out] == titles
    assert out[4:8] == [
        "format    IR 9, opset ai.onnx 17",
        "input     x: float32[N,8]",
        "output    probabilities: float32[N,3]",
        "labels    3: low, middle, high",
    ]
    assert out[9].startswith("memory    predicted 10.0 MiB, measured ")
    assert "us for 16 rows" in out[10]


def test_the_same_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "inspect", "--json", str(TINY / "model.onnx")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["inputs"] == [{"name": "x", "kind": "tensor", "type": "float32", "shape": ["N", 8]}]
    assert found["opsets"] == {"ai.onnx": 17}
    assert found["labels"] == ["low", "middle", "high"]
    assert found["file_bytes"] == (TINY / "model.onnx").stat().st_size
    assert found["tried"]["provider"] == "cpu"
    assert 0 < found["tried"]["resident_bytes"] <= found["tried"]["peak_bytes"]
    assert found["errors"] == []


@pytest.mark.parametrize("kind", sorted(hostile.ALL.keys() - {"endless loop", "64 GiB"}))
def test_hostile_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    path = hostile.build(kind, tmp_path / "m" / "m")
    assert main(["model", "inspect", str(path)]) == 78
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert err[0].startswith(str(path))
    assert hostile.ALL[kind][1] in err[0]
    assert main(["model", "inspect", "--json", str(path)]) == 78
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert hostile.ALL[kind][1] in found["errors"][0]


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.linear(tmp_path / "pump.onnx")
    assert main(["model", "inspect", str(tmp_path)]) == 78
    assert capsys.readouterr().err == f"{tmp_path}/model.onnx is not there; there is pump.onnx\n"


def test_what_a_model_remembers_is_tried_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.total(tmp_path / "model.onnx", layers=2)
    (tmp_path / "model.toml").write_text('state = { sum_out = "sum" }\n')
    assert main(["model", "inspect", str(tmp_path)]) == 0
    assert "us for 16 rows" in capsys.readouterr().out


def test_axes_that_the_file_leaves_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = net(tmp_path / "model.onnx", {"x": (T.FLOAT, ["N", "t", 3])}, {"y": ["N", 1]})
    assert main(["model", "inspect", str(path)]) == 0
    capsys.readouterr()
    nodes = [h.make_node("Reshape", ["x", "s"], ["y"])]
    size = nh.from_array(np.array([-1, 7], np.int64), "s")
    axes = [models.value("x", T.FLOAT, ["N", "t"])], [models.value("y", T.FLOAT, ["N", 7])]
    models.save(path, nodes, *axes, [size])
    assert main(["model", "inspect", str(path)]) == 78
    assert "open axes were tried as 1; if that is wrong: [inputs.x] shape = [...] in model.toml" in capsys.readouterr().err
    (tmp_path / "model.toml").write_text("[inputs.x]\nshape = [7]\n")
    assert main(["model", "inspect", str(tmp_path)]) == 0
