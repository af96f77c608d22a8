"""Texts as numbers, and back: the code point of each character, 0 behind the last.

A field of texts is a tensor of so many numbers. So it lies in a row like any other, and goes with it through windows, joins and
slots: there is no second way. float32 holds every code point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.decode.paths import ABSENT, kind_of
from edged.decode.plan import FieldPlan
from edged.decode.values import BadPayload

CHARACTERS = 64
"""Of a field of texts that does not say how many."""


def letters(field: FieldPlan, leaf: Any) -> Any:
    """What stands in a message for a field of texts, as numbers; arrays of texts are samples.

    Raises:
        BadPayload: of what is no text, or too long.
    """
    if leaf is ABSENT or leaf is None:
        return leaf
    if isinstance(leaf, list):
        return [letters(field, one) for one in leaf]
    if isinstance(leaf, bool):
        leaf = "true" if leaf else "false"
    elif isinstance(leaf, int | float):
        leaf = str(leaf)
    if not isinstance(leaf, str):
        raise BadPayload("malformed", f"{field.name}: expected a string, found {kind_of(leaf)}")
    if len(leaf) > field.count:
        raise BadPayload("long", f"{field.name}: a text of {len(leaf)} characters, at most {field.count} are taken (size)")
    return [*map(float, map(ord, leaf)), *[0.0] * (field.count - len(leaf))]


def texts(numbers: NDArray[Any]) -> NDArray[np.str_]:
    """The texts of `[..., characters]`."""
    codes = np.ascontiguousarray(numbers, np.uint32)
    found: NDArray[np.str_] = codes.view(f"<U{codes.shape[-1]}")[..., 0]
    return found
