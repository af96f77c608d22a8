"""YOLOv5 to v7: `[boxes, 5 + classes]`: centre, width and height, whether there is anything at all, a score for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from edged.results.heads.detectors.reading import STRIDES, Array, Found, Reading, Seen, best_class, edges
from edged.results.heads.detectors.yolox import decoded

ANCHORS = 3
"""Boxes for each cell of its grids, one of which has cells of each of the strides (the last only at times)."""


class YoloV5(Reading, frozen=True):
    """`picture`: where the file leaves the number of boxes open, a box for each cell is a YOLOX's."""

    name: ClassVar[str] = "yolov5"
    picture: tuple[int, int] = (0, 0)
    cells: int = 0

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        tensor = row[self.tensors[0]]
        if self.cells and len(tensor) == self.cells:
            tensor = decoded(tensor, self.picture)
        return scored(tensor, above)


def scored(tensor: Array, above: float) -> Found:
    kept = tensor[tensor[:, 4] > above]  # no class can score more than whether there is anything
    scores, classes = best_class(kept[:, 5:])
    scores = scores * kept[:, 4]
    is_good = scores > above
    return Found(edges(kept[is_good]), scores[is_good], classes[is_good])


def read(seen: Seen) -> Reading | None:
    name, shape = seen.single or ("", ())
    if len(shape) != 2:
        return None
    a, b = shape
    grids = {ANCHORS * seen.cells(), ANCHORS * seen.cells(STRIDES)}
    if b is None or b <= 5 or seen.classes not in (None, b - 5) or (a is not None and a <= b and not seen.is_told):
        return None
    if seen.is_told:
        return YoloV5((name,), b - 5)
    if seen.task:  # which only later ones write
        return None
    if a == seen.cells() or (b == 6 and a is not None and a not in grids):  # an end-to-end head
        return None
    return YoloV5((name,), b - 5, picture=seen.picture, cells=seen.cells() if a is None else 0)
