"""Results that say who answered: of a pipeline whose model runs elsewhere, the remote model or the one that answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edged.records import Carried
from edged.results.entities import Entity
from edged.results.fields import ResultField
from edged.results.heads.head import Body, Head, OutputPlan, Outputs

BY = "by"
"""Among the outputs: who answered each row."""
BODIES = " bodies"
"""Among the outputs: bodies that are whole already, as texts are."""


NOTHING = OutputPlan(())


class ByPlan(OutputPlan, frozen=True):
    """`of` with `by`; `has_answer`: also an object, by a schema."""

    of: OutputPlan = NOTHING
    has_answer: bool = False

    @property
    def type(self) -> str:  # type: ignore[override]
        return self.of.type

    def make_head(self) -> Head:
        return By(self.of.make_head())

    def result_fields(self) -> tuple[ResultField, ...]:
        return (*self.of.result_fields(), *self._more())

    def lasting_fields(self) -> tuple[ResultField, ...]:
        return (*self.of.lasting_fields(), ResultField(BY, (BY,), "text"))

    def _more(self) -> tuple[ResultField, ...]:
        by = ResultField(BY, (BY,), "text")
        return (ResultField("answer", ("answer",), "object"), by) if self.has_answer else (by,)

    def entities(self) -> tuple[Entity, ...]:
        return self.of.entities()

    def default_of(self) -> tuple[str | None, str | None]:
        return self.of.default_of()

    def summary(self) -> str:
        return self.of.summary()

    @property
    def wanted(self) -> tuple[str, ...]:
        return self.of.wanted

    @property
    def judged_labels(self) -> tuple[str, ...] | None:
        return self.of.judged_labels

    @property
    def averaged(self) -> int:
        return self.of.averaged

    @property
    def text_bytes(self) -> int:
        return self.of.text_bytes * (2 if self.has_answer else 1) + 64

    @property
    def keeps_arrays(self) -> bool:
        return self.of.keeps_arrays


def with_by(plan: OutputPlan, has_answer: bool) -> ByPlan:
    return ByPlan(plan.tensors, plan.size, plan.max_keys, plan.labels, plan.smooth, plan, has_answer)


class By:
    def __init__(self, head: Head) -> None:
        self._head = head

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        if BODIES in outputs:
            bodies: list[Body | None] = outputs[BODIES].tolist()
        else:
            bodies = self._head.results(outputs, inputs, keys, carried)
        who: list[Any] = outputs[BY].tolist()
        return [body if body is None else {**body, BY: by} for body, by in zip(bodies, who, strict=True)]

    def reset(self, key: int) -> None:
        self._head.reset(key)
