"""raw: the outputs as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edged.decode.letters import texts
from edged.notation.words import listed
from edged.records import Carried, Result
from edged.results.entities import Entity, measured
from edged.results.fields import ResultField
from edged.results.heads.head import Asked, Body, OutputPlan, Outputs
from edged.results.heads.rows import all_finite


class RawPlan(OutputPlan, frozen=True):
    """`dtypes`: the element type of each of `tensors`, where it is known. `keeps_arrays`: values stay arrays. `readings`: where
    nothing but samples is sent, the tensors that are one number, each with its unit."""

    type: ClassVar[str] = "raw"
    dtypes: tuple[str, ...] = ()
    keeps_arrays: bool = False
    readings: tuple[tuple[str, str | None], ...] = ()
    texts: frozenset[str] = frozenset()
    """Those of `tensors` whose numbers are characters."""

    def make_head(self) -> Raw:
        return Raw(self)

    def result_fields(self) -> tuple[ResultField, ...]:
        whole = ResultField("outputs", ("outputs",), "object")
        each = zip(self.tensors, self.dtypes or (None,) * len(self.tensors), strict=True)
        return (whole, *(self._field(name, dtype) for name, dtype in each))

    def _field(self, name: str, dtype: str | None) -> ResultField:
        is_text = name in self.texts
        return ResultField(
            f"outputs.{name}", ("outputs", name), "text" if is_text else "tensor", None, None if is_text else dtype
        )

    def entities(self) -> tuple[Entity, ...]:
        numbers = [ResultField(f"outputs.{name}", ("outputs", name), "number", unit) for name, unit in self.readings]
        return tuple(measured(number, number.path[-1] if len(numbers) > 1 else "") for number in numbers)

    def summary(self) -> str:
        return f"raw: {listed(self.tensors)}"


def plan_raw(asked: Asked) -> RawPlan:
    names, dtypes = tuple(t.name for t in asked.tensors), tuple(t.dtype or "object" for t in asked.tensors)
    return RawPlan(names, max_keys=asked.max_keys, dtypes=dtypes, keeps_arrays=asked.is_sent_raw)


FEW = 256
"""Numbers that are sooner looked at one by one than by numpy."""


class Raw:
    """`outputs`: every tensor as nested lists, what is not finite as null."""

    def __init__(self, plan: RawPlan) -> None:
        self._names = plan.tensors
        self._keeps_arrays = plan.keeps_arrays
        self._texts = plan.texts

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        if len(self._names) == 1:
            [name] = self._names
            rows = self._column(name, outputs)
            return [{"outputs": {name: row}} for row in rows]
        return self._of_several(outputs)

    def reset(self, key: int) -> None:
        pass

    def _of_several(self, outputs: Outputs) -> list[Body | None]:
        columns = [self._column(name, outputs) for name in self._names]
        return [{"outputs": dict(zip(self._names, row, strict=True))} for row in zip(*columns, strict=True)]

    def _column(self, name: str, outputs: Outputs) -> Sequence[Any]:
        return texts(outputs[name]).tolist() if name in self._texts else self._rows(outputs[name])

    def _rows(self, tensor: NDArray[Any]) -> Sequence[Any]:
        if self._keeps_arrays:
            return list(tensor.copy())  # the model's own array is written again by the next run
        if tensor.ndim == 2 and 0 < tensor.size <= FEW:
            rows: list[Any] = tensor.tolist()
            if type(rows[0][0]) is not float:
                return rows
            if math.isfinite(sum(rows[0]) if len(rows) == 1 else sum(map(sum, rows))):  # only if every number is finite
                return rows
        if tensor.dtype.kind == "f" and not all_finite(tensor):
            bad = ~np.isfinite(tensor)
            tensor = tensor.astype(object)
            tensor[bad] = None
        rows = tensor.tolist()
        return rows


def count_hollow(results: Sequence[Result]) -> int:
    """How many raw results hold values, and no number among them that is finite. What is degraded says so itself."""
    hollow = 0
    for result in results:  # of every pipeline, so without a generator; of a list of numbers mostly without a call
        if (outputs := result.body.get("outputs")) and not result.degraded:
            for value in outputs.values():
                if (type(value) is list and value and type(value[0]) is float) or _says_something(value):
                    break
            else:
                hollow += 1
    return hollow


def _says_something(value: Any) -> bool:
    if isinstance(value, list):
        return not value or isinstance(value[0], float) or any(map(_says_something, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or not value.size or all_finite(value) or bool(np.isfinite(value).any())
    return value is not None
