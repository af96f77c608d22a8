from __future__ import annotations

from typing import Any

import numpy as np

from edged.results.heads.detectors.ssd import Chosen, Ssd

BOXES = np.array([[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8]], np.float32)


def test_torchvision() -> None:
    row: dict[str, Any] = {"boxes": BOXES, "scores": np.array([0.9, 0.2, 0.8], np.float32), "labels": np.array([3, 1, 17])}
    found = Chosen(("boxes", "scores", "labels"), picture=(200, 100)).candidates(row, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[10, 20, 30, 40], [5, 6, 7, 8]], [3, 17])


def test_tensorflow_begins_with_the_top_and_counts_from_one() -> None:
    row: dict[str, Any] = {
        "b": BOXES / 100,
        "s": np.array([0.9, 0.8, 0.7], np.float32),
        "c": np.array([3.0, 1, 17]),
        "n": np.array([2.0]),
    }
    found = Chosen(("b", "s", "c", "n"), picture=(200, 100), begins_with_top=True, first=1).candidates(row, 0.5)
    assert np.allclose(found.boxes, [[40, 10, 80, 30], [4, 1, 8, 3]])
    assert found.classes.tolist() == [2, 0]  # the third is padding


def test_candidates_with_a_background() -> None:
    row: dict[str, Any] = {"b": BOXES / 100, "s": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)}
    found = Ssd(("b", "s"), 1, picture=(100, 100), has_background=True).candidates(row, 0.5)
    assert np.allclose(found.boxes, [[1, 2, 3, 4]])
    assert found.classes.tolist() == [0]
