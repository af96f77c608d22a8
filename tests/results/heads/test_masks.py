"""Masks against what they were drawn from: outlines enclose the same cells, runs are COCO's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.results.heads.masks import MAX_POINTS, MAX_RUNS, Grid, mixed, outline, points_each, runs


def inside(points: Any, height: int, width: int) -> Any:
    """Cells whose centre lies in a polygon, by counting the edges to the right of it."""
    y, x = np.mgrid[:height, :width] + 0.5
    found = np.zeros((height, width), bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crosses = (y1 > y) != (y2 > y)
        if y1 != y2:
            found ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return found


def shape(name: str) -> Any:
    y, x = np.mgrid[:60, :80]
    return {
        "square": (x > 10) & (x < 30) & (y > 20) & (y < 50),
        "disc": (x - 40) ** 2 + (y - 30) ** 2 < 400,
        "horseshoe": ((x - 40) ** 2 + (y - 30) ** 2 < 600) & ((x - 40) ** 2 + (y - 15) ** 2 > 200),
        "cell": (x == 3) & (y == 4),
        "edge": x < 20,
    }[name]


@pytest.mark.parametrize("name", ["square", "disc", "horseshoe", "cell", "edge"])
def test_an_outline_encloses_what_is_set(name: str) -> None:
    mask = shape(name)
    points = outline(Grid(mask, 0, 0))
    assert 4 <= len(points) <= MAX_POINTS
    both = inside(points, *mask.shape)
    assert (both & mask).sum() / (both | mask).sum() > 0.95


def test_the_largest_of_several_and_none() -> None:
    assert outline(Grid(shape("square") | shape("cell"), 5, 7)).min(axis=0).tolist() == [16, 28]
    assert outline(Grid(np.zeros((4, 4), bool), 0, 0)).shape == (0, 2)


def test_noise_is_bounded() -> None:
    noise = np.random.default_rng(0).uniform(size=(160, 160)) > 0.4
    assert len(outline(Grid(noise, 0, 0))) <= MAX_POINTS
    assert len(outline(Grid(noise, 0, 0), 8)) <= 8
    assert (points_each(1), points_each(100)) == (MAX_POINTS, 15)
    assert len(runs(Grid(noise, 0, 0), (160, 160))["counts"]) <= MAX_RUNS


def test_runs_are_cocos() -> None:
    mask = np.array([[1, 0, 1], [1, 1, 0]], bool)
    assert runs(Grid(mask, 0, 0), (3, 2)) == {"size": [2, 3], "counts": [0, 2, 1, 2, 1]}
    assert runs(Grid(mask, 1, 1), (4, 4)) == {"size": [4, 4], "counts": [5, 2, 3, 1, 2, 1, 2]}
    assert runs(Grid(mask, 1, 0), (2, 2), (1, 0)) == {"size": [2, 2], "counts": [0, 2, 1, 1]}


def test_a_mask_is_mixed_within_its_box() -> None:
    prototypes = np.zeros((2, 8, 8), np.float32)
    prototypes[0] = 1
    prototypes[1, :, 4:] = -3
    grid = mixed(np.array([1.0, 1.0], np.float32), prototypes, np.array([16.0, 8, 48, 24]), (64, 64))
    assert (grid.left, grid.top, grid.mask.tolist()) == (2, 1, [[True, True, False, False]] * 2)
