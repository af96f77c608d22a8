from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from msgspec.structs import replace

from edged.decode.resize import View, sent
from edged.results.heads.detect import DetectPlan
from edged.results.heads.detectors.reading import Members
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


class TestMembers:
    """What a detection has beside its box, in pixels of the picture that was sent: twice the size of what the model saw."""

    VIEW = View((64, 32), "letterbox", "rgb")
    ROW = np.zeros((6, 9), np.float32)
    ROW[:, 0] = (32, 16, 8, 4, 0.1, 0.9)

    def body(self, reading: YoloV8, more: list[float], masks: str | None = None, **others: Any) -> Any:
        row = np.concatenate((self.ROW, np.array(more, np.float32)[:, None].repeat(9, 1)))
        reading = replace(reading, more=len(more))
        plan = DetectPlan(reading.tensors, labels=("cat", "dog"), view=self.VIEW, reading=reading, picture=(64, 32), masks=masks)
        [body] = plan.make_head().results({"y": row[None]} | others, {}, [0], [sent((128, 64))])
        assert body is not None
        [detection] = body["detections"]
        assert plan.text_bytes > plan.most * 200
        return detection

    def test_key_points(self) -> None:
        found = self.body(YoloV8(("y",), 2, Members(keypoints=(2, 3))), [10, 12, 0.5, 40, 20, 0.25])
        assert found["keypoints"] == [[20.0, 24.0, 0.5], [80.0, 40.0, 0.25]]
        found = self.body(YoloV8(("y",), 2, Members(keypoints=(1, 2))), [10, 12])
        assert found["keypoints"] == [[20.0, 24.0, 1.0]]

    def test_rotated_boxes(self) -> None:
        found = self.body(YoloV8(("y",), 2, Members(is_rotated=True)), [math.pi / 2])
        assert found["box"] == [60.0, 24.0, 68.0, 40.0]
        assert sorted(found["corners"]) == [[60.0, 24.0], [60.0, 40.0], [68.0, 24.0], [68.0, 40.0]]
        assert found["angle"] == 90.0

    def test_masks(self) -> None:
        prototypes = np.full((1, 1, 8, 16), -1, np.float32)
        prototypes[0, 0, 3:5, 7:9] = 1
        reading = YoloV8(("y", "p"), 2, Members(masks="p"))
        outline = self.body(reading, [1.0], "polygon", p=prototypes)["mask"]
        assert sorted(outline) == [[56.0, 28.0], [56.0, 36.0], [72.0, 28.0], [72.0, 36.0]]
        runs = self.body(reading, [1.0], "rle", p=prototypes)["mask"]
        assert runs["size"] == [8, 16]
        assert sum(runs["counts"]) == 8 * 16
        assert sum(runs["counts"][1::2]) == 4
