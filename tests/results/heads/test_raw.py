from __future__ import annotations

import math
from typing import Any

import numpy as np

from edged.records import Result
from edged.results.heads.raw import RawPlan, count_hollow
from tests.support.heads import results


class TestRaw:
    def test_nested_lists_by_name(self) -> None:
        plan = RawPlan(("y", "n"))
        outputs = {"y": np.arange(4, dtype=np.float32).reshape(2, 2, 1), "n": np.array([3, 4]), "unused": np.zeros(2)}
        bodies = plan.make_head().results(outputs, {}, [0, 0])
        assert bodies == [{"outputs": {"y": [[0.0], [1.0]], "n": 3}}, {"outputs": {"y": [[2.0], [3.0]], "n": 4}}]

    def test_what_is_not_finite_is_null(self) -> None:
        bodies = results(RawPlan(("y",)), [[1, math.nan], [math.inf, 2]])
        assert bodies == [{"outputs": {"y": [1.0, None]}}, {"outputs": {"y": [None, 2.0]}}]

    def test_texts(self) -> None:
        assert results(RawPlan(("y",)), [["a", "b"]], dtype=object) == [{"outputs": {"y": ["a", "b"]}}]

    def test_arrays_are_kept_as_copies(self) -> None:
        array = np.ones((2, 2), np.float32)
        bodies = RawPlan(("y",), keeps_arrays=True).make_head().results({"y": array}, {}, [0, 0])
        array[:] = 0
        assert bodies[1] is not None
        assert bodies[1]["outputs"]["y"].tolist() == [1, 1]


def test_a_raw_result_is_hollow_if_no_number_in_it_is_finite() -> None:
    none: Any = {"outputs": {"a": [[None, None]], "b": np.array([np.nan, np.inf])}}

    def is_hollow(body: dict[str, Any], *, degraded: bool = False) -> bool:
        return count_hollow([Result(body, 0, 1, 0, 0, degraded)]) == 1

    assert is_hollow(none)
    assert not is_hollow(none, degraded=True)
    some: list[Any] = [[[None, 1.0]], 0.0, [], [[], []], ["text"], np.zeros((0, 4)), np.array([np.nan, 1]), np.array([7])]
    for value in some:
        assert not is_hollow({"outputs": {**none["outputs"], "c": value}}), value
    assert not is_hollow({"outputs": {}})
    assert not is_hollow({"score": 1.0})
