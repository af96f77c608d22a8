from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.results.heads.classify import ClassifyPlan
from tests.support.heads import results

LABELS = ("healthy", "imbalance", "bearing")


class TestClassify:
    PLAN = ClassifyPlan(("y",), 3, labels=LABELS)

    def test_probabilities_are_taken_as_they_are(self) -> None:
        [body] = results(self.PLAN, [[0.25, 0.5, 0.25]])
        assert body == {"label": "imbalance", "score": 0.5, "scores": {"imbalance": 0.5, "healthy": 0.25, "bearing": 0.25}}
        assert list(body["scores"]) == ["imbalance", "healthy", "bearing"]

    def test_anything_else_is_softmaxed(self) -> None:
        [body] = results(self.PLAN, [[1.0, 2.0, 4.0]])
        want = np.exp([1, 2, 4]) / np.exp([1, 2, 4]).sum()
        assert body["label"] == "bearing"
        assert body["scores"] == pytest.approx({"bearing": want[2], "imbalance": want[1], "healthy": want[0]}, rel=1e-6)

    def test_the_first_batch_decides(self) -> None:
        head = self.PLAN.make_head()
        results(self.PLAN, [[5, 1, 0]], head=head)
        [body] = results(self.PLAN, [[1, 0, 0]], head=head)
        assert body["score"] == pytest.approx(math.e / (math.e + 2), rel=1e-6)

    def test_one_output_for_each_class(self) -> None:
        head = ClassifyPlan(("cold", "hot", "ok"), 3, labels=("cold", "hot", "ok")).make_head()
        outputs = {"cold": np.array([0.25, 0.5]), "hot": np.array([0.125, math.nan]), "ok": np.array([0.625, 0.5])}
        assert head.results(outputs, {}, [0, 0]) == [
            {"label": "ok", "score": 0.625, "scores": {"ok": 0.625, "cold": 0.25, "hot": 0.125}},
            None,
        ]

    def test_softmax_as_told(self) -> None:
        plan = ClassifyPlan(("y",), 3, softmax=False)
        assert results(plan, [[1, 9, 4]])[0]["score"] == 9
        plan = ClassifyPlan(("y",), 3, softmax=True)
        assert results(plan, [[0, 1, 0]])[0]["score"] == pytest.approx(math.e / (math.e + 2), rel=1e-6)
        assert results(plan, [[1e30, 0, 0]])[0]["score"] == 1

    def test_labels_by_number_and_the_best_few(self) -> None:
        [body] = results(ClassifyPlan(("y",), 4, top=2), [[0.1, 0.2, 0.3, 0.4]], dtype=np.float64)
        assert body == {"label": "3", "score": 0.4, "scores": {"3": 0.4, "2": 0.3}}

    def test_one_column_is_the_second_of_two(self) -> None:
        plan = ClassifyPlan(("y",), 1, labels=("no", "yes"))
        assert results(plan, [[0.75], [0.25]], dtype=np.float64) == [
            {"label": "yes", "score": 0.75, "scores": {"yes": 0.75, "no": 0.25}},
            {"label": "no", "score": 0.75, "scores": {"no": 0.75, "yes": 0.25}},
        ]

    def test_one_logit_between_0_and_1_does_not_decide(self) -> None:
        plan = ClassifyPlan(("y",), 1)
        head = plan.make_head()
        results(plan, [[0.5]], head=head)
        assert results(plan, [[-200.0]], head=head)[0]["scores"] == pytest.approx({"0": 1, "1": 0})
        assert results(plan, [[0.0]], head=head)[0]["score"] == 0.5

    def test_what_is_not_finite_has_no_result_and_leaves_no_trace(self) -> None:
        plan = ClassifyPlan(("y",), 3, labels=LABELS, smooth=2)
        bodies = results(plan, [[1, 0, 0], [math.nan, 0, 1], [0.5, 0.5, 0], [math.inf, 0, 0]])
        assert bodies[1] is None
        assert bodies[3] is None
        assert bodies[2]["score"] == 0.75

    def test_a_model_that_only_says_the_label(self) -> None:
        plan = ClassifyPlan((), label_tensor="y", labels=LABELS)
        assert results(plan, [[1], [7]], dtype=np.int64) == [{"label": "imbalance"}, {"label": "7"}]
        plan = ClassifyPlan((), label_tensor="y")
        assert results(plan, ["ok", "bad"], dtype=object) == [{"label": "ok"}, {"label": "bad"}]
        assert plan.default_of() == ("label", None)

    @settings(max_examples=50)
    @given(st.data(), st.integers(1, 4))
    def test_smoothing_like_the_plain_mean(self, data: st.DataObject, smooth: int) -> None:
        plan = ClassifyPlan(("y",), 3, max_keys=3, softmax=False, smooth=smooth)
        head, history = plan.make_head(), [[] for _ in range(3)]  # type: ignore[var-annotated]
        row = st.tuples(st.integers(0, 2), st.lists(st.integers(0, 8), min_size=3, max_size=3))
        for batch in data.draw(st.lists(st.lists(row, min_size=1, max_size=6), max_size=5)):
            bodies = results(plan, [r for _, r in batch], [k for k, _ in batch], head)
            for (key, values), body in zip(batch, bodies, strict=True):
                history[key].append(values)
                mean = np.mean(history[key][-smooth:], axis=0)
                assert [body["scores"][str(i)] for i in range(3)] == pytest.approx(mean.tolist())
                assert body["score"] == pytest.approx(mean.max())
            if data.draw(st.booleans()):
                head.reset(1)
                history[1].clear()
