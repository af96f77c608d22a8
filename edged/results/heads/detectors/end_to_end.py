"""Heads that have chosen already: `[boxes, 6 + more]`: left, top, right, bottom, score, class (YOLOv10 and 26, exports with NMS).

Rotated boxes have centre, width and height instead, and their angle behind the class. `more` is as in `yolov8`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from edged.decode.resize import Size
from edged.results.heads.detectors.reading import PLAIN, STRIDES, Array, Found, Members, Reading, Seen, enclosing, in_pixels
from edged.results.heads.detectors.yolov8 import prototypes

COLUMNS = 6


class EndToEnd(Reading, frozen=True):
    name: ClassVar[str] = "end-to-end"
    is_final: ClassVar[bool] = True
    picture: Size = (0, 0)

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        tensor = row[self.tensors[0]]
        kept = tensor[tensor[:, 4] > above]
        scores, classes, more = kept[:, 4], kept[:, 5].astype(np.intp), kept[:, COLUMNS:]
        if self.members.is_rotated:
            turned = np.concatenate((kept[:, :4], more[:, :1]), axis=1)
            return Found(enclosing(turned), scores, classes, turned)
        return Found(in_pixels(kept[:, :4], self.picture), scores, classes, more if more.shape[1] else None)


def read(seen: Seen) -> Reading | None:
    name, shape = seen.single or ("", ())
    if len(shape) != 2 or seen.decoder:
        return None
    a, b = shape
    members = None if b is None else _members(seen, b - COLUMNS)
    is_grid = a is not None and a in (seen.cells(), 3 * seen.cells(), 3 * seen.cells(STRIDES))
    if members is None or (is_grid and not seen.is_told):
        return None
    return EndToEnd((name,) if members.masks is None else (name, members.masks), None, members, seen.picture)


def _members(seen: Seen, more: int) -> Members | None:
    """What the numbers behind the class are; None where they cannot be told."""
    protos = prototypes(seen.of_rank(3))
    if more == 0:
        return PLAIN
    if protos is not None and protos[1] == more:
        return Members(masks=protos[0])
    count, of = seen.keypoints or (more // 3, 3)
    if seen.task == "pose" and count * of == more:
        return Members(keypoints=(count, of))
    return Members(is_rotated=True) if seen.task == "obb" and more == 1 else None
