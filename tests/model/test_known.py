from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto as T

from edged.model.known import lacks_context
from edged.model.manifest import read_manifest
from tests.support.deployments import net
from tests.support.models import Axes, linear


def test_silero_gets_its_context(tmp_path: Path) -> None:
    inputs: dict[str, tuple[int, Axes]] = {
        "input": (T.FLOAT, [None, None]),
        "state": (T.FLOAT, [2, None, 128]),
        "sr": (T.INT64, [1]),
    }
    net(tmp_path / "vad.onnx", inputs, {"output": [None, 1], "stateN": [None, None, None]})
    manifest, _ = read_manifest("vad", tmp_path / "vad.onnx")
    assert manifest is not None
    assert lacks_context(manifest, 512).endswith("window = { size = 576, hop = 512 }")
    assert lacks_context(manifest, 256).endswith("window = { size = 288, hop = 256 }")
    assert lacks_context(manifest, 576) == ""


@pytest.mark.parametrize("size", [256, 512])
def test_others_do_not(tmp_path: Path, size: int) -> None:
    manifest, _ = read_manifest("m", linear(tmp_path / "m.onnx"))
    assert manifest is not None
    assert lacks_context(manifest, size) == ""
