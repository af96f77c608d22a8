from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.reading import Seen
from edged.results.heads.detectors.yolov5 import read


def test_an_open_number_of_boxes_may_turn_out_to_be_a_cell_each() -> None:
    """Then its boxes are those of a YOLOX, offsets and logarithms."""
    reading = read(Seen({"y": (None, 7)}, None, (64, 64)))
    assert reading is not None
    grid = np.zeros((84, 7), np.float32)
    grid[9] = [0.5, 0.5, np.log(2), 0, 0.9, 0, 1]
    assert reading.candidates({"y": grid}, 0.5).boxes.tolist() == [[4, 8, 20, 16]]
    anchors = np.zeros((252, 7), np.float32)
    anchors[9] = [12, 12, 16, 8, 0.9, 0, 1]
    assert reading.candidates({"y": anchors}, 0.5).boxes.tolist() == [[4, 8, 20, 16]]
