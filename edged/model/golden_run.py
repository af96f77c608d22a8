"""The golden samples of a model: each is run alone, and must come out within its tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.errors import Problem
from edged.model.onnx import Arrays, BoundSession
from edged.model.records import ModelPlan, ModelRefused
from edged.model.rows import golden_rows
from edged.model.trial.arithmetic import agree


def read_golden(plan: ModelPlan, most: int | None) -> Arrays:
    """Raises `ModelRefused`."""
    golden = plan.manifest.golden
    if golden is None:
        return {}
    try:
        return golden.read(most)
    except (OSError, ValueError) as e:
        text = f"golden samples in {golden.path.name}: {getattr(e, 'strerror', None) or e}"
        raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)]) from None


def check_golden(bound: BoundSession, plan: ModelPlan, found: Arrays) -> tuple[str, ...]:
    """Runs each golden sample alone; raises `ModelRefused` if an answer is further off than its tolerance."""
    golden = plan.manifest.golden
    if golden is None:
        return ()
    rows = golden_rows(plan, found, {n: (-1, *x.shape[1:]) for n, x in bound.inputs.items()})
    checked = [n for n in bound.names if n in found]
    is_same = all(np.array_equal(v, w) for n, v in bound.constants.items() for w in found[n])
    if rows is None or not checked or not is_same:
        return (f"golden samples were not run: {golden.path.name} has other shapes, outputs or constants than this pipeline",)
    for i in range(min(len(x) for x in rows.values())):
        for name, x in bound.inputs.items():
            x[0] = rows[name][i]
        answer = bound.run(1)
        for name in checked:
            if _has_nan(answer[name][0]):
                text = f"golden sample {i} of {golden.path.name}: {name} is not a number: {_short(answer[name][0])}"
                raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)])
            if not agree(answer[name][0], found[name][i], golden.rtol, golden.atol):
                is_value, is_wanted = _short(answer[name][0]), _short(found[name][i])
                text = f"golden sample {i} of {golden.path.name}: {name} is {is_value}, expected {is_wanted}"
                raise ModelRefused([Problem(f"model.{plan.manifest.name}.path", text)])
    return ()


def _has_nan(value: NDArray[Any]) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).any())


def _short(value: NDArray[Any]) -> str:
    return np.array2string(np.asarray(value).ravel()[:6], precision=4, separator=", ")
