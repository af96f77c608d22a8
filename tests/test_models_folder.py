"""The models that come with edged: their files belong together, answer as they should, and can be made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edged.model.manifest import read_manifest
from edged.sources import simulation

MODELS = Path(__file__).parent.parent / "models"
NAMES = ("vibration", "tiny")
RATE_HZ, SIZE, HOP = 1000.0, 512, 256


def answer(name: str, rows: NDArray[Any]) -> NDArray[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(MODELS / name / "model.onnx"), options, providers=["CPUExecutionProvider"])
    found: NDArray[Any] = np.asarray(session.run(None, {session.get_inputs()[0].name: rows.astype(np.float32)})[0])
    return found


def windows(values: NDArray[Any]) -> NDArray[Any]:
    return np.stack([values[start : start + SIZE] for start in range(0, len(values) - SIZE + 1, HOP)])


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_whole(name: str) -> None:
    manifest, problems = read_manifest(name, MODELS / name)
    assert not problems
    assert manifest is not None
    assert manifest.golden is not None
    assert manifest.onnx.ir_version <= 9
    assert manifest.onnx.opsets == {"": 17}
    (source,), (result,) = manifest.onnx.inputs, manifest.onnx.outputs
    assert source.shape == ("N", *manifest.golden.read()[source.name].shape[1:])
    assert result.shape == ("N", len(manifest.labels))
    assert (MODELS / name / "model.onnx").stat().st_size < 500_000


@pytest.mark.parametrize("name", NAMES)
def test_golden_samples_are_answered(name: str) -> None:
    manifest, _ = read_manifest(name, MODELS / name)
    assert manifest is not None
    assert manifest.golden is not None
    golden = manifest.golden.read()
    found = answer(name, golden[manifest.onnx.inputs[0].name])
    np.testing.assert_allclose(found, golden["probabilities"], rtol=manifest.golden.rtol, atol=manifest.golden.atol)
    alone = np.concatenate([answer(name, row[None]) for row in golden[manifest.onnx.inputs[0].name]])
    np.testing.assert_allclose(alone, found, atol=1e-4)


def test_labels_are_the_conditions_of_the_signal() -> None:
    manifest, _ = read_manifest("vibration", MODELS / "vibration")
    assert manifest is not None
    assert manifest.labels == simulation.CONDITIONS
    assert manifest.inputs["acceleration"].fields == simulation.FIELDS


@pytest.mark.parametrize("seed", [0, 1, 4711])
def test_simulated_machine_is_told_right(seed: int) -> None:
    blocks = simulation.blocks("vibration", seed, RATE_HZ, 50)
    seconds = simulation.CONDITION_S * len(simulation.CONDITIONS)
    values = np.concatenate([next(blocks) for _ in range(int(seconds * RATE_HZ / 50))])
    for condition, recording in zip(simulation.CONDITIONS, np.split(values, len(simulation.CONDITIONS)), strict=True):
        called = answer("vibration", windows(recording)).argmax(axis=1)
        assert (called == simulation.CONDITIONS.index(condition)).mean() > 0.9


@pytest.mark.parametrize("condition", simulation.CONDITIONS)
def test_unknown_machines_are_told_right(condition: str) -> None:
    rng = np.random.default_rng(5)
    speeds_hz = np.linspace(16, 58, 12)
    seen = np.concatenate(
        [windows(simulation.vibration(rng, RATE_HZ, 1.1, condition, speed, gravity=9.81)) for speed in speeds_hz]
    )
    assert (answer("vibration", seen).argmax(axis=1) == simulation.CONDITIONS.index(condition)).mean() > 0.9


def test_turning_the_sensor_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    seen = np.concatenate([windows(simulation.vibration(rng, RATE_HZ, 1.0, c, 27.0)) for c in simulation.CONDITIONS])
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turned = seen @ turn + 9.81 * turn[2]
    np.testing.assert_allclose(answer("vibration", turned), answer("vibration", seen), atol=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.1])
def test_standstill_is_no_fault(noise: float) -> None:
    seen = noise * np.random.default_rng(7).standard_normal((8, SIZE, 3)) + (0.0, 0.0, 9.81)
    assert (answer("vibration", seen).argmax(axis=1) == simulation.CONDITIONS.index("healthy")).all()


def test_tiny_is_made_again_byte_for_byte() -> None:
    made = subprocess.run(
        [sys.executable, str(MODELS / "build.py"), "--check", "tiny"], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "the same, byte for byte" in made.stdout


def test_unknown_model_is_refused() -> None:
    made = subprocess.run(
        [sys.executable, str(MODELS / "build.py"), "pump"], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 2
    assert "no such model: pump" in made.stderr
