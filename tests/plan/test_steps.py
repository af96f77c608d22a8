from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.config.schema import Step
from edged.config.values import Function
from edged.plan.steps import make_postprocess, make_preprocess

STEPS = """
def double(window):
    return 2 * window


def total(outputs):
    return {"total": outputs["y"].sum()}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "steps.py"
    path.write_text(STEPS)
    return path


def test_steps_follow_each_other(file: Path) -> None:
    steps = [Step(step="normalize", mean=(1.0,), std=(2.0,)), Step(step=Function(file, "double")), Step(step="detrend")]
    made = make_preprocess(steps, (4, 1), "float32")
    assert made.output_shape == (4, 1)
    assert np.allclose(made(np.array([[[1], [3], [5], [7]]], np.float32)), 0, atol=1e-6)


def test_functions_after_the_model(file: Path) -> None:
    assert make_postprocess((), {}) is None
    made = make_postprocess((Function(file, "total"),), {"y": ((3,), "float32")})
    assert made is not None
    assert made({"y": np.ones((2, 3), np.float32)}, 2)["total"].tolist() == [3, 3]


def test_says_which_step_does_not_fit(file: Path) -> None:
    with pytest.raises(ValueError, match="step 2: detrend"):
        make_preprocess([Step(step=Function(file, "double")), Step(step="detrend")], (3,), "float32")
