"""What the live tests share: models built once, and a broker of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support import models
from tests.support.broker import Broker
from tests.support.fleet import server as server
from tests.support.fleet import signer as signer


def burner(path: Path, products: int = 20) -> None:
    """y = x, after tens of milliseconds of work: one row a run."""
    width = 256
    w = np.full((width, width), 1 / width, np.float32)
    nodes = [h.make_node("Mul", ["x", "nought"], ["x0"]), h.make_node("Add", ["w", "x0"], ["h0"])]
    nodes += [h.make_node("MatMul", [f"h{i}", "w"], [f"h{i + 1}"]) for i in range(products)]
    nodes += [h.make_node("ReduceMean", [f"h{products}"], ["m"]), h.make_node("Mul", ["m", "nought"], ["m0"])]
    nodes += [h.make_node("Add", ["x", "m0"], ["y"])]
    models.save(
        path,
        nodes,
        [models.value("x", T.FLOAT, [1, 1])],
        [models.value("y", T.FLOAT, [1, 1])],
        [nh.from_array(w, "w"), nh.from_array(np.float32(0), "nought")],
    )


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: `linear.onnx` (y[2] = x[3] @ W) and others of tests/support/models.py."""
    folder = tmp_path_factory.mktemp("zoo")
    models.linear(folder / "linear.onnx")
    models.cells(folder / "cells.onnx")
    models.linear(folder / "score.onnx", width=1, out=1)
    models.two_by_two(folder / "two.onnx")
    models.identity(folder / "same.onnx", 1, width=3)
    models.total(folder / "total.onnx")
    burner(folder / "slow.onnx")
    return folder


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as one:
        yield one
