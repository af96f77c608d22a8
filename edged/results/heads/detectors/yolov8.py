"""YOLOv8 to v12: `[4 + classes + more, boxes]`, or the same on its side: centre, width and height, a score for each class.

`more` are what the task adds: key points (x, y and whether it is seen, of each), factors of the mask's prototypes, or an angle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from edged.results.heads.detectors.reading import (
    PLAIN,
    Array,
    Found,
    Members,
    Reading,
    Seen,
    Shape,
    best_class,
    edges,
    enclosing,
)

PERSON = (17, 3)
"""COCO's key points of a person, and the numbers of each."""


class YoloV8(Reading, frozen=True):
    """`is_on_side`: a box is a row. `more`: numbers behind the scores."""

    name: ClassVar[str] = "yolov8"
    more: int = 0
    is_on_side: bool = False

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        tensor = row[self.tensors[0]]
        columns = tensor.T if self.is_on_side else tensor
        scores = columns[4 : len(columns) - self.more]
        kept = columns[:, scores.max(axis=0) > above].T
        found, classes = best_class(kept[:, 4 : len(columns) - self.more])
        more = kept[:, len(columns) - self.more :] if self.more else None
        if self.members.is_rotated and more is not None:
            turned = np.concatenate((kept[:, :4], more), axis=1)
            return Found(enclosing(turned), found, classes, turned)
        return Found(edges(kept), found, classes, more)


def read(seen: Seen) -> Reading | None:
    name, shape = seen.single or ("", ())
    if len(shape) != 2:
        return None
    a, b = shape
    is_on_side = a == seen.cells() and seen.classes is not None
    numbers = b if is_on_side else a
    if numbers is None or numbers <= 4 or not (is_on_side or b is None or b > numbers):
        return None
    members, more = task_members(seen, numbers - 4)
    classes = numbers - 4 - more
    if classes < 1 or seen.classes not in (None, classes):
        return None
    tensors = (name,) if members.masks is None else (name, members.masks)
    return YoloV8(tensors, classes, members, more, is_on_side)


def task_members(seen: Seen, rest: int) -> tuple[Members, int]:
    """What boxes of `rest` numbers beside their four have beside classes, and in how many numbers: as the task says, else as
    labels and a second output tell."""
    protos = prototypes(seen.of_rank(3))
    if seen.task == "pose" or (not seen.task and seen.classes is not None and rest - seen.classes == math.prod(PERSON)):
        count, of = seen.keypoints or ((rest - (seen.classes or 1)) // PERSON[1], PERSON[1])
        return Members(keypoints=(count, of)), count * of
    if seen.task == "obb":
        return Members(is_rotated=True), 1
    if protos is not None and (seen.task == "segment" or not seen.task) and rest > protos[1]:
        return Members(masks=protos[0]), protos[1]
    return PLAIN, 0


def prototypes(tensors: Mapping[str, Shape]) -> tuple[str, int] | None:
    """The output that masks are mixed from, `[prototypes, height, width]`, and how many there are."""
    found = [(name, shape[0]) for name, shape in tensors.items() if shape[0] is not None]
    return found[0] if len(found) == 1 and len(tensors) == 1 else None
