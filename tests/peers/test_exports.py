"""Models that scikit-learn, XGBoost and LightGBM export, from a message to the result: the numbers and the labels of plain
onnxruntime, of each row alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edged.daemon.prepare import load, prepare
from edged.testing.cases import beside, read_cases
from edged.testing.play import play
from tests.peers.install import environment

EXPORTERS = (
    "scikit-learn==1.9.1",
    "skl2onnx==1.20.0",
    "onnxmltools==1.16.0",
    "xgboost==3.2.0",
    "lightgbm==4.7.0",
    "pandas==3.1.1",
    "packaging==26.0",  # onnxmltools imports it, and asks for it nowhere
)
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(string)": object}
CONFIG = """
[memory]
budget = "1GiB"
[broker.main]
url = "mqtt://127.0.0.1:1"
[source.s]
type = "mqtt"
topic = "in"
decode = {{ format = "json", fields = [{fields}] }}
[model.m]
path = "{model}"
[pipeline.p]
source = "s"
model = "m"
output = "{output}"
publish = {{ topic = "out" }}
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    python = environment("exporters", "2", *EXPORTERS)
    script = Path(__file__).with_name("exports.py")
    done = subprocess.run([str(python), str(script), str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def played(folder: Path, model: Path, rows: list[Any], output: str) -> list[dict[str, Any]]:
    """The results of the rows, all in one message."""
    if isinstance(rows[0], dict):
        fields = ", ".join(
            f'{{ name = "{n}"{", dtype = " + repr("text") if isinstance(v, str) else ""} }}' for n, v in rows[0].items()
        )
        message: Any = {n: [row[n] for row in rows] for n in rows[0]}
    else:
        fields, message = f'{{ name = "v", shape = [{len(rows[0])}] }}', {"v": rows}
    path = folder / "edged.toml"
    path.write_text(CONFIG.format(fields=fields, model=model, output=output))
    data = json.dumps(json.dumps(message))
    given = f'source = "s"\ninput = [{{ topic = "in", data = {data} }}]\n'
    beside(path).write_text(f'[[test]]\nname = "t"\n{given}expect = {{ topic = "out", result = {{ x = 1 }} }}\n')
    plan, loaded = load(prepare(path))
    return [json.loads(one.payload) for one in play(plan, loaded, read_cases(beside(path)).cases[0]).published]


def plain(session: ort.InferenceSession, row: Any) -> dict[str, Any]:
    feeds = {}
    for i in session.get_inputs():
        values = [row[i.name]] if isinstance(row, dict) else row
        feeds[i.name] = np.array([values], TYPES[i.type])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def test_as_plain_onnxruntime(exported: Path, tmp_path: Path) -> None:
    for model in sorted(exported.glob("*.onnx")):
        rows = json.loads(model.with_suffix(".json").read_text())
        session = ort.InferenceSession(str(model))
        wanted = [plain(session, row) for row in rows]
        found = played(tmp_path, model, rows, "raw")
        assert len(found) == len(rows), model.name
        for result, want in zip(found, wanted, strict=True):
            arrays = {n: y for n, y in want.items() if not isinstance(y, list)}  # maps are left out
            assert result["outputs"].keys() == arrays.keys(), model.name
            for name, y in arrays.items():
                got = np.array(result["outputs"][name], y.dtype).reshape(np.shape(y[0]))
                if y.dtype == object:
                    assert got.tolist() == np.array(y[0]).tolist(), model.name
                else:
                    np.testing.assert_allclose(got, y[0], rtol=2e-5, atol=2e-6, err_msg=model.name)
        if label := next((n for n in wanted[0] if "label" in n), None):
            found = played(tmp_path, model, rows, "classify")
            assert [one["label"] for one in found] == [str(w[label].reshape(-1)[0]) for w in wanted], model.name
