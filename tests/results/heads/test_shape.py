from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.decode.resize import View, sent
from edged.results.heads.shape import OutputPlan, ValueField, default_of, is_hollow, make_shape, result_fields, value_at

LABELS = ("healthy", "imbalance", "bearing")


def results(plan: OutputPlan, rows: Any, keys: list[int] | None = None, shape: Any = None, dtype: Any = np.float32) -> list[Any]:
    array = np.array(rows, dtype)
    return (shape or make_shape(plan)).results({"y": array}, {}, keys or [0] * len(array))


class TestRaw:
    def test_nested_lists_by_name(self) -> None:
        plan = OutputPlan("raw", ("y", "n"))
        outputs = {"y": np.arange(4, dtype=np.float32).reshape(2, 2, 1), "n": np.array([3, 4]), "unused": np.zeros(2)}
        bodies = make_shape(plan).results(outputs, {}, [0, 0])
        assert bodies == [{"outputs": {"y": [[0.0], [1.0]], "n": 3}}, {"outputs": {"y": [[2.0], [3.0]], "n": 4}}]

    def test_what_is_not_finite_is_null(self) -> None:
        bodies = results(OutputPlan("raw", ("y",)), [[1, math.nan], [math.inf, 2]])
        assert bodies == [{"outputs": {"y": [1.0, None]}}, {"outputs": {"y": [None, 2.0]}}]

    def test_texts(self) -> None:
        assert results(OutputPlan("raw", ("y",)), [["a", "b"]], dtype=object) == [{"outputs": {"y": ["a", "b"]}}]

    def test_arrays_are_kept_as_copies(self) -> None:
        array = np.ones((2, 2), np.float32)
        bodies = make_shape(OutputPlan("raw", ("y",), keeps_arrays=True)).results({"y": array}, {}, [0, 0])
        array[:] = 0
        assert bodies[1] is not None
        assert bodies[1]["outputs"]["y"].tolist() == [1, 1]


class TestClassify:
    PLAN = OutputPlan("classify", ("y",), 3, labels=LABELS)

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
        shape = make_shape(self.PLAN)
        results(self.PLAN, [[5, 1, 0]], shape=shape)
        [body] = results(self.PLAN, [[1, 0, 0]], shape=shape)
        assert body["score"] == pytest.approx(math.e / (math.e + 2), rel=1e-6)

    def test_softmax_as_told(self) -> None:
        plan = OutputPlan("classify", ("y",), 3, softmax=False)
        assert results(plan, [[1, 9, 4]])[0]["score"] == 9
        plan = OutputPlan("classify", ("y",), 3, softmax=True)
        assert results(plan, [[0, 1, 0]])[0]["score"] == pytest.approx(math.e / (math.e + 2), rel=1e-6)
        assert results(plan, [[1e30, 0, 0]])[0]["score"] == 1

    def test_labels_by_number_and_the_best_few(self) -> None:
        [body] = results(OutputPlan("classify", ("y",), 4, top=2), [[0.1, 0.2, 0.3, 0.4]], dtype=np.float64)
        assert body == {"label": "3", "score": 0.4, "scores": {"3": 0.4, "2": 0.3}}

    def test_one_column_is_the_second_of_two(self) -> None:
        plan = OutputPlan("classify", ("y",), 1, labels=("no", "yes"))
        assert results(plan, [[0.75], [0.25]], dtype=np.float64) == [
            {"label": "yes", "score": 0.75, "scores": {"yes": 0.75, "no": 0.25}},
            {"label": "no", "score": 0.75, "scores": {"no": 0.75, "yes": 0.25}},
        ]

    def test_one_logit_between_0_and_1_does_not_decide(self) -> None:
        plan = OutputPlan("classify", ("y",), 1)
        shape = make_shape(plan)
        results(plan, [[0.5]], shape=shape)
        assert results(plan, [[-200.0]], shape=shape)[0]["scores"] == pytest.approx({"0": 1, "1": 0})
        assert results(plan, [[0.0]], shape=shape)[0]["score"] == 0.5

    def test_what_is_not_finite_has_no_result_and_leaves_no_trace(self) -> None:
        plan = OutputPlan("classify", ("y",), 3, labels=LABELS, smooth=2)
        bodies = results(plan, [[1, 0, 0], [math.nan, 0, 1], [0.5, 0.5, 0], [math.inf, 0, 0]])
        assert bodies[1] is None
        assert bodies[3] is None
        assert bodies[2]["score"] == 0.75

    def test_a_model_that_only_says_the_label(self) -> None:
        plan = OutputPlan("classify", (), label_tensor="y", labels=LABELS)
        assert results(plan, [[1], [7]], dtype=np.int64) == [{"label": "imbalance"}, {"label": "7"}]
        plan = OutputPlan("classify", (), label_tensor="y")
        assert results(plan, ["ok", "bad"], dtype=object) == [{"label": "ok"}, {"label": "bad"}]
        assert default_of(plan) == ("label", None)

    @settings(max_examples=50)
    @given(st.data(), st.integers(1, 4))
    def test_smoothing_like_the_plain_mean(self, data: st.DataObject, smooth: int) -> None:
        plan = OutputPlan("classify", ("y",), 3, max_keys=3, softmax=False, smooth=smooth)
        shape, history = make_shape(plan), [[] for _ in range(3)]  # type: ignore[var-annotated]
        row = st.tuples(st.integers(0, 2), st.lists(st.integers(0, 8), min_size=3, max_size=3))
        for batch in data.draw(st.lists(st.lists(row, min_size=1, max_size=6), max_size=5)):
            bodies = results(plan, [r for _, r in batch], [k for k, _ in batch], shape)
            for (key, values), body in zip(batch, bodies, strict=True):
                history[key].append(values)
                mean = np.mean(history[key][-smooth:], axis=0)
                assert [body["scores"][str(i)] for i in range(3)] == pytest.approx(mean.tolist())
                assert body["score"] == pytest.approx(mean.max())
            if data.draw(st.booleans()):
                shape.reset(1)
                history[1].clear()


