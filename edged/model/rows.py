"""Rows to try a model on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edged.model.fit import Fit
from edged.model.onnx import Arrays
from edged.model.records import ModelPlan
from edged.model.recurrent import as_tensor
from edged.model.trial.arithmetic import probe_rows


def rows_to_try(plan: ModelPlan, fitted: Fit, golden: Arrays, count: int) -> list[Arrays]:
    """Rows to try the model on, the likeliest to run first: its golden samples, random numbers, zeros."""
    types = {i.name: str(i.dtype) for i in plan.inputs}
    shapes = {n: s for n, s in fitted.shapes.items() if n not in plan.constants}
    tries = [probe_rows(shapes, types, count, scale, plan.manifest.onnx.sketch.vocabularies) for scale in (1, 0)]
    known = golden_rows(plan, golden, shapes)
    if known is not None:
        tiled = {n: np.resize(x, (count, *x.shape[1:])) if shapes[n][:1] == (-1,) else x[:1] for n, x in known.items()}
        tries.insert(0, tiled)
    return tries


def golden_rows(plan: ModelPlan, golden: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> Arrays | None:
    """The golden samples' inputs in the model's types, or None when there are none of these shapes."""
    types = {i.name: i.dtype for i in plan.inputs}
    rows = {n: golden[n].astype(types[n]) for n in shapes if n in golden}
    if rows.keys() != shapes.keys() or not rows:
        return None
    expected = {n: s[1:] if s[:1] == (-1,) else s for n, s in shapes.items()}
    return rows if all(x.shape[1:] == expected[n] for n, x in rows.items()) else None


def cut(samples: Arrays, fitted: Fit, count: int) -> Arrays:
    axes = {n: 0 if s[:1] == (-1,) else None for n, s in fitted.shapes.items()} | fitted.axes
    return {n: as_tensor(x[:count], axes[n]) for n, x in samples.items()}


def constants(plan: ModelPlan) -> Arrays:
    types = {i.name: i.dtype for i in plan.inputs}
    return {n: np.ascontiguousarray(v, types[n]).reshape(v.shape) for n, v in plan.constants.items()}
