from __future__ import annotations

import numpy as np
import pytest

from edged.learn.scores import Scores


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 0.999])
def test_a_quantile_is_that_of_the_scores(share: float) -> None:
    scores = np.random.default_rng(1).gamma(5, 3, 20000)
    found = Scores.of(scores[:500]) + Scores.of(scores[500:])
    assert found.total == 20000
    assert found.quantile(share) == pytest.approx(np.quantile(scores, share), rel=0.012)


def test_what_lies_beside_the_grid_counts_at_its_end() -> None:
    found = Scores.of(np.array([0.0, 1e9]))
    assert found.quantile(0.2) < 1.1e-4
    assert found.quantile(1.0) == pytest.approx(1e6)
