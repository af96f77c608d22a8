from __future__ import annotations

from typing import Any

import numpy as np

from edged.results.heads.by import BODIES, BY, with_by
from edged.results.heads.raw import RawPlan
from edged.results.heads.text import TextPlan


def column(*values: Any) -> np.ndarray[Any, Any]:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def test_a_result_says_who_answered() -> None:
    plan = with_by(RawPlan(("y",)), has_answer=False)
    head = plan.make_head()
    outputs = {"y": np.array([[1.0], [2.0]]), BY: column("far", "near")}
    assert head.results(outputs, {}, [0, 0]) == [{"outputs": {"y": [1.0]}, "by": "far"}, {"outputs": {"y": [2.0]}, "by": "near"}]
    assert [f.name for f in plan.result_fields()] == ["outputs", "outputs.y", "by"]
    assert plan.type == "raw"


def test_bodies_that_are_whole_stay_as_they_are() -> None:
    plan = with_by(TextPlan(("text",)), has_answer=True)
    outputs = {BODIES: column({"text": "three", "answer": {"n": 3}}), BY: column("large")}
    assert plan.make_head().results(outputs, {}, [0]) == [{"text": "three", "answer": {"n": 3}, "by": "large"}]
    assert [f.name for f in plan.result_fields()] == ["text", "answer", "by"]
