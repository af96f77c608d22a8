from __future__ import annotations

import math

from edged.results.heads.regress import RegressPlan, ValueField
from tests.support.heads import results


class TestRegress:
    def test_scaled_and_named(self) -> None:
        plan = RegressPlan(("y",), 2, fields=(ValueField("hours", 10, 5, "h"), ValueField("wear")))
        assert results(plan, [[1, 2], [0.5, math.nan]]) == [{"values": {"hours": 15.0, "wear": 2.0}}, None]

    def test_names_by_labels_or_by_number(self) -> None:
        assert results(RegressPlan(("y",), 2), [[1, 2]]) == [{"values": {"y0": 1.0, "y1": 2.0}}]
        assert results(RegressPlan(("y",), 2, labels=("a", "b")), [[1, 2]]) == [{"values": {"a": 1.0, "b": 2.0}}]

    def test_one_number_a_row_without_an_axis_of_its_own(self) -> None:
        assert results(RegressPlan(("y",)), [1, 2]) == [{"values": {"y0": 1.0}}, {"values": {"y0": 2.0}}]

    def test_smoothed(self) -> None:
        plan = RegressPlan(("y",), smooth=2)
        assert [b["values"]["y0"] for b in results(plan, [[1], [3], [8]])] == [1, 2, 5.5]
