"""What is joined, and how: the settings of an Aligner. `FAR` and the types are what its parts share."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

Keys = NDArray[Any]  # of numpy's index type

FAR = 2**62
"""As a time: longer ago than anything. As a distance: out of reach."""


class AlignSource(msgspec.Struct, frozen=True):
    """One stream of the join. `on_bad` is "drop", "hold" or "pass", for a value older than `tolerance_ns`.

    `tolerance_ns` is None for the pace stream only. `history` samples of each key are kept at least: as many as come
    while a row of the pace stream is on its way.
    """

    name: str
    width: int
    tolerance_ns: int | None
    on_bad: str = "drop"
    is_keyed: bool = False
    history: int = 64


class AlignPlan(msgspec.Struct, frozen=True):
    """What is joined and how. `to` is the index of the pace stream, or None with `period_ns` for a grid.

    `method` is "previous", "nearest" or "linear". Key ids mean the same key in every keyed stream. Columns of a
    joined row are the streams' in their order. `max_waiting` rows wait for the others' next samples at most.
    """

    sources: tuple[AlignSource, ...]
    to: int | None = 0
    period_ns: int | None = None
    method: str = "previous"
    max_keys: int = 1
    max_waiting: int = 1024
    dtype: DTypeLike = np.float32

    @property
    def width(self) -> int:
        return sum(source.width for source in self.sources)

    @property
    def is_keyed(self) -> bool:
        return any(source.is_keyed for source in self.sources)
