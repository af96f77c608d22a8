"""Masks of what was detected: mixed from a model's prototypes, as an outline or in runs.

A mask lies on the grid of the prototypes, a quarter as fine as what the model sees. Everything is bounded: an outline has at most
`MAX_POINTS` points, a mask at most `MAX_RUNS` runs.
"""

from __future__ import annotations

import heapq
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.decode.resize import Size

MAX_POINTS = 64
ALL_POINTS, MIN_POINTS = 1536, 8
"""Of all outlines of a result together, and of each at least: finding one takes some 20 us, which the loop waits for."""
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


def outline(grid: Grid, most: int = MAX_POINTS) -> Array:
    """At most so many corners of the longest outline, `[n, 2]` on the grid; empty where nothing is set."""
    border = _longest_border(grid.mask)
    if not len(border):
        return np.empty((0, 2))
    points = _simplified(border, most)
    if len(points) < 3:  # of a cell or two
        points = border[:most]
    placed: Array = points + np.array([grid.left, grid.top])
    return placed


def points_each(count: int) -> int:
    """How many corners each of `count` outlines may have."""
    return max(MIN_POINTS, min(MAX_POINTS, ALL_POINTS // max(1, count)))


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


def _longest_border(mask: Array) -> Array:
    """Of the borders of what is set the longest, as a closed walk along the edges of cells with the set ones on the right."""
    padded = np.pad(mask, 1)
    inner, line = padded[1:-1, 1:-1], mask.shape[1] + 1
    # By the side on which a cell has no neighbour: where the walk begins and ends there, from the cell's upper left corner.
    sides = (
        (padded[:-2, 1:-1], 0, 1),
        (padded[1:-1, 2:], 1, line + 1),
        (padded[2:, 1:-1], line + 1, line),
        (padded[1:-1, :-2], line, 0),
    )
    steps: dict[int, int] = {}
    crossed: dict[int, int] = {}  # where two cells touch at a corner, two ways begin
    for beside, start, stop in sides:
        y, x = np.nonzero(inner & ~beside)
        corner = y * line + x
        for a, b in zip((corner + start).tolist(), (corner + stop).tolist(), strict=True):
            (crossed if a in steps else steps)[a] = b
    longest: list[int] = []
    while steps:
        at, walk = next(iter(steps)), list[int]()
        while (after := steps.pop(at, None)) is not None:
            if at in crossed:
                steps[at] = crossed.pop(at)
            walk.append(at)
            at = after
        longest = max(longest, walk, key=len)
    return np.stack(np.divmod(np.array(longest, np.intp), line)[::-1], axis=1).astype(float)


def _simplified(loop: Array, most: int) -> Array:
    """Douglas and Peucker's corners of a closed walk, which is cut where two of its points lie far apart: the furthest first, so
    that so many are the best so many."""
    closed = np.concatenate((loop, loop[:1]))
    far = int(np.argmax(((loop - loop[0]) ** 2).sum(axis=1)))
    kept = {0, far}
    todo = [_furthest(closed, 0, far), _furthest(closed, far, len(loop))]
    heapq.heapify(todo)
    while len(kept) < most and -todo[0].distance > TOLERANCE:
        _, at, start, stop = heapq.heappop(todo)
        kept.add(at)
        heapq.heappush(todo, _furthest(closed, start, at))
        heapq.heappush(todo, _furthest(closed, at, stop))
    return loop[sorted(kept)]


class _Corner(NamedTuple):
    """The point of a part of a walk that lies furthest from its chord; `distance` is negative: the furthest comes first."""

    distance: float
    at: int
    start: int
    stop: int


def _furthest(closed: Array, start: int, stop: int) -> _Corner:
    if stop - start < 2:
        return _Corner(0.0, start, start, stop)
    way = closed[stop] - closed[start]
    between = closed[start + 1 : stop] - closed[start]
    length = math.hypot(*way)
    distance = np.abs(between[:, 0] * way[1] - between[:, 1] * way[0]) / length if length else np.hypot(*between.T)
    at = int(distance.argmax())
    return _Corner(-float(distance[at]), start + 1 + at, start, stop)
