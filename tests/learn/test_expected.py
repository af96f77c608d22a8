from __future__ import annotations

import numpy as np
import pytest

from edged.learn.expected import FALSE_PER_DAY, Tail, drift, expect, smooth
from edged.results.heads.rows import Mean


def test_the_threshold_holds_on_what_was_not_seen() -> None:
    rng = np.random.default_rng(2)
    usual = 0.3 * np.sqrt(rng.chisquare(4, 24000))
    found = expect(usual, [0] * len(usual), 100_000)
    assert found.above >= 1.0
    assert found.false_per_day <= FALSE_PER_DAY
    later = smooth(0.3 * np.sqrt(rng.chisquare(4, 1_000_000)), [0] * 1_000_000, found.smooth)
    assert np.mean(later > found.above) * 100_000 <= 5 * FALSE_PER_DAY


def test_a_tail_is_where_scores_are() -> None:
    scores = np.random.default_rng(3).exponential(1.0, 100_000)
    tail = Tail.of(scores)
    assert tail.above(1e-4) == pytest.approx(-np.log(1e-4), rel=0.1)
    assert tail.share(tail.above(1e-5)) == pytest.approx(1e-5)


def test_a_mean_is_the_one_of_the_daemon() -> None:
    rng = np.random.default_rng(4)
    scores, keys = rng.random(300), rng.integers(0, 7, 300).tolist()
    daemon = Mean(5, 7, 1).of(scores[:, None], keys, None)[:, 0]
    np.testing.assert_allclose(smooth(scores, keys, 5), daemon)


def test_what_drifted_furthest_comes_first() -> None:
    features = np.zeros((90, 3))
    features[60:, 1] = 4.0
    features[60:, 2] = -1.0
    assert drift(features, np.array([1.0, 2.0, 1.0]), ["a", "b", "c"], most=2) == [("b", 2.0), ("c", -1.0)]
