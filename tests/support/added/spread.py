"""An output type that edged does not have: how far apart the numbers of a row are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edged.late import Late
from edged.records import Carried
from edged.results.fields import ResultField
from edged.results.heads.head import Asked, Body, Kind, OutputPlan, Outputs, row_size
from edged.results.heads.rows import rows_of


class SpreadPlan(OutputPlan, frozen=True):
    type: ClassVar[str] = "spread"
    above: float = 0.0

    def make_head(self) -> Spread:
        return Spread(self)

    def result_fields(self) -> tuple[ResultField, ...]:
        return (ResultField("spread", ("spread",), "number"), ResultField("wide", ("wide",), "bool"))

    def default_of(self) -> tuple[str | None, str | None]:
        return "wide", "spread"

    def summary(self) -> str:
        return f"spread of {self.size} numbers, wide above {self.above:g}"


class Spread:
    def __init__(self, plan: SpreadPlan) -> None:
        self._plan = plan

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        rows = rows_of(outputs[self._plan.tensors[0]])
        spreads = (rows.max(axis=1) - rows.min(axis=1)).tolist()
        return [{"spread": spread, "wide": spread > self._plan.above} for spread in spreads]

    def reset(self, key: int) -> None:
        pass


def plan_spread(asked: Asked) -> SpreadPlan | None:
    tensor = asked.one()
    if tensor is None:
        return None
    return SpreadPlan((tensor.name,), row_size(tensor) or 1, asked.max_keys, above=asked.settings.above or 0.0)


KIND = Kind("`spread`, `wide`", Late("tests.support.added.spread:plan_spread"), keys=("above",))
