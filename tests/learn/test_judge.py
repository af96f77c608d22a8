from __future__ import annotations

import numpy as np
import pytest

from edged.learn.judge import Answer, accuracy, agreement, auc, confusion, drift, onsets, rates, read_labels
from edged.learn.moments import Moments

S = 10**9
START = 1_790_000_000 * S


def anomalies(*given: tuple[float, bool], key: str = "") -> list[Answer]:
    return [Answer(START + round(t * S), key, {"score": 2.0 if on else 0.1, "anomaly": on}) for t, on in given]


def test_labels_hold_until_the_next_one_or_their_end() -> None:
    labels = read_labels("time,label,end\n0,ok,\n10,worn,12\n20,ok,\n", START)
    said = [labels.at("", START + round(t * S)) for t in (-1, 0, 9.9, 10, 11.9, 12, 19, 20, 1e6)]
    assert said == [None, "ok", "ok", "worn", "worn", None, None, "ok", "ok"]


def test_labels_of_keys_and_of_all_others() -> None:
    labels = read_labels("\ufeffstart, label, key\n2026-09-21T14:13:30Z, ok, \n1790000010, worn, p7\n".lstrip("\ufeff"), START)
    assert labels.names == ["ok", "worn"]
    assert labels.at("p1", START + 11 * S) == "ok"
    assert labels.at("p7", START + 9 * S) is None
    assert labels.at("p7", START + 11 * S) == "worn"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected the columns time"),
        ("time,label\n1,a\nsoon,b\n", "line 3: expected seconds since the start, or a time"),
    ],
)
def test_labels_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_labels(text, START)


def test_a_confusion_table() -> None:
    labels = read_labels("time,label,end\n0,a,2\n2,b,4\n", START)
    said = "aabab"  # the last one came when nobody knows
    table = confusion([Answer(START + i * S, "", {"label": x}) for i, x in enumerate(said)], labels)
    assert table == {("a", "a"): 2, ("b", "b"): 1, ("b", "a"): 1}
    assert accuracy(table) == 0.75


def test_rates_of_spans_and_of_results() -> None:
    labels = read_labels("time,label\n0,normal\n10,worn\n20,normal\n30,worn\n40,normal\n", START)
    answers = anomalies((1, False), (5, True), (11, False), (12, True), (21, False), (31, False), (41, False))
    normal, worn = rates(answers, labels, "normal")
    assert (normal.label, normal.count, normal.flagged, normal.auc) == ("normal", 4, 1, None)
    assert (worn.count, worn.flagged, worn.spans, worn.found) == (3, 1, 2, 1)
    assert worn.auc == pytest.approx((3 + 0.5 + 2 * 3 * 0.5) / 12)
    assert onsets(answers) == 2
    assert onsets(answers, lambda a: labels.at("", a.time) == "normal") == 1


def test_the_area_under_a_curve() -> None:
    assert auc(np.array([1.0, 2]), np.array([3.0, 4])) == 1.0
    assert auc(np.array([1.0, 2]), np.array([1.0, 2])) == 0.5
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(60)
    assert auc(a, b) == pytest.approx(np.mean(b[:, None] > a[None, :]))


def test_drift_in_deviations_of_then() -> None:
    rng = np.random.default_rng(1)
    found = Moments.of(np.stack([rng.normal(3, 2, 20000), rng.normal(0, 1, 20000), np.full(20000, 5.0)], axis=1))
    a, b, c = drift(found, ["a", "b", "c"], [0, 0, 5], [2, 1, 0])
    assert a.is_far
    assert (round(a.shift, 1), round(a.spread, 1)) == (1.5, 1.0)
    assert not b.is_far
    assert not c.is_far


def test_agreement_of_the_same_windows() -> None:
    a, b = anomalies((1, False), (2, True), (3, True)), anomalies((2, True), (3, False), (4, True))
    assert agreement(a, b, "anomaly") == 0.5
    assert agreement(a, [], "anomaly") is None
