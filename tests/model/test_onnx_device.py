"""What a session on a GPU does with the GPU's memory, done with memory of the host: other tensors than ours, filled and read by
copies. And what a provider that is not there gives: never the CPU in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edged.model.fit import fit
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.onnx import BoundSession, Place, available, nodes_of, open_session, session_options
from edged.model.records import ModelPlan, RunFailed
from tests.support import models

LIBRARY = Path(onnxruntime.__file__).parent / "capi"


def planned(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> ModelPlan:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return ModelPlan(manifest, rows, providers=("cpu",), **settings)


def elsewhere(plan: ModelPlan, has_graph: bool) -> BoundSession:
    usual, report = load_session(plan)
    fitted, _ = fit(plan)
    assert fitted is not None
    place = Place("cpu", 0, has_graph)
    return BoundSession(usual.session, plan, fitted, report.outputs, usual.batch_max > 1, usual.batch_max, place)


@pytest.mark.parametrize("has_graph", [False, True])
def test_every_run_sees_its_rows(tmp_path: Path, has_graph: bool) -> None:
    bound = elsewhere(planned(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=20), has_graph)
    assert bound.buckets == [1, 2, 4, 8, 16, 20]
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    right = rows @ np.array([[1, 2], [2, 3], [3, 4]], np.float32)
    for count in (20, 1, 3, 16, 17, 2, 1):
        bound.inputs["x"][:count] = rows[-count:]
        np.testing.assert_allclose(bound.run(count)["y"], right[-count:])
    outputs = sum(bound.buckets) * 2 * 4 if has_graph else 0
    assert bound.device_bytes == sum(bound.buckets) * 3 * 4 + outputs


def test_constants_lie_there_too(tmp_path: Path) -> None:
    plan = planned(models.scaled(tmp_path / "m.onnx"), {"x": (2,)}, constants={"gain": np.array(3, np.float32)})
    bound = elsewhere(plan, has_graph=True)
    for factor in (1, 2):
        bound.inputs["x"][:1] = factor
        usual = load_session(plan)[0]
        usual.inputs["x"][:1] = factor
        np.testing.assert_array_equal(bound.run(1)["y"], usual.run(1)["y"])


def test_more_rows_than_it_takes_do_not_reach_it(tmp_path: Path) -> None:
    bound, _ = load_session(planned(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=4))
    for count in (0, 5, -1):
        with pytest.raises(RunFailed, match="it takes 1 to 4 at once"):
            bound.run(count)


def test_nodes_are_told_where_onnxruntime_tells_them(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    told = onnxruntime.InferenceSession(str(path), session_options(1, tells_nodes=True), providers=["CPUExecutionProvider"])
    assert nodes_of(told) == ({"cpu": 1} if hasattr(told, "get_provider_graph_assignment_info") else {})
    silent = onnxruntime.InferenceSession(str(path), session_options(1), providers=["CPUExecutionProvider"])
    assert nodes_of(silent) == {}


@pytest.mark.parametrize("rung", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_never_becomes_the_cpu(tmp_path: Path, rung: str) -> None:
    if (LIBRARY / f"libonnxruntime_providers_{rung}.so").exists():
        pytest.skip("this onnxruntime has more than the CPU")
    plan = planned(models.linear(tmp_path / "m.onnx"), {"x": (3,)})
    fitted, _ = fit(plan)
    assert fitted is not None
    assert rung not in available()
    with pytest.raises(RunFailed, match="this onnxruntime has none"):
        open_session(plan, fitted, rung)
