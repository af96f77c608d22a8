"""YOLO-NAS: boxes `[cells, 4]` as left, top, right, bottom, and scores `[cells, classes]`, each an output of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from edged.results.heads.detectors.reading import Array, Found, Reading, Seen, best_class


class YoloNas(Reading, frozen=True):
    name: ClassVar[str] = "yolo-nas"

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        boxes, scores = (row[name] for name in self.tensors)
        score, classes = best_class(scores)
        kept = score > above
        return Found(boxes[kept], score[kept], classes[kept])


def read(seen: Seen) -> Reading | None:
    pairs = seen.of_rank(2)
    boxes = [n for n, s in pairs.items() if s[1] == 4 and s[0] in (seen.cells(), None)]
    scores = [n for n, s in pairs.items() if n not in boxes[:1] and s[1] is not None]
    if len(pairs) != 2 or len(seen.shapes) != 2 or not boxes or len(scores) != 1:
        return None
    classes = pairs[scores[0]][1]
    is_of_cells = pairs[boxes[0]][0] == pairs[scores[0]][0] == seen.cells()
    if not is_of_cells or seen.classes not in (None, classes):
        return None
    return YoloNas((boxes[0], scores[0]), classes)
