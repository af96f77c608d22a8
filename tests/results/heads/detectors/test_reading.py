from __future__ import annotations

import numpy as np

from edged.results.heads.detectors.reading import Seen, best_class, edges, enclosing, in_pixels


def test_edges_of_boxes() -> None:
    assert edges(np.array([[10.0, 20, 4, 6]])).tolist() == [[8, 17, 12, 23]]
    assert enclosing(np.array([[10.0, 20, 4, 6, 0]])).tolist() == [[8, 17, 12, 23]]
    assert np.allclose(enclosing(np.array([[10.0, 20, 4, 6, np.pi / 2]])), [[7, 18, 13, 22]])


def test_shares_of_the_picture_become_pixels_and_pixels_stay() -> None:
    assert in_pixels(np.array([[0.1, 0.5, 1.0, 1.0]]), (200, 100)).tolist() == [[20, 50, 200, 100]]
    assert in_pixels(np.array([[3.0, 0.5, 1.0, 1.0]]), (200, 100)).tolist() == [[3, 0.5, 1, 1]]
    assert in_pixels(np.empty((0, 4)), (200, 100)).shape == (0, 4)


def test_the_best_class_of_none() -> None:
    scores, classes = best_class(np.empty((0, 3), np.float32))
    assert (scores.shape, classes.shape) == ((0,), (0,))


def test_cells() -> None:
    assert Seen({}, None, (640, 640)).cells() == 8400
