from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.yolo_nas import YoloNas


def test_boxes_and_scores_apart() -> None:
    row = {"b": np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32), "s": np.array([[0.1, 0.2], [0.9, 0.3]], np.float32)}
    found = YoloNas(("b", "s"), 2).candidates(row, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist(), found.scores.tolist()) == ([[5, 6, 7, 8]], [0], [np.float32(0.9)])
