from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.pipeline.preprocess import StepError, compose, compose_outputs, custom, detrend, load_function, normalize

STEPS = """
from __future__ import annotations
import numpy as np
from dataclasses import dataclass

@dataclass
class Limits:
    low: float = 0.0

def spectrum(window):
    return np.abs(np.fft.rfft(window, axis=0))

def magnitude(row):
    return float(np.sqrt((row ** 2).sum()))

def in_place(window):
    window -= window.mean(0)
    return window

def picky(window):
    if window.max() > 5:
        raise ValueError("too large")
    return window[: 2 if window.max() < 3 else 1]

def text(window):
    return "high"

def broken(window):
    return deeper(window)

def deeper(window):
    return window.reshape(7, -1)

def double(outputs):
    return {"twice": outputs["y"] * 2, "size": outputs["y"].sum()}

def best(outputs):
    return int(outputs["twice"].argmax())

def moody(outputs):
    return {"a": 1} if outputs["y"].max() < 1 else {"b": 1}

constant = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


def batch_of(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_no_steps_change_nothing() -> None:
    pre = compose([], (4, 2))
    batch = batch_of(3, 4, 2)
    assert pre(batch) is batch
    assert pre.output_shape == (4, 2)


def test_normalize_by_column_and_by_one_number() -> None:
    batch = np.array([[[1, 10], [3, 30]]], np.float32)
    assert compose([normalize([1, 10], [2, 20])], (2, 2))(batch).tolist() == [[[0, 0], [1, 1]]]
    np.testing.assert_allclose(compose([normalize(low=0, high=10)], (2, 2))(batch), batch / 10)
    assert batch[0, 0, 0] == 1


@pytest.mark.parametrize("bounds", [([1, 2, 3], [4, 5, 6]), (1, [4, 5, 6]), ([1, 2, 3], 4)])
def test_normalize_of_large_pictures_goes_by_colour(bounds: Any) -> None:
    mean, std = bounds
    picture = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3)).astype(np.uint8)
    made = compose([normalize(mean=mean, std=std)], (160, 160, 3))(picture.reshape(2, -1))
    assert made.dtype == np.float32
    assert np.allclose(made, (picture - np.array(mean, np.float64)) / np.array(std, np.float64), atol=1e-5)


def test_normalize_keeps_the_digits_of_a_small_change_on_a_large_value() -> None:
    pre = compose([normalize(101325, 0.01)], (1,))
    assert pre(np.array([[np.float32(101325.0078125)]])).item() == pytest.approx(0.78125)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "mean and std, or min and max"),
        ({"mean": 1}, "mean and std, or min and max"),
        ({"mean": 1, "std": 1, "low": 0, "high": 1}, "mean and std, or min and max"),
        ({"mean": [1, 2], "std": 1}, "2 numbers for mean, the rows have 3 columns"),
        ({"mean": 1, "std": [1, 0, 1]}, "std must be above 0"),
        ({"low": 2, "high": 2}, "max - min must be above 0"),
        ({"low": float("nan"), "high": 2}, "max - min must be above 0"),
    ],
)
def test_normalize_refuses(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compose([normalize(**arguments)], (5, 3))


@settings(deadline=None)
@given(
    size=st.integers(3, 300),
    width=st.integers(1, 4),
    seed=st.integers(0, 100),
    constant=st.sampled_from([0.0, 9.81, 101325.0]),
    slope=st.floats(-1, 1),
)
def test_detrend_takes_out_what_polyfit_finds(size: int, width: int, seed: int, constant: float, slope: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(2, size, width)) + constant + slope * np.arange(size)[:, None]
    batch = rows.astype(np.float32)
    time = np.arange(size)
    got = compose([detrend()], (size, width))(batch)
    for n in range(2):
        line = np.polynomial.polynomial.polyfit(time, batch[n].astype(np.float64), 1)
        want = batch[n] - (line[0] + time[:, None] * line[1])
        np.testing.assert_allclose(got[n], want, atol=1e-5 + 2e-6 * abs(slope) * size)
    assert got.dtype == np.float32


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_detrend_needs_a_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"step 1: detrend: .*window\.size"):
        compose([detrend()], shape)


def test_steps_run_in_order_and_never_write_into_what_they_get(folder: Path) -> None:
    pre = compose([custom("steps.py:in_place", folder), normalize(0, 2), custom("steps.py:spectrum", folder)], (8, 3))
    assert pre.output_shape == (5, 3)
    assert pre.nbytes > 0
    batch = batch_of(2, 8, 3)
    before = batch.copy()
    want = np.abs(np.fft.rfft((batch - batch.mean(1, keepdims=True)) / 2, axis=1))
    got = pre(batch)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(batch, before)


def test_a_step_may_give_a_number_for_a_sample(folder: Path) -> None:
    pre = compose([custom("steps.py:magnitude", folder)], (2,))
    assert pre.output_shape == ()
    assert pre(np.array([[3, 4], [6, 8]], np.float32)).tolist() == [5, 10]


@pytest.mark.parametrize(
    ("largest", "said"),
    [
        (9.0, r"steps.py:picky: ValueError: too large \(line \d+ of steps.py\)"),
        (4.0, r"gave the shape \[1, 2\]; at start it gave \[2, 2\]"),
    ],
)
def test_a_row_that_a_step_cannot_take_is_named(folder: Path, largest: float, said: str) -> None:
    pre = compose([custom("steps.py:picky", folder)], (4, 2))
    batch = np.zeros((3, 4, 2), np.float32)
    batch[1] = largest
    with pytest.raises(StepError, match=said) as caught:
        pre(batch)
    assert caught.value.row == 1
    assert pre(batch[::2]).shape == (2, 2, 2)


RAISED = ("sys.exit(3)", "raise KeyboardInterrupt", "raise asyncio.CancelledError", "raise GeneratorExit", "raise Own")
OWN = """
import asyncio, sys
class Own(BaseException):
    def __str__(self):
        sys.exit(4)
