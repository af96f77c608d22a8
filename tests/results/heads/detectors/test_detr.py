from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.detr import Detr

BOXES = np.array([[0.5, 0.5, 0.25, 0.5], [0.1, 0.1, 0.1, 0.1]], np.float32)


def test_the_last_class_of_a_detr_is_nothing() -> None:
    logits = np.array([[0, 4, 0], [0, 1, 9]], np.float32)
    found = Detr(("l", "b"), 2, picture=(200, 100), has_nothing=True).candidates({"l": logits, "b": BOXES}, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[75, 25, 125, 75]], [1])
    assert np.allclose(found.scores, np.exp(4) / (np.exp(4) + 2))


def test_each_class_of_an_rt_detr_is_by_itself() -> None:
    logits = np.array([[-9, 2, 1], [-9, -9, -9]], np.float32)
    found = Detr(("l", "b"), 3, picture=(200, 100)).candidates({"l": logits, "b": BOXES}, 0.5)
    assert found.classes.tolist() == [1]
    assert np.allclose(found.scores, 1 / (1 + np.exp(-2)))


def test_all_in_one_tensor() -> None:
    row = np.concatenate((BOXES, [[0.1, 0.8], [0.2, 0.3]]), axis=1).astype(np.float32)
    found = Detr(("y",), 2, picture=(200, 100)).candidates({"y": row}, 0.5)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[75, 25, 125, 75]], [1])
