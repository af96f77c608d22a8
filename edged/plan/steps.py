"""The configuration's steps before and after the model as the functions that run them. Users' files are loaded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from edged.config.schema import Step
from edged.config.values import Function
from edged.pipeline.preprocess import (
    MakeStep,
    Postprocess,
    Preprocess,
    compose,
    compose_outputs,
    custom,
    detrend,
    normalize,
)


def make_preprocess(steps: Sequence[Step], shape: tuple[int, ...], dtype: DTypeLike, picture: tuple[int, ...] = ()) -> Preprocess:
    """The steps for rows of `shape`. Rows of pictures are seen as `[*picture]`, or `[size, *picture]` of a window; they have been
    resized, which is their first step, and are floats after the next. Raises ValueError, with a text for a person."""
    makers = [_maker(step) for step in steps]
    if picture:
        return compose(makers, (*shape[:-1], *picture), np.float32, first=2)
    return compose(makers, shape, dtype)


def make_postprocess(
    functions: Sequence[Function], outputs: Mapping[str, tuple[tuple[int, ...], DTypeLike]]
) -> Postprocess | None:
    """The functions for outputs of these shapes (without the batch axis); None for none. Raises ValueError."""
    if not functions:
        return None
    folder = functions[0].path.parent
    return compose_outputs([f"{f.path.name if f.path.parent == folder else f.path}:{f.name}" for f in functions], folder, outputs)


def _maker(step: Step) -> MakeStep:
    match step.step:
        case "normalize":
            return normalize(step.mean, step.std, step.min, step.max)
        case "detrend":
            return detrend()
        case Function() as function:
            return custom(f"{function.path.name}:{function.name}", function.path.parent)
    raise ValueError(f"no such step: {step.step}")
