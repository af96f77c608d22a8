from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.reading import Members
from edged.results.heads.detectors.yolov8 import YoloV8

ROW = np.zeros((4 + 2 + 6, 5), np.float32)
ROW[:, 3] = [32, 16, 8, 4, 0.1, 0.9, 1, 2, 3, 4, 5, 6]


def test_boxes_scores_and_what_stands_behind_them() -> None:
    found = YoloV8(("y",), 2, Members(keypoints=(2, 3)), more=6).candidates({"y": ROW}, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[28, 14, 36, 18]], [1])
    assert found.more is not None
    assert found.more.tolist() == [[1, 2, 3, 4, 5, 6]]


def test_on_its_side() -> None:
    found = YoloV8(("y",), 2, more=6, is_on_side=True).candidates({"y": np.ascontiguousarray(ROW.T)}, 0.5)
    assert found.boxes.tolist() == [[28, 14, 36, 18]]


def test_rotated_boxes_lie_within_their_edges() -> None:
    row = ROW[:7].copy()
    row[6, 3] = np.pi / 2
    found = YoloV8(("y",), 2, Members(is_rotated=True), more=1).candidates({"y": row}, 0.5)
    assert np.allclose(found.boxes, [[30, 12, 34, 20]])
    assert found.more is not None
    assert np.allclose(found.more, [[32, 16, 8, 4, np.pi / 2]])
