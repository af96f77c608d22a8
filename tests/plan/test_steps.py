from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.config.schema import Step
from edged.notation.values import Function
from edged.plan.steps import make_postprocess, make_preprocess, with_rate

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


def test_a_spectrum_knows_the_rate_of_its_window_where_it_says_none_itself() -> None:
    steps = with_rate([Step(step="log_mel"), Step(step="bands", fs=8.0), Step(step="normalize")], 1000.0)
    assert [(step.sr, step.fs) for step in steps] == [(1000.0, None), (None, 8.0), (None, None)]


def test_steps_follow_a_spectrum(file: Path) -> None:
    mel = Step(step="log_mel", n_fft=256, hop_length=64, n_mels=20, sr=8000.0)
    steps = [Step(step="detrend"), mel, Step(step="normalize", mean=(-30.0,), std=(20.0,)), Step(step=Function(file, "double"))]
    made = make_preprocess(steps, (1024, 2), "float32")
    assert made.output_shape == (2, 20, 17)
    batch = np.random.default_rng(0).standard_normal((3, 1024, 2)).astype(np.float32)
    alone = make_preprocess(steps[:2], (1024, 2), "float32")
    np.testing.assert_allclose(made(batch), 2 * (alone(batch) + 30) / 20, rtol=1e-5, atol=1e-5)


def test_a_spectrum_is_no_signal_any_more() -> None:
    mel = Step(step="log_mel", n_fft=256, sr=8000.0)
    with pytest.raises(ValueError, match="step 2: bands takes samples over time, and log_mel has made a spectrum of them"):
        make_preprocess([mel, Step(step="bands", edges=(1.0, 2.0), fs=8000.0)], (512, 1), "float32")
