from __future__ import annotations

import numpy as np

from edged.learn.moments import Moments


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    rows = np.random.default_rng(0).normal(101325, [0.5, 2, 30], (1000, 3))
    whole = Moments.of(rows)
    parts = Moments.none(3)
    for part in np.split(rows, [1, 17, 17, 600]):
        parts = parts + Moments.of(part)
    assert parts.count == whole.count == 1000
    np.testing.assert_allclose(parts.mean, rows.mean(axis=0))
    np.testing.assert_allclose(parts.covariance, np.cov(rows.T, bias=True), rtol=1e-6)
    np.testing.assert_allclose(whole.deviation, rows.std(axis=0))


def test_of_nothing() -> None:
    nothing = Moments.none(2) + Moments.none(2)
    assert nothing.count == 0
    assert nothing.deviation.tolist() == [0, 0]