class TestRegress:
    def test_scaled_and_named(self) -> None:
        plan = OutputPlan("regress", ("y",), 2, fields=(ValueField("hours", 10, 5, "h"), ValueField("wear")))
        assert results(plan, [[1, 2], [0.5, math.nan]]) == [{"values": {"hours": 15.0, "wear": 2.0}}, None]

    def test_names_by_labels_or_by_number(self) -> None:
        assert results(OutputPlan("regress", ("y",), 2), [[1, 2]]) == [{"values": {"y0": 1.0, "y1": 2.0}}]
        assert results(OutputPlan("regress", ("y",), 2, labels=("a", "b")), [[1, 2]]) == [{"values": {"a": 1.0, "b": 2.0}}]

    def test_one_number_a_row_without_an_axis_of_its_own(self) -> None:
        assert results(OutputPlan("regress", ("y",)), [1, 2]) == [{"values": {"y0": 1.0}}, {"values": {"y0": 2.0}}]

    def test_smoothed(self) -> None:
        plan = OutputPlan("regress", ("y",), smooth=2)
        assert [b["values"]["y0"] for b in results(plan, [[1], [3], [8]])] == [1, 2, 5.5]


class TestAnomaly:
    def test_stays_on_until_it_is_back_past_release(self) -> None:
        plan = OutputPlan("anomaly", ("y",), above=0.8, release=0.6)
        scores = [0.8, 0.9, 0.7, 0.61, 0.6, 0.75, 0.81]
        bodies = results(plan, [[s] for s in scores], dtype=np.float64)
        assert [b["anomaly"] for b in bodies] == [False, True, True, True, False, False, True]
        assert [b["score"] for b in bodies] == scores

    def test_below(self) -> None:
        plan = OutputPlan("anomaly", ("y",), below=0.0, release=1.0)
        assert [b["anomaly"] for b in results(plan, [[0], [-1], [0.5], [1], [0.5]])] == [False, True, True, False, False]

    def test_each_key_by_itself_until_it_is_reset(self) -> None:
        plan = OutputPlan("anomaly", ("y",), max_keys=2, above=0.8, release=0.6)
        shape = make_shape(plan)
        assert [b["anomaly"] for b in results(plan, [[0.9], [0.7], [0.7]], [0, 1, 0], shape)] == [True, False, True]
        shape.reset(0)
        assert results(plan, [[0.7]], [0], shape)[0]["anomaly"] is False

    @pytest.mark.parametrize("error", ["mae", "mse"])
    def test_the_error_of_a_reconstruction(self, error: Any) -> None:
        plan = OutputPlan("anomaly", ("y",), 6, error=error, input="x", above=1)
        x, y = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
        bodies = make_shape(plan).results({"y": y}, {"x": x}, [0] * 4)
        size = np.abs(x - y) if error == "mae" else (x - y) ** 2
        assert [b and b["score"] for b in bodies] == pytest.approx(size.reshape(4, -1).mean(axis=1).tolist(), rel=1e-6)

    def test_an_error_beyond_all_numbers_has_no_result(self) -> None:
        plan = OutputPlan("anomaly", ("y",), 2, error="mse", input="x")
        big = np.full((1, 2), 3e38, np.float32)
        assert make_shape(plan).results({"y": big}, {"x": -big}, [0]) == [None]

    def test_without_a_threshold_there_is_only_the_score(self) -> None:
        plan = OutputPlan("anomaly", ("y",))
        assert results(plan, [[0.5]]) == [{"score": 0.5}]
        assert default_of(plan) == ("score", "score")

    def test_smoothed_before_it_is_judged(self) -> None:
        plan = OutputPlan("anomaly", ("y",), above=0.8, smooth=2)
        assert [b["anomaly"] for b in results(plan, [[0], [1], [1]])] == [False, False, True]


