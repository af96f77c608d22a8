"""How a number lies on the wire where numpy has no type for it: 24 bits, swapped words, some bits of a number, numbers of
any width side by side.

Knows nothing of fields or frames: a column of raw bytes becomes a column of numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.notation.widths import width_of

ODD = {"int24": ("i4", 3), "uint24": ("u4", 3)}
"""Types that numpy does not have: what holds them, and their bytes."""
SWAPPED = ("cdab", "badc")
"""Orders of bytes as meters name them, where big is abcd and little dcba: words swapped, and bytes swapped within words."""


class Wire(NamedTuple):
    """A number of `size` bytes, read as `holder` (numpy's name without order). `bits` are (lowest, how many) of it."""

    holder: str
    size: int
    order: str
    bits: tuple[int, int] | None

    def numbers(self, column: NDArray[Any]) -> NDArray[Any]:
        """The numbers of a column of raw bytes, in its shape."""
        raw = np.ascontiguousarray(column).view(np.uint8).reshape(*column.shape, self.size)
        if self.order in SWAPPED and self.size > 1:
            words = raw.reshape(*column.shape, self.size // 2, 2)
            words = words[..., ::-1, :] if self.order == "cdab" else words[..., ::-1]
            raw = np.ascontiguousarray(words).reshape(*column.shape, self.size)
        is_little = self.order == "little"
        held = np.dtype(self.holder).newbyteorder("<" if is_little else ">")
        spare = held.itemsize - self.size
        if spare:  # into the high bytes, so that the sign comes along when it is shifted down
            wider = np.zeros((*column.shape, held.itemsize), np.uint8)
            wider[..., spare if is_little else 0 : held.itemsize if is_little else self.size] = raw
            raw = wider
        found = np.ascontiguousarray(raw).view(held)[..., 0]
        if spare:
            found = found >> 8 * spare
        if self.bits is not None:
            low, count = self.bits
            found = (found.astype(np.uint64) >> np.uint64(low)) & np.uint64((1 << count) - 1)
        return np.asarray(found)


class Packed(NamedTuple):
    """`many` numbers of `bits` bits each, side by side in `size` bytes: the lowest bit first, or if `is_big` the highest."""

    many: int
    bits: int
    size: int
    is_big: bool
    is_signed: bool

    def numbers(self, column: NDArray[Any]) -> NDArray[Any]:
        """The numbers of a column of raw bytes: `[rows, many]`."""
        raw = np.ascontiguousarray(column).view(np.uint8).reshape(-1, self.size)
        bits = np.unpackbits(raw, axis=1, bitorder="big" if self.is_big else "little").reshape(-1, self.many, self.bits)
        places = np.arange(self.bits)
        weights = 2.0 ** (places[::-1] if self.is_big else places)
        if self.is_signed:
            weights[0 if self.is_big else -1] *= -1
        return np.asarray(bits @ weights)


def packed(dtype: str, order: str, count: int) -> Packed:
    bits = width_of(dtype)
    return Packed(count, bits, bits * count // 8, order == "big", dtype.startswith("int"))


def size_of(dtype: str) -> int:
    """Bytes of an element."""
    return ODD[dtype][1] if dtype in ODD else np.dtype(dtype).itemsize


def wire_of(dtype: str, order: str, bits: tuple[int, int] | None) -> Wire | None:
    """None where numpy reads it by itself."""
    if dtype not in ODD and order not in SWAPPED and bits is None:
        return None
    holder = ODD[dtype][0] if dtype in ODD else np.dtype(dtype).str[1:]
    return Wire(holder, size_of(dtype), order, bits)
