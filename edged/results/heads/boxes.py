"""Boxes of what a model saw: which stay of those that overlap, and where they lie in the picture that was sent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.resize import Size, View, place
from edged.results.heads.detectors.reading import Found

MAX_CANDIDATES = 3000
"""Boxes that are compared with each other, the best: a model that finds something everywhere must not block the loop."""

Array = NDArray[Any]


def best(found: Found, iou: float | None, most: int, is_rotated: bool = False) -> Found:
    """At most `most`, the best first. Of boxes of one class that overlap by more than `iou` the best stays (None: all do).
    `is_rotated`: they are compared by the centre, width, height and angle in `more`."""
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    if iou is None:
        return found.only(order[:most])
    if is_rotated and found.more is not None:
        return _best_rotated(found.only(order), found.more[order].astype(np.float64), iou, most)
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


def _best_rotated(found: Found, turned: Array, iou: float, most: int) -> Found:
    """The same for rotated boxes, whose overlap is that of Gaussians of their shape (ProbIoU), as these models are trained."""
    classes, is_left, kept = found.classes, np.ones(len(turned), np.bool_), list[int]()
    for i in range(len(turned)):
        if len(kept) == most:
            break
        if is_left[i]:
            kept.append(i)
            is_left[i + 1 :] &= (prob_iou(turned[i], turned[i + 1 :]) <= iou) | (classes[i + 1 :] != classes[i])
    return found.only(np.array(kept, np.intp))


def prob_iou(one: Array, others: Array) -> Array:
    """How far a rotated box (centre, width, height, angle) overlaps with others: 1 less Hellinger's distance."""
    a1, b1, c1 = _covariance(one[None])
    a2, b2, c2 = _covariance(others)
    x, y = one[0] - others[:, 0], one[1] - others[:, 1]
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    area = a * b - c * c + 1e-7
    far = (a * y * y + b * x * x) / area / 4 - c * x * y / area / 2
    alike = np.log(area / (4 * np.sqrt(np.maximum(a1 * b1 - c1 * c1, 0) * np.maximum(a2 * b2 - c2 * c2, 0)) + 1e-7) + 1e-7) / 2
    overlap: Array = 1 - np.sqrt(1 - np.exp(-np.clip(far + alike, 1e-7, 100)) + 1e-7)
    return overlap


def _covariance(turned: Array) -> tuple[Array, Array, Array]:
    w, h, angle = turned[:, 2] ** 2 / 12, turned[:, 3] ** 2 / 12, turned[:, 4]
    cos, sin = np.cos(angle), np.sin(angle)
    return w * cos**2 + h * sin**2, w * sin**2 + h * cos**2, (w - h) * cos * sin


def only_of(found: Found, classes: Collection[int]) -> Found:
    """Those of some classes."""
    return found.only(np.isin(found.classes, list(classes)))


class Placing(NamedTuple):
    """From pixels of what the model saw to those of the picture that was sent, of `size`: (x - offset) x scale."""

    offset: tuple[float, float]
    scale: tuple[float, float]
    size: Size

    def points(self, points: Array) -> Array:
        """Points `[..., 2]`, cut off at the edges."""
        placed = (points - np.array(self.offset)) * np.array(self.scale)
        cut: Array = np.clip(placed, 0, np.array(self.size, np.float64))
        return cut

    def boxes(self, boxes: Array) -> Array:
        return self.points(boxes.reshape(-1, 2, 2)).reshape(-1, 4)


def placing(view: View | None, picture: Size) -> Placing:
    """`picture` is the size of what was sent, or where `view` is None of what the model saw."""
    if view is None:
        return Placing((0, 0), (1, 1), picture)
    placed = place(view, picture)
    return Placing((placed.left, placed.top), (picture[0] / placed.width, picture[1] / placed.height), picture)


def is_inside(boxes: Array) -> Array:
    """Whether anything is left of each box that was cut at the edges."""
    found: Array = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return found
