"""YOLOX and YOLOv6: `[cells, 5 + classes]`, one box for each cell of the grids, as YOLOv5 has them.

YOLOX leaves its boxes as they come out of the network: an offset from the cell in cells, and the logarithm of the size. Exports
with the decoding in the graph, and YOLOv6, give pixels; the positions of all cells together tell which.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

import numpy as np

from edged.decode.resize import Size
from edged.results.heads.detectors.reading import STRIDES, Array, Found, Reading, Seen, best_class, edges

OFFSETS = 16
"""No offset from a cell is so large; the last cells of a picture lie further away than that."""


class YoloX(Reading, frozen=True):
    name: ClassVar[str] = "yolox"
    picture: Size = (0, 0)

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        tensor = decoded(row[self.tensors[0]], self.picture)
        kept = tensor[tensor[:, 4] > above]
        scores, classes = best_class(kept[:, 5:])
        scores = scores * kept[:, 4]
        is_good = scores > above
        return Found(edges(kept[is_good]), scores[is_good], classes[is_good])


def read(seen: Seen) -> Reading | None:
    name, shape = seen.single or ("", ())
    if len(shape) != 2 or shape[0] != seen.cells() or shape[1] is None:
        return None
    classes = shape[1] - 5
    return YoloX((name,), classes, picture=seen.picture) if classes > 0 and seen.classes in (None, classes) else None


def decoded(tensor: Array, picture: Size) -> Array:
    """Centre, width and height in pixels, followed by all else."""
    if float(np.abs(tensor[:, :2]).max(initial=0)) > OFFSETS:
        return tensor
    cells, strides = _grid(picture)
    out: Array = tensor.copy()
    out[:, :2] = (tensor[:, :2] + cells) * strides
    out[:, 2:4] = np.exp(np.minimum(tensor[:, 2:4], 10)) * strides  # beyond that no picture is so large
    return out


@lru_cache(maxsize=8)
def _grid(picture: Size) -> tuple[Array, Array]:
    """The column and row of each cell, and its size, in the order of the output: row by row, the finest grid first."""
    cells, strides = [], []
    for stride in STRIDES[:3]:
        width, height = picture[0] // stride, picture[1] // stride
        y, x = np.divmod(np.arange(width * height, dtype=np.float32), max(width, 1))
        cells.append(np.stack((x, y), axis=1))
        strides.append(np.full((width * height, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)