@pytest.mark.parametrize(
    "plan",
    [
        OutputPlan("classify", ("y",), 3, labels=LABELS),
        OutputPlan("regress", ("y",), 3, fields=tuple(ValueField(n, unit="h") for n in "abc")),
        OutputPlan("anomaly", ("y",), above=1),
        OutputPlan("raw", ("y",)),
    ],
    ids=lambda plan: plan.type,
)
def test_every_field_it_promises_is_there(plan: OutputPlan) -> None:
    [body] = results(plan, [[3.0, 1.0, 2.0][: max(plan.size, 1)]])
    kinds = {"number": float, "text": str, "bool": bool, "tensor": list, "object": dict}
    fields = result_fields(plan)
    assert all(type(value_at(body, f.path)) is kinds[f.kind] for f in fields)
    assert {f.path[0] for f in fields} == set(body)
    assert {d for d in default_of(plan) if d} <= {f.name for f in fields}
    assert json.loads(json.dumps(body)) == body


class TestDetect:
    PLAN = OutputPlan("detect", ("y",), labels=("cat", "dog"), above=0.5, head="yolov8", picture=(64, 32))
    ROW = np.zeros((6, 9), np.float32)
    ROW[:, 0] = (32, 16, 8, 4, 0.1, 0.9)
    ROW[:, 1] = (32, 16, 8, 5, 0.1, 0.8)
    ROW[:, 2] = (62, 30, 8, 8, 0.75, 0)

    def test_boxes_of_what_the_model_saw(self) -> None:
        [body] = results(self.PLAN, [self.ROW])
        assert body == {
            "detections": [
                {"label": "dog", "score": 0.9, "box": [28.0, 14.0, 36.0, 18.0]},
                {"label": "cat", "score": 0.75, "box": [58.0, 26.0, 64.0, 32.0]},
            ],
            "count": 2,
            "score": 0.9,
        }
        assert {f.path[0] for f in result_fields(self.PLAN)} == set(body)
        assert default_of(self.PLAN) == ("count", "score")
        assert json.loads(json.dumps(body)) == body

    def test_boxes_in_pixels_of_the_picture_that_was_sent(self) -> None:
        plan = replace(self.PLAN, view=View((64, 32), "letterbox", "rgb"))
        rows = {"y": np.stack([self.ROW] * 2)}
        bodies = make_shape(plan).results(rows, {}, [0, 0], [sent((640, 320)), sent((320, 320))])
        boxes = [[d["box"] for d in body["detections"]] for body in bodies if body is not None]
        assert boxes == [
            [[280.0, 140.0, 360.0, 180.0], [580.0, 260.0, 640.0, 320.0]],
            [[120.0, 140.0, 200.0, 180.0]],  # the other one lies in the grey beside it
        ]

    def test_only_what_is_wanted(self) -> None:
        assert results(replace(self.PLAN, classes=(0,)), [self.ROW])[0]["count"] == 1
        assert results(replace(self.PLAN, most=1), [self.ROW])[0]["score"] == 0.9
        assert results(replace(self.PLAN, iou=1.0), [self.ROW])[0]["count"] == 3
        assert results(replace(self.PLAN, above=0.95), [self.ROW]) == [{"detections": [], "count": 0, "score": 0.0}]

    def test_what_is_not_finite_is_no_result(self) -> None:
        bad = self.ROW.copy()
        bad[4, 8] = math.nan
        assert results(self.PLAN, [bad, self.ROW])[0] is None

    def test_without_labels_classes_are_numbers(self) -> None:
        found = results(replace(self.PLAN, labels=None), [self.ROW])[0]["detections"]
        assert [d["label"] for d in found] == ["1", "0"]


def test_a_raw_result_is_hollow_if_no_number_in_it_is_finite() -> None:
    none: Any = {"outputs": {"a": [[None, None]], "b": np.array([np.nan, np.inf])}}
    assert is_hollow(none)
    some: list[Any] = [[[None, 1.0]], 0.0, [], [[], []], ["text"], np.zeros((0, 4)), np.array([np.nan, 1]), np.array([7])]
    for value in some:
        assert not is_hollow({"outputs": {**none["outputs"], "c": value}}), value
    assert not is_hollow({"outputs": {}})
    assert not is_hollow({"score": 1.0})
