"""Boxes of the three heads against a plain implementation that takes one box after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.decode.resize import View, place
from edged.results.heads.boxes import best, is_inside, only_of, placing, prob_iou
from edged.results.heads.detectors.end_to_end import EndToEnd
from edged.results.heads.detectors.reading import Found, Reading, Seen
from edged.results.heads.detectors.table import readings
from edged.results.heads.detectors.yolov5 import YoloV5
from edged.results.heads.detectors.yolov8 import YoloV8

V8, V5, NMS = HEADS = ("yolov8", "yolov5", "end-to-end")
READINGS: dict[str, Reading] = {V8: YoloV8(("y",)), V5: YoloV5(("y",)), NMS: EndToEnd(("y",))}

Detection = tuple[int, float, list[float]]


def plain(head: str, row: Any, above: float, iou: float, most: int) -> list[Detection]:
    """Class, score and box of what is found, best first: as the papers say it, with loops."""
    found: list[Detection] = []
    for numbers in (row.T if head == V8 else row).tolist():
        if head == NMS:
            left, top, right, bottom, score, label = numbers
            label = int(label)
        else:
            x, y, w, h = numbers[:4]
            left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
            scores = numbers[4:] if head == V8 else [numbers[4] * s for s in numbers[5:]]
            score = max(scores)
            label = scores.index(score)
        if score > above:
            found.append((label, score, [left, top, right, bottom]))
    found.sort(key=lambda one: -one[1])
    if head == NMS:
        return found[:most]
    kept: list[Detection] = []
    for one in found:
        if all(one[0] != other[0] or overlap(one[2], other[2]) <= iou for other in kept):
            kept.append(one)
    return kept[:most]


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def scene(head: str, seed: int, boxes: int, classes: int) -> Any:
    """A row of a head with clusters of boxes, as a model gives them around each thing that it sees."""
    rng = np.random.default_rng(seed)
    things = rng.uniform(60, 580, (6, 2))
    centre = things[rng.integers(0, 6, boxes)] + rng.normal(0, 12, (boxes, 2))
    size = rng.uniform(30, 110, (boxes, 2))
    scores = rng.uniform(0, 1, (boxes, classes)) ** 3
    if head == V8:
        return np.concatenate((centre, size, scores), 1).T.astype(np.float32)
    if head == V5:
        return np.concatenate((centre, size, rng.uniform(0, 1, (boxes, 1)), scores), 1).astype(np.float32)
    corners = np.concatenate((centre - size / 2, centre + size / 2), 1)
    return np.concatenate((corners, scores.max(1, keepdims=True), scores.argmax(1)[:, None]), 1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([V8, V5, NMS]),
    st.integers(0, 10**6),
    st.integers(0, 200),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.25, 0.9]),
    st.sampled_from([0.0, 0.45, 0.7, 1.0]),
    st.sampled_from([1, 5, 100]),
)
def test_as_the_plain_implementation(head: str, seed: int, boxes: int, classes: int, above: float, iou: float, most: int) -> None:
    row = scene(head, seed, boxes, classes)
    expected = plain(head, row, np.float32(above), iou, most)
    found = best(READINGS[head].candidates({"y": row}, above), None if head == NMS else iou, most)
    assert found.classes.tolist() == [label for label, _, _ in expected]
    assert np.allclose(found.scores, [score for _, score, _ in expected])
    assert np.allclose(found.boxes.reshape(-1, 4), np.array([box for _, _, box in expected]).reshape(-1, 4), atol=1e-2)


def test_what_finds_something_everywhere_is_bounded() -> None:
    row = np.ones((25200, 85), np.float32)
    row[:, :2] = np.random.default_rng(0).uniform(0, 640, (25200, 2))
    assert len(best(READINGS[V5].candidates({"y": row}, 0.25), 0.45, 100).scores) == 100


@pytest.mark.parametrize(
    ("shape", "classes", "expected"),
    [
        ((84, 8400), None, [V8]),
        ((84, 8400), 80, [V8]),
        ((84, 8400), 2, []),
        ((84, None), 80, [V8]),
        ((6, 8400), 2, [V8]),
        ((5, 8400), 1, [V8]),
        ((25200, 85), None, [V5]),
        ((25200, 85), 80, [V5]),
        ((25200, 85), 79, []),
        ((None, 85), None, [V5]),
        ((25200, 6), 1, [V5]),
        ((25200, 6), None, [V5]),
        ((25201, 6), 1, [NMS]),
        ((8400, 85), None, ["yolox"]),
        ((8400, 85), 80, ["yolox"]),
        ((8400, 84), 80, [V8]),
        ((8400, 6), 1, ["yolox"]),
        ((300, 84), 80, ["detr"]),
        ((300, 6), None, [NMS]),
        ((300, 6), 80, [NMS]),
        ((300, 6), 1, [NMS]),
        ((5, 6), 4, [NMS]),
        ((None, 6), None, [V5, NMS]),
        ((None, 6), 80, [NMS]),
        ((100, 4), None, []),
        ((8400,), None, []),
        ((84, 80, 80), 80, []),
    ],
)
def test_which_head_a_shape_may_be_of(shape: tuple[int | None, ...], classes: int | None, expected: list[str]) -> None:
    found = readings(Seen({"y": shape}, classes, (640, 640)))
    assert sorted(r.name for r in found) == sorted(expected)
    assert all(classes is None or r.classes in (None, classes) for r in found)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["letterbox", "stretch", "crop"]),
    st.tuples(st.integers(8, 3000), st.integers(8, 3000)),
    st.tuples(st.integers(32, 1280), st.integers(32, 1280)),
)
def test_boxes_come_back_to_the_picture(fit: str, picture: tuple[int, int], size: tuple[int, int]) -> None:
    view = View(size, fit, "rgb")
    placed = place(view, picture)
    w, h = picture
    box = np.array([[0.25 * w, 0.5 * h, 0.5 * w, 0.75 * h]])
    shown = box * ([placed.width / w, placed.height / h] * 2) + [placed.left, placed.top] * 2
    assert np.allclose(placing(view, picture).boxes(shown), box, atol=1e-6)


def test_boxes_are_cut_at_the_edges_and_those_outside_go() -> None:
    boxes = np.array([[-5.0, 10, 30, 120], [10, 10, 20, 20], [200, 10, 220, 20], [5, 5, 5, 9]])
    cut = placing(None, (100, 100)).boxes(boxes)
    assert cut[is_inside(cut)].tolist() == [[0, 10, 30, 100], [10, 10, 20, 20]]
    assert is_inside(cut).tolist() == [True, True, False, False]


def test_only_some_classes() -> None:
    found = Found(np.zeros((3, 4)), np.array([0.9, 0.8, 0.7]), np.array([2, 0, 2]))
    assert only_of(found, (2,)).scores.tolist() == [0.9, 0.7]
    assert only_of(found, (1,)).scores.tolist() == []


def test_rotated_boxes_overlap_as_gaussians_of_their_shape() -> None:
    """Against Ultralytics' formula, written out for one pair; equal boxes overlap wholly, crossed ones hardly."""
    one = np.array([50.0, 50, 40, 8, 0.3])
    others = np.array([[50.0, 50, 40, 8, 0.3], [50, 50, 40, 8, 0.3 + np.pi / 2], [300, 300, 40, 8, 0.3], [54, 50, 40, 8, 0.3]])
    found = prob_iou(one, others)
    assert found[0] > 0.99
    assert found[2] < 1e-3
    assert 0.2 < found[1] < 0.5 < found[3] < 0.9
    kept = best(Found(np.zeros((4, 4)), np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4, np.intp), others), 0.5, 10, is_rotated=True)
    assert kept.scores.tolist() == [0.9, 0.8, 0.7]
