"""What the live tests share: models built once, and a broker of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import models
from tests.broker import Broker


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: `linear.onnx` (y[2] = x[3] @ W) and others of tests/models.py."""
    folder = tmp_path_factory.mktemp("zoo")
    models.linear(folder / "linear.onnx")
    models.linear(folder / "score.onnx", width=1, out=1)
    models.two_by_two(folder / "two.onnx")
    models.identity(folder / "same.onnx", 1, width=3)
    models.slow(folder / "slow.onnx", width=64, layers=24)
    return folder


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as one:
        yield one
