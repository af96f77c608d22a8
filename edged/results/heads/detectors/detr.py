"""DETR and RT-DETR: queries, each with scores of all classes and a box as shares of the picture: centre, width and height.

Logits and boxes are outputs of their own, or stand in one `[queries, 4 + classes]`; newer exports of Ultralytics have chosen:
`[queries, 6]` with score and class. DETR has a last class for "nothing" and its
scores are one choice of all; those of RT-DETR and its kin are each by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from edged.decode.resize import Size
from edged.results.heads.detectors.reading import Array, Found, Reading, Seen, best_class, edges, in_pixels

DETR_COLUMNS = 92
"""The classes of COCO as DETR counts them, with the one for nothing."""
COCO_COLUMNS = (80, 91)
"""The classes of COCO as those count them that have none for nothing."""
MAX_QUERIES = 3000


class Detr(Reading, frozen=True):
    """`has_nothing`: the last column is no class. `picture`: what boxes are shares of. `is_chosen`: a score and its class stand
    behind the box."""

    name: ClassVar[str] = "detr"
    is_final: ClassVar[bool] = True  # queries do not find a thing twice
    picture: Size = (0, 0)
    has_nothing: bool = False
    is_chosen: bool = False

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        if len(self.tensors) == 1:
            [tensor] = (row[name] for name in self.tensors)
            boxes, scores = tensor[:, :4], tensor[:, 4:]
            if self.is_chosen:
                kept = scores[:, 0] > above
                classes = scores[kept, 1].astype(np.intp)
                return Found(in_pixels(edges(boxes[kept]), self.picture), scores[kept, 0], classes)
        else:
            scores, boxes = (row[name].reshape(-1, row[name].shape[-1]) for name in self.tensors)
        scores = probabilities(scores, self.has_nothing)
        score, classes = best_class(scores)
        kept = score > above
        return Found(in_pixels(edges(boxes[kept]), self.picture), score[kept], classes[kept])


def probabilities(scores: Array, has_nothing: bool) -> Array:
    if has_nothing:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Array = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
        return shares
    if not scores.size or (scores.min() >= 0 and scores.max() <= 1):
        return scores
    out: Array = 1 / (1 + np.exp(-np.clip(scores, -80, 80)))
    return out


def read(seen: Seen) -> Reading | None:
    if (single := seen.single) is not None and len(seen.shapes) == 1:
        name, (a, b) = single[0], single[1]
        if seen.decoder == "queries":
            return Detr((name,), None, picture=seen.picture, is_chosen=True) if b == 6 else None
        if seen.decoder == "scores":
            known = b is not None and b > 4 and seen.classes in (None, b - 4)
            return Detr((name,), b - 4, picture=seen.picture) if b is not None and known else None
        is_grid = a in (seen.cells(), 3 * seen.cells(), 3 * seen.cells((8, 16, 32, 64)))
        if a is None or b is None or b <= 6 or a > MAX_QUERIES or a <= b or is_grid or seen.classes != b - 4:
            return None
        return Detr((name,), b - 4, picture=seen.picture)
    if (pair := _pair(seen)) is None:
        return None
    logits, boxes, columns = pair
    if columns is None or (seen.classes is None and columns not in (DETR_COLUMNS, *COCO_COLUMNS)):
        return None
    has_nothing = columns == DETR_COLUMNS if seen.classes is None else columns == seen.classes + 1
    classes = columns - has_nothing
    if seen.classes not in (None, classes):
        return None
    return Detr((logits, boxes), classes, picture=seen.picture, has_nothing=has_nothing)


def _pair(seen: Seen) -> tuple[str, str, int | None] | None:
    """Logits and boxes that are outputs of their own, and the columns of the logits."""
    pairs = seen.of_rank(2)
    boxes = [n for n, s in pairs.items() if s[1] == 4 and ("box" in n.lower() or len(pairs) == 2)]
    logits = [n for n in pairs if "logit" in n.lower() or n.lower().endswith("cls")]
    if len(boxes) != 1 or len(logits) != 1 or boxes == logits:
        return None
    return logits[0], boxes[0], pairs[logits[0]][1]


def doubt(seen: Seen) -> str:
    """What must be said before such logits can be read; empty where that is not what is missing."""
    name, _, columns = _pair(seen) or ("", "", None)
    if columns is None or seen.classes is not None:
        return ""
    text = f"{name} has {columns} columns, and nothing says whether the last is a class (RT-DETR) or stands for nothing (DETR)"
    return f"{text}: give the labels, {columns} or {columns - 1} of them"