"""


@pytest.mark.parametrize("text", RAISED)
def test_whatever_a_step_raises_is_its_own_fault(folder: Path, text: str) -> None:
    name = text.split()[-1].rpartition(".")[2].replace("exit(3)", "SystemExit: 3")
    (folder / "at_import.py").write_text(f"{OWN}{text}\n")
    with pytest.raises(ValueError, match=rf"at_import.py: {name} \(line 6"):
        load_function("at_import.py:f", folder)
    (folder / "at_trial.py").write_text(f"{OWN}def f(x):\n    {text}\n")
    with pytest.raises(ValueError, match=rf"failed for zeros of shape \[2\]: {name} \(line 7"):
        compose([custom("at_trial.py:f", folder)], (2,))
    with pytest.raises(ValueError, match=rf"failed for zeros of y \[2\]: {name} \(line 7"):
        compose_outputs(["at_trial.py:f"], folder, {"y": ((2,), "float32")})
    (folder / "late.py").write_text(
        f"{OWN}def f(x):\n    if (x if hasattr(x, 'ndim') else x['y'])[0] == 1:\n        {text}\n    return x\n"
    )
    rows = np.array([[0, 0], [1, 0], [2, 0]], np.float32)
    with pytest.raises(StepError, match=rf"late.py:f: {name} \(line 8") as caught:
        compose([custom("late.py:f", folder)], (2,))(rows)
    assert caught.value.row == 1
    with pytest.raises(StepError, match=rf"late.py:f: {name} \(line 8") as caught:
        compose_outputs(["late.py:f"], folder, {"y": ((2,), "float32")})({"y": rows}, 3)
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("steps.py", 'expected "file.py:function"'),
        ("steps.py:1x", 'expected "file.py:function"'),
        ("none.py:f", r"none.py is not there"),
        ("steps.py:fft", "there is no function fft; there are: Limits, spectrum, magnitude"),
        ("steps.py:constant", "there is no function constant"),
        ("bad.py:f", r"bad.py: SyntaxError"),
        ("exits.py:f", r"exits.py: SystemExit: 3"),
        ("steps.py:text", "step 1: steps.py:text failed .*expected an array of numbers, found str"),
        ("steps.py:broken", r"failed for zeros of shape \[4, 2\]: ValueError: cannot reshape .*\(line \d+ of steps.py\)"),
    ],
)
def test_a_step_that_cannot_be_loaded_says_why(folder: Path, name: str, said: str) -> None:
    (folder / "bad.py").write_text("def f(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ValueError, match=said):
        compose([custom(name, folder)], (4, 2))


def test_an_edited_file_is_loaded_anew_and_leaves_nothing_behind(folder: Path) -> None:
    for answer in (1, 2):
        (folder / "step.py").write_text(f"def f(x):\n    return {answer}\n")
        assert load_function("step.py:f", folder)(0) == answer
    assert sorted(p.name for p in folder.iterdir()) == ["step.py", "steps.py"]


def test_model_outputs_go_through_functions_in_order(folder: Path) -> None:
    post = compose_outputs(["steps.py:double", "steps.py:best"], folder, {"y": ((3,), np.float32)})
    assert dict(post.outputs) == {"output": ((), np.dtype(np.int64))}
    outputs = {"y": np.array([[1, 5, 2], [9, 0, 1]], np.float32)}
    assert post(outputs, 2)["output"].tolist() == [1, 0]
    one = compose_outputs(["steps.py:double"], folder, {"y": ((3,), np.float32)})(outputs, 1)
    assert one["twice"].tolist() == [[2, 10, 4]]
    assert one["size"].tolist() == [8]


def test_outputs_that_change_their_names_are_refused(folder: Path) -> None:
    post = compose_outputs(["steps.py:moody"], folder, {"y": ((1,), np.float32)})
    with pytest.raises(StepError, match="gave the outputs b; at start it gave a") as caught:
        post({"y": np.array([[0], [2]], np.float32)}, 2)
    assert caught.value.row == 1


def test_a_postprocess_that_fails_at_start_says_for_what(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"steps.py:double failed for zeros of z \[3\]: KeyError"):
        compose_outputs(["steps.py:double"], folder, {"z": ((3,), np.float32)})


def test_a_step_after_the_model_that_gives_no_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.py").write_text("def f(outputs):\n    return {}\n")
    with pytest.raises(ValueError, match="expected at least one output, found an empty dict"):
        compose_outputs(["none.py:f"], tmp_path, {"y": ((2,), np.float32)})


def test_a_file_that_never_returns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("while True:\n    pass\n")
    with pytest.raises(ValueError, match=r"steps\.py: TimeoutError: it has not returned after 0\.05 s"):
        load_function("steps.py:f", tmp_path, patience_s=0.05)
