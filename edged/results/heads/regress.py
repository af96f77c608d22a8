"""regress: numbers that mean something, by name and to scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from edged.notation.words import listed
from edged.records import Carried
from edged.results.entities import Entity, measured
from edged.results.fields import ResultField
from edged.results.heads.head import Asked, Body, OutputPlan, Outputs, row_size, smoothed
from edged.results.heads.rows import Mean, finite_rows, only_finite, rows_of


class ValueField(NamedTuple):
    """One number: value = output x scale + offset."""

    name: str
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None


class RegressPlan(OutputPlan, frozen=True):
    """`fields`: what the numbers are called, where that was configured."""

    type: ClassVar[str] = "regress"
    fields: tuple[ValueField, ...] = ()

    def make_head(self) -> Regress:
        return Regress(self)

    @property
    def values(self) -> tuple[ValueField, ...]:
        """As configured, else named by the labels, else y0, y1, ..."""
        return self.fields or tuple(ValueField(name) for name in self.labels or (f"y{i}" for i in range(self.size)))

    def result_fields(self) -> tuple[ResultField, ...]:
        each = (ResultField(f"values.{f.name}", ("values", f.name), "number", f.unit) for f in self.values)
        return (ResultField("values", ("values",), "object"), *each)

    def entities(self) -> tuple[Entity, ...]:
        _, *values = self.result_fields()
        return tuple(measured(value, value.path[-1] if len(values) > 1 else "") for value in values)

    def default_of(self) -> tuple[str | None, str | None]:
        first = f"values.{self.values[0].name}"
        return first, first

    def summary(self) -> str:
        return f"regress: {listed(f.name for f in self.values)}{smoothed(self)}"

    @property
    def averaged(self) -> int:
        return self.size


def plan_regress(asked: Asked) -> RegressPlan | None:
    tensor = asked.one()
    if tensor is None:
        return None
    named = tuple(ValueField(f.name, f.scale, f.offset, f.unit) for f in asked.settings.fields or ())
    size = row_size(tensor) or len(named) or 1
    if named and len(named) != size:
        asked.wrong("output.fields", f"expected {size} names, found {len(named)}: {tensor.name} is {tensor}")
        return None
    labels = asked.labels if asked.labels and len(asked.labels) == size else None
    return RegressPlan((tensor.name,), size, asked.max_keys, labels, asked.settings.smooth, named)


class Regress:
    """`values`: the numbers of a row by name, scaled."""

    def __init__(self, plan: RegressPlan) -> None:
        fields = plan.values
        self._tensor = plan.tensors[0]
        self._names = [f.name for f in fields]
        self._scale = np.array([f.scale for f in fields])
        self._offset = np.array([f.offset for f in fields])
        self._is_scaled = any(f.scale != 1 or f.offset != 0 for f in fields)
        self._mean = Mean(plan.smooth, plan.max_keys, len(fields))

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        rows = rows_of(outputs[self._tensor])
        finite = finite_rows(rows)
        if finite is not None:
            rows = np.where(finite[:, None], rows, 0)
        if self._is_scaled:
            rows = rows * self._scale + self._offset
        names = self._names
        values = self._mean.of(rows, keys, finite).tolist()
        return only_finite([{"values": dict(zip(names, row, strict=True))} for row in values], finite)

    def reset(self, key: int) -> None:
        self._mean.reset(key)
