from __future__ import annotations

import json

import pytest

from edged.results.fields import value_at
from edged.results.heads.anomaly import AnomalyPlan
from edged.results.heads.classify import ClassifyPlan
from edged.results.heads.head import OutputPlan
from edged.results.heads.raw import RawPlan
from edged.results.heads.regress import RegressPlan, ValueField
from tests.support.heads import results

LABELS = ("healthy", "imbalance", "bearing")


@pytest.mark.parametrize(
    "plan",
    [
        ClassifyPlan(("y",), 3, labels=LABELS),
        RegressPlan(("y",), 3, fields=tuple(ValueField(n, unit="h") for n in "abc")),
        AnomalyPlan(("y",), above=1),
        RawPlan(("y",)),
    ],
    ids=lambda plan: plan.type,
)
def test_every_field_it_promises_is_there(plan: OutputPlan) -> None:
    [body] = results(plan, [[3.0, 1.0, 2.0][: max(plan.size, 1)]])
    kinds = {"number": float, "text": str, "bool": bool, "tensor": list, "object": dict}
    fields = plan.result_fields()
    assert all(type(value_at(body, f.path)) is kinds[f.kind] for f in fields)
    assert {f.path[0] for f in fields} == set(body)
    assert {d for d in plan.default_of() if d} <= {f.name for f in fields}
    assert json.loads(json.dumps(body)) == body
