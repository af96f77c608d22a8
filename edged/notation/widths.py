"""Whole numbers of any width, as their element types are written."""

from __future__ import annotations

import re

PACKED_TYPE = r"(?:int[2-9]|uint[1-9]|u?int1[0-9]|u?int2[0-9]|u?int3[01])"
"""Whole numbers of any width. Those of no whole bytes lie side by side."""


def width_of(dtype: str) -> int:
    """Bits of a whole number."""
    return int(dtype.lstrip("uint"))


def is_packed(dtype: str) -> bool:
    """Whether numbers of this type lie side by side without regard to bytes."""
    return re.fullmatch(PACKED_TYPE, dtype) is not None and width_of(dtype) % 8 != 0
