from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.results.heads.anomaly import AnomalyPlan
from tests.support.heads import results


class TestAnomaly:
    def test_stays_on_until_it_is_back_past_release(self) -> None:
        plan = AnomalyPlan(("y",), above=0.8, release=0.6)
        scores = [0.8, 0.9, 0.7, 0.61, 0.6, 0.75, 0.81]
        bodies = results(plan, [[s] for s in scores], dtype=np.float64)
        assert [b["anomaly"] for b in bodies] == [False, True, True, True, False, False, True]
        assert [b["score"] for b in bodies] == scores

    def test_below(self) -> None:
        plan = AnomalyPlan(("y",), below=0.0, release=1.0)
        assert [b["anomaly"] for b in results(plan, [[0], [-1], [0.5], [1], [0.5]])] == [False, True, True, False, False]

    def test_each_key_by_itself_until_it_is_reset(self) -> None:
        plan = AnomalyPlan(("y",), max_keys=2, above=0.8, release=0.6)
        head = plan.make_head()
        assert [b["anomaly"] for b in results(plan, [[0.9], [0.7], [0.7]], [0, 1, 0], head)] == [True, False, True]
        head.reset(0)
        assert results(plan, [[0.7]], [0], head)[0]["anomaly"] is False

    @pytest.mark.parametrize("error", ["mae", "mse"])
    def test_the_error_of_a_reconstruction(self, error: Any) -> None:
        plan = AnomalyPlan(("y",), 6, error=error, input="x", above=1)
        x, y = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
        bodies = plan.make_head().results({"y": y}, {"x": x}, [0] * 4)
        size = np.abs(x - y) if error == "mae" else (x - y) ** 2
        assert [b and b["score"] for b in bodies] == pytest.approx(size.reshape(4, -1).mean(axis=1).tolist(), rel=1e-6)

    def test_an_error_beyond_all_numbers_has_no_result(self) -> None:
        plan = AnomalyPlan(("y",), 2, error="mse", input="x")
        big = np.full((1, 2), 3e38, np.float32)
        assert plan.make_head().results({"y": big}, {"x": -big}, [0]) == [None]

    def test_without_a_threshold_there_is_only_the_score(self) -> None:
        plan = AnomalyPlan(("y",))
        assert results(plan, [[0.5]]) == [{"score": 0.5}]
        assert plan.default_of() == ("score", "score")

    def test_smoothed_before_it_is_judged(self) -> None:
        plan = AnomalyPlan(("y",), above=0.8, smooth=2)
        assert [b["anomaly"] for b in results(plan, [[0], [1], [1]])] == [False, False, True]

    def test_latched_until_it_is_acknowledged_and_back_to_normal(self) -> None:
        plan = AnomalyPlan(("y",), max_keys=2, above=0.8, latch=True)
        head = plan.make_head()
        assert [b["anomaly"] for b in results(plan, [[0.9], [0.1], [0.1]], [0, 1, 0], head)] == [True, False, True]
        assert head.latched == [0]
        assert (head.acknowledge(0), head.acknowledge(1)) == (True, False)
        assert results(plan, [[0.1]], [0], head)[0]["anomaly"] is False
        assert results(plan, [[0.9]], [0], head)[0]["anomaly"] is True
        assert head.acknowledge(0)
        assert head.latched == []
        assert [b["anomaly"] for b in results(plan, [[0.9], [0.1]], [0, 0], head)] == [
            True,
            True,
        ]  # abnormal still: it latches again
        head.latch(1)
        assert results(plan, [[0.1]], [1], head)[0]["anomaly"] is True
        head.reset(1)
        assert results(plan, [[0.1]], [1], head)[0]["anomaly"] is False

    def test_without_latch_nothing_is_kept(self) -> None:
        plan = AnomalyPlan(("y",), above=0.8)
        head = plan.make_head()
        assert [b["anomaly"] for b in results(plan, [[0.9], [0.1]], [0, 0], head)] == [True, False]
        head.latch(0)
        assert head.latched == []
        assert results(plan, [[0.1]], [0], head)[0]["anomaly"] is False
