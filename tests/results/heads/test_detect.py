from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np

from edged.decode.resize import View, sent
from edged.results.heads.detect import DetectPlan
from edged.results.heads.detectors.yolov8 import YoloV8
from tests.support.heads import results


class TestDetect:
    PLAN = DetectPlan(("y",), labels=("cat", "dog"), above=0.5, reading=YoloV8(("y",)), picture=(64, 32))
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
        assert {f.path[0] for f in self.PLAN.result_fields()} == set(body)
        assert self.PLAN.default_of() == ("count", "score")
        assert json.loads(json.dumps(body)) == body

    def test_boxes_in_pixels_of_the_picture_that_was_sent(self) -> None:
        plan = replace(self.PLAN, view=View((64, 32), "letterbox", "rgb"))
        rows = {"y": np.stack([self.ROW] * 2)}
        bodies = plan.make_head().results(rows, {}, [0, 0], [sent((640, 320)), sent((320, 320))])
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
