from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.end_to_end import EndToEnd
from edged.results.heads.detectors.reading import Members


def test_what_was_chosen_stays_as_it_is() -> None:
    row = np.array([[1, 2, 3, 4, 0.9, 7, 5, 6, 1], [1, 2, 3, 4, 0.1, 7, 5, 6, 1]], np.float32)
    found = EndToEnd(("y",), members=Members(keypoints=(1, 3))).candidates({"y": row}, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[1, 2, 3, 4]], [7])
    assert found.more is not None
    assert found.more.tolist() == [[5, 6, 1]]


def test_rotated() -> None:
    row = np.array([[32, 16, 8, 4, 0.9, 1, np.pi / 2]], np.float32)
    found = EndToEnd(("y",), members=Members(is_rotated=True)).candidates({"y": row}, 0.5)
    assert np.allclose(found.boxes, [[30, 12, 34, 20]])


def test_shares_of_the_picture_become_pixels() -> None:
    row = np.array([[0.25, 0.5, 0.5, 1, 0.9, 7]], np.float32)
    found = EndToEnd(("y",), picture=(200, 100)).candidates({"y": row}, 0.5)
    assert found.boxes.tolist() == [[50, 50, 100, 100]]
