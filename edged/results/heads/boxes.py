"""Boxes from the numbers of YOLO-like models, with and without non-maximum suppression in the graph.

A layout is how a row of the output is laid out; boxes in it are in pixels of what the model saw:

    yolov8    [4 + classes, boxes]    centre, width and height, a score for each class (YOLOv8 to v12)
    yolov5    [boxes, 5 + classes]    the same, with whether there is anything at all before the classes (YOLOv5 to v7)
    nms       [boxes, 6]              left, top, right, bottom, score, class: suppressed already (YOLOv10, exports with nms)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.resize import Size, View, place

V8, V5, NMS = BOX_LAYOUTS = ("yolov8", "yolov5", "nms")
MAX_CANDIDATES = 3000
"""Boxes that are compared with each other, the best: a model that finds something everywhere must not hold the loop."""
STRIDES = (8, 16, 32, 64)
ANCHORS = 3
"""Boxes of a YOLOv5 for each cell of its grids, one of which has cells of each of the strides (the last only at times)."""

Array = NDArray[Any]


class Found(NamedTuple):
    """k boxes `[k, 4]` (left, top, right, bottom), the score `[k]` and class `[k]` of each."""

    boxes: Array
    scores: Array
    classes: Array

    def only(self, rows: Array) -> Found:
        return Found(self.boxes[rows], self.scores[rows], self.classes[rows])


def fitting_layouts(shape: tuple[int | None, ...], classes: int | None, picture: Size) -> list[str]:
    """The layouts that an output of this shape (without the batch axis, None: open) may have. `classes`: how many labels there
    are, if that is known; `picture`: the size of what the model sees."""
    if len(shape) != 2:
        return []
    a, b = shape
    found = []
    if a is not None and a > 4 and classes in (None, a - 4) and (b is None or b > a):
        found.append(V8)
    is_grid = a is None or a in _boxes_of_grids(picture)
    if b is not None and b > 5 and classes in (None, b - 5) and (a is None or a > b) and (b != 6 or is_grid):
        found.append(V5)
    if b == 6 and (V5 not in found or a is None):
        found.append(NMS)
    return found


def classes_of(layout: str, shape: tuple[int | None, ...]) -> int | None:
    """How many classes an output of this layout has; None where it does not say."""
    a, b = shape
    return {V8: None if a is None else a - 4, V5: None if b is None else b - 5, NMS: None}[layout]


def _boxes_of_grids(picture: Size) -> set[int]:
    cells = [(picture[0] // s) * (picture[1] // s) * ANCHORS for s in STRIDES]
    return {sum(cells[:3]), sum(cells)}


def candidates(layout: str, row: Array, above: float) -> Found:
    """The boxes of one row whose best class scores more than `above`."""
    if layout == NMS:
        kept = row[row[:, 4] > above]
        return Found(kept[:, :4], kept[:, 4], kept[:, 5].astype(np.intp))
    if layout == V8:
        kept = row[:, row[4:].max(axis=0) > above].T
        scores, classes = kept[:, 4:].max(axis=1), kept[:, 4:].argmax(axis=1)
    else:
        kept = row[row[:, 4] > above]  # no class can score more than whether there is anything
        scores, classes = kept[:, 5:].max(axis=1, initial=0) * kept[:, 4], kept[:, 5:].argmax(axis=1)
        is_good = scores > above
        kept, scores, classes = kept[is_good], scores[is_good], classes[is_good]
    centre, half = kept[:, :2], kept[:, 2:4] / 2
    return Found(np.concatenate((centre - half, centre + half), axis=1), scores, classes)


def best(found: Found, iou: float | None, most: int) -> Found:
    """At most `most`, the best first. Of boxes of one class that overlap by more than `iou` the best stays (None: all do)."""
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    if iou is None:
        return found.only(order[:most])
    left, top, right, bottom = np.ascontiguousarray(found.boxes[order].T, np.float64)
    classes, areas = found.classes[order], (right - left) * (bottom - top)
    is_left, kept = np.ones(len(order), np.bool_), list[int]()
    for i in range(len(order)):
        if len(kept) == most:
            break
        if not is_left[i]:
            continue
        kept.append(i)
        rest = slice(i + 1, None)  # slices, since to pick rows out would take several times as long
        width = np.minimum(right[i], right[rest]) - np.maximum(left[i], left[rest])
        height = np.minimum(bottom[i], bottom[rest]) - np.maximum(top[i], top[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        is_left[rest] &= (shared <= iou * (areas[i] + areas[rest] - shared)) | (classes[rest] != classes[i])
    return found.only(order[kept])


def only_of(found: Found, classes: Collection[int]) -> Found:
    """Those of some classes."""
    return found.only(np.isin(found.classes, list(classes)))


def in_picture(found: Found, view: View, picture: Size) -> Found:
    """Boxes of a view in pixels of the picture that was sent, cut off at its edges; without those that lie outside of it."""
    placed = place(view, picture)
    offset = np.array([placed.left, placed.top] * 2)
    scale = np.array([picture[0] / placed.width, picture[1] / placed.height] * 2)
    return clipped(Found((found.boxes - offset) * scale, found.scores, found.classes), picture)


def clipped(found: Found, picture: Size) -> Found:
    boxes = np.clip(found.boxes, 0, np.array([*picture, *picture], np.float64))
    is_inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Found(boxes, found.scores, found.classes).only(is_inside)
