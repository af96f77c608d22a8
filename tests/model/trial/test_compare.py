from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.onnx import BoundSession
from edged.model.records import LoadReport, ModelPlan, ModelRefused
from edged.model.trial.compare import against_cpu
from tests.support import models


def load(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> tuple[BoundSession, LoadReport, ModelPlan]:
    """As if it ran on a GPU: what matters here is that it is another session."""
    manifest, _ = read_manifest("m", path)
    assert manifest is not None
    plan = ModelPlan(manifest, rows, providers=("cpu",), **settings)
    bound, report = load_session(plan)
    return bound, replace(report, provider="cuda"), plan


def test_alike(tmp_path: Path) -> None:
    bound, report, plan = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)})
    assert against_cpu(bound, report, plan) > 0
    bound, report, plan = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)}, batch_max=1)
    assert against_cpu(bound, report, plan) > 0


def test_an_answer_that_is_off(tmp_path: Path) -> None:
    bound, report, plan = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)})
    usual = bound.run
    bound.run = lambda count: {n: y * 1.05 for n, y in usual(count).items()}  # type: ignore[method-assign]
    with pytest.raises(ModelRefused, match=r"its answers are not the CPU's: y is \[.*\], the CPU gives \["):
        against_cpu(bound, report, plan)
    coarse = replace(plan, provider_options={"cuda": {"trt_fp16_enable": True}})
    assert against_cpu(bound, report, coarse) > 0


def test_a_session_that_does_not_see_new_rows(tmp_path: Path) -> None:
    bound, report, plan = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)})
    first = {n: y.copy() for n, y in bound.run(bound.batch_max).items()}
    bound.run = lambda count: {n: y[:count] for n, y in first.items()}  # type: ignore[method-assign]
    bound.inputs["x"][:] = np.float32(7)
    with pytest.raises(ModelRefused, match="its answers are not the CPU's"):
        against_cpu(bound, report, plan)


def test_what_the_cpu_cannot_run_is_not_compared(tmp_path: Path) -> None:
    bound, report, plan = load(models.linear(tmp_path / "m.onnx"), {"x": (3,)})
    (tmp_path / "broken.onnx").write_bytes(b"")
    assert against_cpu(bound, report, replace(plan, manifest=replace(plan.manifest, path=tmp_path / "broken.onnx"))) == 0
