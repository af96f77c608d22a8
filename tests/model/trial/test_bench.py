from __future__ import annotations

import threading
from pathlib import Path

from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan
from edged.model.trial.bench import measure
from tests.support import models


def plan_for(path: Path, **settings: object) -> ModelPlan:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return ModelPlan(manifest, {"x": (3,)}, providers=("cpu",), **settings)  # type: ignore[arg-type]


def test_each_cadence_and_each_size_of_batch(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx"))
    bound, report = load_session(plan)
    found = measure(bound, report, plan, 0.4, 7)
    assert [p.hz for p in found.paces] == [10, 100, 1000, 0]
    assert all(0 < p.p50_us <= p.p99_us and p.runs >= 3 for p in found.paces)
    assert [b.rows for b in found.batches] == [1, 2, 4, 8, 16, 32, 64]
    assert found.worker_hz == 100
    assert found.worker_us > 0
    assert found.private_bytes == 7
    assert not [t for t in threading.enumerate() if t.name.startswith("model-")]


def test_a_model_of_a_fixed_size_has_no_other(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx", batch=4))
    bound, report = load_session(plan)
    assert [b.rows for b in measure(bound, report, plan, 0.2, 0).batches] == [4]


def test_a_batch_that_was_configured_is_among_them(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx"), batch_max=3)
    bound, report = load_session(plan)
    assert [b.rows for b in measure(bound, report, plan, 0.2, 0).batches] == [1, 2, 3, 4, 8, 16, 32, 64]
