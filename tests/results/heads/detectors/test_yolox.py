from __future__ import annotations

import math

import numpy as np
import pytest

from edged.results.heads.detectors.yolox import YoloX


@pytest.mark.parametrize("is_decoded", [False, True])
def test_as_the_papers_loop_over_the_grids_says(is_decoded: bool) -> None:
    """Every cell of three grids over 96 x 64 pixels has a box; decoded by the graph or by us they are the same."""
    rng = np.random.default_rng(0)
    raw, pixels = [], []
    for stride in (8, 16, 32):
        for y in range(64 // stride):
            for x in range(96 // stride):
                dx, dy, w, h = rng.uniform(-1, 1, 4)
                scores = rng.uniform(0, 1, 3)
                raw.append([dx, dy, w, h, *scores])
                pixels.append([(dx + x) * stride, (dy + y) * stride, math.exp(w) * stride, math.exp(h) * stride, *scores])
    row = np.array(pixels if is_decoded else raw, np.float32)
    found = YoloX(("y",), 2, picture=(96, 64)).candidates({"y": row}, 0.3)
    expected = [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2, anything * max(a, b), int(b > a))
        for x, y, w, h, anything, a, b in pixels
        if anything * max(a, b) > 0.3
    ]
    assert len(expected) > 10
    assert np.allclose(found.boxes, [e[:4] for e in expected], atol=1e-3)
    assert np.allclose(found.scores, [e[4] for e in expected])
    assert found.classes.tolist() == [e[5] for e in expected]
