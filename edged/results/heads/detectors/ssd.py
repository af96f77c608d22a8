"""SSD, torchvision, TensorFlow's detectors, and all that has boxes, scores and classes in outputs of their own.

    boxes [boxes, 4]    scores [boxes]             classes [boxes]   how many: a number, where the rest is padding
    boxes [boxes, 4]    scores [boxes, classes]                      all candidates; a first class may be the background

Boxes are pixels, or shares of the picture; TensorFlow's begin with the top, and its classes with 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from edged.decode.resize import Size
from edged.results.heads.detectors.reading import Array, Found, Reading, Seen, Shape, best_class, in_pixels

CLASSES = ("class", "label")
COUNTS = ("num", "count", "valid")


class Chosen(Reading, frozen=True):
    """Boxes that are chosen already: `tensors` are boxes, scores, classes, and how many if that is said. `begins_with_top`: as
    TensorFlow has it. `first`: the number of the first class."""

    name: ClassVar[str] = "ssd"
    is_final: ClassVar[bool] = True
    picture: Size = (0, 0)
    begins_with_top: bool = False
    first: int = 0

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        boxes, scores, classes = (row[name] for name in self.tensors[:3])
        boxes, scores, classes = boxes.reshape(-1, 4), scores.reshape(-1), classes.reshape(-1)
        kept = scores > above
        if len(self.tensors) > 3:
            kept[int(row[self.tensors[3]].reshape(-1)[0]) :] = False
        boxes = boxes[kept][:, [1, 0, 3, 2]] if self.begins_with_top else boxes[kept]
        return Found(in_pixels(boxes, self.picture), scores[kept], classes[kept].astype(np.intp) - self.first)


class Ssd(Reading, frozen=True):
    """All candidates. `has_background`: the first column is no class."""

    name: ClassVar[str] = "ssd"
    picture: Size = (0, 0)
    has_background: bool = False

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        boxes, scores = (row[name].reshape(-1, row[name].shape[-1]) for name in self.tensors)
        score, classes = best_class(scores[:, self.has_background :])
        kept = score > above
        return Found(in_pixels(boxes[kept], self.picture), score[kept], classes[kept])


def read(seen: Seen) -> Reading | None:
    boxes = [n for n, s in seen.shapes.items() if s and s[-1] == 4 and len(s) in (1, 2)]
    named = [n for n in boxes if "box" in n.lower()]
    if len(boxes) > 1:
        boxes = named
    others = {n: s for n, s in seen.shapes.items() if n not in boxes}
    if len(boxes) != 1 or not others:
        return None
    return _chosen(seen, boxes[0], others) or _candidates(seen, boxes[0], others)


def _chosen(seen: Seen, boxes: str, others: Mapping[str, Shape]) -> Reading | None:
    counts = [n for n, s in others.items() if any(word in n.lower() for word in COUNTS) and len(s) <= 1]
    flat = [n for n, s in others.items() if n not in counts and (len(s) <= 1 or s[-1] == 1)]
    classes = [n for n in flat if any(word in n.lower() for word in CLASSES)] or [n for n in flat if n in seen.whole]
    scores = [n for n in flat if n not in classes]
    if len(classes) != 1 or len(scores) != 1 or len(counts) > 1:
        return None
    is_tensorflow = boxes.startswith("detection_boxes")
    tensors = (boxes, scores[0], classes[0], *counts)
    return Chosen(tensors, None, picture=seen.picture, begins_with_top=is_tensorflow, first=int(is_tensorflow))


def _candidates(seen: Seen, boxes: str, others: Mapping[str, Shape]) -> Reading | None:
    boxes_of = seen.shapes[boxes][0]
    wide = [n for n, s in others.items() if len(s) == 2 and s[0] in (None, boxes_of) and (s[1] or 0) > 1]
    if len(wide) != 1 or len(others) != 1 or "logit" in wide[0].lower():
        return None
    columns = others[wide[0]][1] or 0
    has_background = columns == 2 if seen.classes is None else columns == seen.classes + 1
    classes = columns - has_background
    if seen.classes not in (None, classes) or boxes_of == seen.cells():
        return None
    return Ssd((boxes, wide[0]), classes, picture=seen.picture, has_background=has_background)
