"""Scale, offset and range of each row by its key, for sources whose sensors differ (`keys`).

The rows of a block are corrected together: a row of a table for each key, and one last row for all keys that it does not name.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

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
        self._parts = plan.parts
        self._rows = {key: row for row, key in enumerate(plan.keys)}
        self._others = len(plan.keys)
        tables = [np.tile(row, (len(plan.keys) + 1, 1)) for row in usual]
        by_name = dict(zip(("scale", "offset", "valid.low", "valid.high"), tables, strict=True))
        for one in plan.cells:
            by_name[one.what][one.key, one.start : one.stop] = np.clip(one.number, -largest, largest)
        self._scale, self._offset, self._low, self._high = tables

    def apply(
        self,
        raw: NDArray[np.float32] | NDArray[np.float64],
        keys: Sequence[tuple[str, ...]] | None,
        origin: NDArray[np.int32] | None,
        sensors: Sequence[Hashable] | None,
    ) -> Corrected:
        """`keys` are the key fields of each row, `sensors` what topics say of each payload."""
        at = self._of_rows(len(raw), keys, origin, sensors)
        low, high = self._low[at], self._high[at]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and bad
            values = raw * self._scale[at] + self._offset[at]
            judged = values.astype(raw.dtype)  # 0.1 on the wire as float32 is within a range that ends at 0.1
            is_good = (judged >= low.astype(raw.dtype)) & (judged <= high.astype(raw.dtype))
        self._newest = Corrected(values, is_good, low, high)
        return self._newest

    def range_of(self, row: int, column: int) -> tuple[float, float]:
        """That of a number of the rows that were corrected last."""
        assert self._newest is not None
        return self._newest.low.item(row, column), self._newest.high.item(row, column)

    def _of_rows(
        self,
        count: int,
        keys: Sequence[tuple[str, ...]] | None,
        origin: NDArray[np.int32] | None,
        sensors: Sequence[Hashable] | None,
    ) -> NDArray[np.intp]:
        found = np.empty(count, np.intp)
        for row in range(count):
            caught = () if sensors is None else sensors[row if origin is None else int(origin[row])]
            assert isinstance(caught, tuple)
            carried = () if keys is None else keys[row]
            names = [caught[i] if kind == "capture" else carried[i] for kind, i in self._parts]
            found[row] = self._rows.get("/".join(names), self._others)
        return found
