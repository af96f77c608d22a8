"""Masks of what was detected: mixed from a model's prototypes, as an outline or in runs.

A mask lies on the grid of the prototypes, a quarter as fine as what the model sees. Everything is bounded: an outline has at most
`MAX_POINTS` points, a mask at most `MAX_RUNS` runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.resize import Size

MAX_POINTS = 64
MAX_RUNS = 1024
TOLERANCE = 0.75
"""Of a cell: how far an outline may lie from that of the cells."""
POLYGON, RLE = FORMS = ("polygon", "rle")

Array = NDArray[Any]


class Grid(NamedTuple):
    """A mask `[height, width]` of bools, and where it begins on the grid: left, top."""

    mask: Array
    left: int
    top: int


def mixed(factors: Array, prototypes: Array, box: Array, seen: Size) -> Grid:
    """The mask of one box (in pixels of what the model saw), within that box."""
    _, height, width = prototypes.shape
    scale = np.array([width / seen[0], height / seen[1]] * 2)
    left, top, right, bottom = box * scale
    x0, y0 = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
    x1, y1 = min(width, max(x0 + 1, int(np.ceil(right)))), min(height, max(y0 + 1, int(np.ceil(bottom))))
    part = prototypes[:, y0:y1, x0:x1]
    return Grid(np.tensordot(factors, part, axes=1) > 0, x0, y0)


def outline(grid: Grid) -> Array:
    """The corners of the largest outline, `[n, 2]` on the grid; empty where nothing is set."""
    loops = _loops(grid.mask)
    if not loops:
        return np.empty((0, 2))
    largest = max(loops, key=lambda loop: abs(_area(loop)))
    tolerance, points = TOLERANCE, _simplified(largest, TOLERANCE)
    if len(points) < 3:  # of a cell or two
        points = largest[:MAX_POINTS]
    while len(points) > MAX_POINTS:
        tolerance *= 1.5
        points = _simplified(largest, tolerance)
    placed: Array = points + np.array([grid.left, grid.top])
    return placed


def runs(grid: Grid, size: Size, origin: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """COCO's runs of a grid of `size` that begins at `origin`: column by column, how many cells are not set, then set, and so on.
    Where there would be too many the grid is made coarser."""
    whole = np.zeros((size[1], size[0]), np.bool_)
    x, y = grid.left - origin[0], grid.top - origin[1]
    x0, y0 = max(0, x), max(0, y)
    part = grid.mask[y0 - y :, x0 - x :][: max(0, size[1] - y0), : max(0, size[0] - x0)]
    whole[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    while len(counts := _counts(whole)) > MAX_RUNS:
        whole = whole[::2, ::2]
    return {"size": [*whole.shape], "counts": counts}


def _counts(mask: Array) -> list[int]:
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate(([0], changes, [len(flat)]))
    counts: list[int] = np.diff(ends).tolist()
    return [0, *counts] if len(flat) and flat[0] else counts


def _loops(mask: Array) -> list[Array]:
    """The borders of what is set, as closed walks along the edges of cells with the set ones on the right."""
    padded = np.pad(mask, 1).astype(np.int8)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(places: Array, start: tuple[int, int], stop: tuple[int, int]) -> None:
        for y, x in places.tolist():
            steps.setdefault((x + start[0], y + start[1]), []).append((x + stop[0], y + stop[1]))

    inner = padded[1:-1, 1:-1]
    add(np.argwhere((inner == 1) & (padded[:-2, 1:-1] == 0)), (0, 0), (1, 0))
    add(np.argwhere((inner == 1) & (padded[1:-1, 2:] == 0)), (1, 0), (1, 1))
    add(np.argwhere((inner == 1) & (padded[2:, 1:-1] == 0)), (1, 1), (0, 1))
    add(np.argwhere((inner == 1) & (padded[1:-1, :-2] == 0)), (0, 1), (0, 0))
    loops = []
    while steps:
        first = at = next(iter(steps))
        loop = []
        while at in steps:
            after = steps[at]
            loop.append(at)
            at = after.pop()
            if not after:
                del steps[loop[-1]]
        if at == first:
            loops.append(np.array(loop, float))
    return loops


def _area(loop: Array) -> float:
    x, y = loop.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _simplified(loop: Array, tolerance: float) -> Array:
    """Douglas and Peucker's corners of a closed walk, cut where two of its points lie far apart."""
    far = int(np.argmax(((loop - loop[0]) ** 2).sum(axis=1)))
    kept = {0, far}
    todo = [(0, far), (far, len(loop))]
    closed = np.concatenate((loop, loop[:1]))
    while todo:
        a, b = todo.pop()
        if b - a < 2:
            continue
        start, stop = closed[a], closed[b]
        way = stop - start
        between = closed[a + 1 : b] - start
        length = float(np.hypot(*way))
        distance = np.abs(between[:, 0] * way[1] - between[:, 1] * way[0]) / length if length else np.hypot(*between.T)
        at = int(np.argmax(distance))
        if distance[at] > tolerance:
            middle = a + 1 + at
            kept.add(middle)
            todo += [(a, middle), (middle, b)]
    return loop[sorted(k for k in kept if k < len(loop))]
