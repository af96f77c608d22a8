from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from edged.model.fit import NO_AXIS, OPEN, Fit, batch_of, fit
from edged.model.manifest import read_manifest
from edged.model.onnx_file import Shape, TensorInfo
from edged.model.records import ModelPlan
from tests.support import models


@pytest.mark.parametrize(
    ("shape", "row", "batch"),
    [
        (("n", 64), (64,), OPEN),
        ((None, 64), (64,), OPEN),
        ((4, 64), (64,), 4),
        ((1, 64), (64,), 1),
        ((64,), (64,), NO_AXIS),
        ((4, 64), (4, 64), NO_AXIS),
        (("t", 6), (128, 6), NO_AXIS),
        (("n", "t", 6), (128, 6), OPEN),
        (("n",), (), OPEN),
        (None, (3,), OPEN),
        (("n", 64), (63,), None),
        (("n", 1, 64), (64,), None),
    ],
)
def test_rows_at_once(shape: Shape | None, row: tuple[int, ...], batch: int | None) -> None:
    assert batch_of(TensorInfo("x", "float32", shape), row) == batch


def test_the_manifest_decides_where_both_fit() -> None:
    info = TensorInfo("x", "float32", ("a", "b"))
    assert batch_of(info, (8,), True) == OPEN
    assert batch_of(info, (8, 8), True) is None
    assert batch_of(info, (8,), False) is None
    assert batch_of(TensorInfo("x", "float32", None), (8,), False) == NO_AXIS


def fitted(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> Fit:
    found, problems = fit(plan(path, rows, **settings))
    assert found is not None, problems
    return found


def plan(path: Path, rows: dict[str, tuple[int, ...]], **settings: Any) -> ModelPlan:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return ModelPlan(manifest, rows, **settings)


def test_batch_sizes(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "m.onnx")
    assert fitted(path, {"x": (3,)}).batch_max == 16
    assert fitted(path, {"x": (3,)}, batch_max=5).batch_max == 5
    path = models.linear(tmp_path / "m.onnx", batch=4)
    assert (fitted(path, {"x": (3,)}).batch_max, fitted(path, {"x": (3,)}).fixed) == (4, 4)
    assert fitted(path, {"x": (3,)}, batch_max=2).batch_max == 2
    found = fitted(path, {"x": (3,)}, batch_max=9)
    assert (found.batch_max, found.reasons) == (4, ("4 rows per run: the file fixes that number",))
    found = fitted(models.no_batch(tmp_path / "m.onnx"), {"x": (5,)}, batch_max=9)
    assert (found.batch_max, found.reasons) == (1, ("one row per run: x has no batch axis",))


def test_a_constant_input(tmp_path: Path) -> None:
    found = fitted(models.scaled(tmp_path / "m.onnx"), {"x": (2,)}, constants={"gain": np.float32(2) * np.ones(())})
    assert found.shapes == {"x": (-1, 2), "gain": ()}
    assert found.batch_max == 16


@pytest.mark.parametrize(
    ("build", "rows", "outputs", "text"),
    [
        (models.linear, {"z": (3,)}, None, "it has no input 'z'; it has x: float32[n,3]"),
        (models.linear, {}, None, "its input x: float32[n,3] gets nothing"),
        (models.linear, {"x": (4,)}, None, "x: float32[n,3] does not take rows of [4]"),
        (
            lambda p: models.linear(p, batch=0),
            {"x": (3,)},
            None,
            "its input x: float32[0,3] has an axis of size 0, so no sample fits into it; export it again with that axis open",
        ),
        (models.linear, {"x": (3,)}, ("z",), "it has no output 'z'; it has y"),
        (
            models.zip_map,
            {"x": (3,)},
            ("output_probability",),
            "output output_probability is a sequence of maps, which cannot be bound; export with",
        ),
        (lambda p: models.identity(p, T.STRING), {"x": (2,)}, None, "its input x: string[n,2] cannot be filled"),
        (lambda p: models.identity(p, T.BFLOAT16), {"x": (2,)}, None, "its input x: bfloat16[n,2] cannot be filled"),
        (lambda p: models.identity(p, T.COMPLEX64), {"x": (2,)}, None, "output y: complex64[n,2] cannot be read"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, build: Any, rows: Any, outputs: Any, text: str) -> None:
    found, problems = fit(plan(build(tmp_path / "m.onnx"), rows, outputs=outputs))
    assert found is None
    assert all(p.path == "model.m.path" for p in problems)
    assert any(text in p.text for p in problems), problems


def test_what_is_not_wanted_need_not_fit(tmp_path: Path) -> None:
    assert fitted(models.zip_map(tmp_path / "m.onnx"), {"x": (3,)}, outputs=("y",)).outputs == ("y",)
    assert fitted(models.zip_map(tmp_path / "m.onnx"), {"x": (3,)}).outputs == ("y",)
