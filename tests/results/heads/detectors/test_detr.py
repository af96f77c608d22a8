from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.detr import Detr, doubt
from edged.results.heads.detectors.reading import Seen
from edged.results.heads.detectors.table import readings

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


def test_newer_exports_have_chosen_a_class() -> None:
    row = np.concatenate((BOXES, [[0.9, 7], [0.1, 3]]), axis=1).astype(np.float32)
    seen = Seen({"y": (300, 6)}, 80, (200, 100), "detect", decoder="queries")
    [reading] = readings(seen)
    found = reading.candidates({"y": row}, 0.5)
    assert (reading.name, found.boxes.tolist(), found.classes.tolist()) == ("detr", [[75, 25, 125, 75]], [7])


def test_two_classes_of_an_rt_detr_are_no_score_and_class() -> None:
    [reading] = readings(Seen({"y": (300, 6)}, 2, (200, 100), "detect", decoder="scores"))
    assert (reading.name, reading.classes) == ("detr", 2)
    [other] = readings(Seen({"y": (300, 6)}, 2, (200, 100), "detect"))
    assert other.name == "end-to-end"


def test_without_labels_nobody_knows_what_the_last_column_is() -> None:
    def seen(columns: int, classes: int | None) -> Seen:
        return Seen({"logits": (100, columns), "pred_boxes": (100, 4)}, classes, (200, 100))

    assert readings(seen(6, None)) == []
    assert doubt(seen(6, None)).endswith("give the labels, 6 or 5 of them")
    for columns, classes, has_nothing in ((6, 5, True), (6, 6, False), (92, None, True), (80, None, False)):
        [reading] = readings(seen(columns, classes))
        assert isinstance(reading, Detr)
        assert reading.has_nothing is has_nothing
