"""These tests need an accelerator: `make test` runs them where there is one, and says what they need where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.model.gpu.ladder import found_here
from edged.model.onnx import available

HERE = Path(__file__).parent
NEEDS = {
    "cuda": "an NVIDIA GPU with its driver, and an onnxruntime with CUDA whose libraries load (onnxruntime-gpu[cuda,cudnn])",
    "tensorrt": "the same, an onnxruntime with TensorRT, and TensorRT 10 (package tensorrt of JetPack or of NVIDIA)",
}
LEFT_OUT: dict[str, int] = {}


def has(rung: str) -> bool:
    found = found_here(Path("/nowhere/edged"))
    return rung in available() and rung not in found.errors and found.gpu is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    lacking = {rung for rung in NEEDS if mine and not has(rung)}
    gone = []
    for item in mine:
        rung = next(rung for rung in NEEDS if item.get_closest_marker(rung) is not None)
        if rung in lacking:
            gone.append(item)
            LEFT_OUT[rung] = LEFT_OUT.get(rung, 0) + 1
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for rung, count in LEFT_OUT.items():
        terminalreporter.write_line(f"{count} tests of tests/gpu were left out: they need {NEEDS[rung]}")
