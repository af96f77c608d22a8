from __future__ import annotations

import random
from collections import Counter

import pytest

from edged.pipeline.choice import Choice
from edged.records import Cap, Result
from edged.results.when import Condition

S = 10**9
UNSURE = Condition(("score",), 0.3, 0.6)


def result(score: float, seq: int = 0) -> Result:
    return Result({"score": score}, 0, seq, 0, 0)


def choice() -> Choice:
    return Choice(UNSURE, [Cap(2, 60 * S)], None, lambda: 1.0, 0)


def test_those_that_the_model_is_unsure_of_up_to_the_limit() -> None:
    one = choice()
    said = [one.of(result(score), at * S) for at, score in enumerate((0.1, 0.5, 0.9, 0.4, 0.5, 0.31))]
    assert said == [None, "unsure", None, "unsure", None, None]
    assert one.left_out == 2
    assert one.of(result(0.5), 62 * S) == "unsure", "the limit is for a time"


def test_a_reload_gives_nobody_more() -> None:
    before, after = choice(), choice()
    assert before.of(result(0.5), S) == before.of(result(0.5), 2 * S) == "unsure"
    after.take_over(before)
    assert after.of(result(0.5), 3 * S) is None
    assert after.left_out == 1


@pytest.mark.parametrize("period_s", [3, 7])
def test_a_random_share_whatever_the_results_say(period_s: int) -> None:
    """Over a day of results, two an hour on average, and no more of those that come at a round time."""
    rng = random.Random(16)
    one = Choice(None, [], Cap(2, 3600 * S), lambda: rng.expovariate(1.0), 0)
    hours = 2000
    taken = [at for at in range(0, hours * 3600, period_s) if one.of(result(0.99), at * S) == "audit"]
    assert 2 * hours * 0.95 < len(taken) < 2 * hours * 1.05
    by_quarter = Counter(at % 3600 // 900 for at in taken)
    assert max(by_quarter.values()) < 1.2 * min(by_quarter.values())


def test_an_audit_counts_for_no_limit() -> None:
    one = Choice(UNSURE, [Cap(1, 60 * S)], Cap(1, S), lambda: 1.0, 0)
    assert [one.of(result(0.5), at * S) for at in (1, 1, 1)] == ["audit", "unsure", None]
