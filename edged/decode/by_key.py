"""Scale, offset and range of each row by its key, for sources whose sensors differ (`keys`).

The rows of a block are corrected together: a row of a table for each key, and one last row for all keys that it does not name.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.plan import Corrections
from edged.records import Flags

Row = NDArray[np.float64]


class Corrected(NamedTuple):
    """Values, which of them are in range, and that range."""

    values: NDArray[np.float64]
    is_good: Flags
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class ByKey:
    """`usual` has scale, offset, low and high of each column, as the fields say."""

    def __init__(self, plan: Corrections, usual: tuple[Row, Row, Row, Row], largest: float) -> None:
        self._newest: Corrected | None = None
        self._largest = largest
        self._parts = plan.parts
        self._is_of_topic = all(kind == "capture" for kind, _ in plan.parts)
        self._rows = {key: row for row, key in enumerate(plan.keys)}
        self._others = len(plan.keys)
        tables = [np.tile(row, (len(plan.keys) + 1, 1)) for row in usual]
        by_name = dict(zip(("scale", "offset", "valid.low", "valid.high"), tables, strict=True))
        for one in plan.cells:
            by_name[one.what][one.key, one.start : one.stop] = np.clip(one.number, -largest, largest)
        self._scale, self._offset, self._low, self._high = tables
        most = np.finfo(np.float32).max
        narrow = [np.clip(table, -most, most).astype(np.float32) for table in (self._low, self._high)]
        self._judged_by: dict[int, Sequence[NDArray[Any]]] = {4: narrow, 8: (self._low, self._high)}

    def apply(
        self,
        raw: NDArray[np.float32] | NDArray[np.float64],
        keys: Sequence[tuple[str, ...]] | None,
        origin: NDArray[np.int32] | None,
        sensors: Sequence[Hashable] | None,
    ) -> Corrected:
        """`keys` are the key fields of each row, `sensors` what topics say of each payload."""
        at = self._of_rows(len(raw), keys, origin, sensors)
        low, high = self._judged_by[raw.dtype.itemsize]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and bad
            values = raw * self._scale[at] + self._offset[at]
            judged = values.astype(raw.dtype)  # 0.1 on the wire as float32 is within a range that ends at 0.1
        is_good = (judged >= low[at]) & (judged <= high[at])
        self._newest = Corrected(values, is_good, self._low[at], self._high[at])
        return self._newest

    def one(
        self, raw: NDArray[np.float32] | NDArray[np.float64], sensors: Sequence[Hashable] | None
    ) -> NDArray[np.float64] | None:
        """The values of one row that has its key from its topic; None where one is out of range, or the key is not all there."""
        if not self._is_of_topic:
            return None
        at = self._rows.get(self._name(0, None, sensors), self._others)
        low, high = self._judged_by[raw.dtype.itemsize]
        with np.errstate(over="ignore", invalid="ignore"):
            values = raw * self._scale[at] + self._offset[at]
            judged = values.astype(raw.dtype, copy=False)
        return values if ((judged >= low[at]) & (judged <= high[at])).all() else None

    def range_of(self, row: int, column: int) -> tuple[float, float]:
        """That of a number of the rows that were corrected last."""
        assert self._newest is not None
        low, high = self._newest.low.item(row, column), self._newest.high.item(row, column)
        return -math.inf if low <= -self._largest else low, math.inf if high >= self._largest else high

    def _of_rows(
        self,
        count: int,
        keys: Sequence[tuple[str, ...]] | None,
        origin: NDArray[np.int32] | None,
        sensors: Sequence[Hashable] | None,
    ) -> NDArray[np.intp]:
        found = np.empty(count, np.intp)
        for row in range(count):
            name = self._name(row if origin is None else int(origin[row]), None if keys is None else keys[row], sensors)
            found[row] = self._rows.get(name, self._others)
        return found

    def _name(self, payload: int, carried: tuple[str, ...] | None, sensors: Sequence[Hashable] | None) -> str:
        caught = () if sensors is None else sensors[payload]
        assert isinstance(caught, tuple)
        return "/".join([caught[i] if kind == "capture" else (carried or ())[i] for kind, i in self._parts])
