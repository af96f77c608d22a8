from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.records import Result
from edged.results.heads.anomaly import AnomalyPlan
from edged.results.heads.classify import ClassifyPlan
from edged.results.heads.head import OutputPlan
from edged.results.heads.raw import RawPlan
from edged.results.heads.regress import RegressPlan
from edged.results.when import Condition, When, WhenPlan, plan_condition, plan_when

CLASSIFY = ClassifyPlan(("y",), 2, labels=("ok", "bad"))
ANOMALY = AnomalyPlan(("y",), above=1)
REGRESS = RegressPlan(("y",), 2)
RAW = RawPlan(("y",))


def planned(output: OutputPlan, **words: Any) -> WhenPlan:
    names = ("change", "of", "above", "below", "label", "min_interval", "max_interval")
    return plan_when(output.result_fields(), output.default_of(), **{n: words.get(n) for n in names})


def result(body: dict[str, Any], key: int = 0, seq: int = 1) -> Result:
    return Result(body, key, seq, 0, 0)


def label(text: str, score: float = 0.9, key: int = 0) -> Result:
    return result({"label": text, "score": score, "scores": {text: score}}, key)


def sent(when: When, bodies: list[dict[str, Any]]) -> list[bool]:
    return [when.decide(result(b), i) is not None for i, b in enumerate(bodies)]


class TestConditions:
    def test_without_conditions_all_pass(self) -> None:
        assert sent(When(WhenPlan(), 1), [{}, {}]) == [True, True]

    def test_above_and_below_are_of_the_score(self) -> None:
        when = When(planned(ANOMALY, above=0.2, below=0.8), 1)
        assert sent(when, [{"score": s} for s in (0.2, 0.3, 0.8, 0.79)]) == [False, True, False, True]

    def test_label_and_above(self) -> None:
        when = When(planned(CLASSIFY, label=("bad",), above=0.8), 1)
        assert [when.decide(r, 0) is not None for r in (label("bad"), label("bad", 0.7), label("ok"))] == [True, False, False]

    def test_of_alone_must_be_true(self) -> None:
        when = When(planned(ANOMALY, of="anomaly"), 1)
        assert sent(when, [{"anomaly": True}, {"anomaly": False}]) == [True, False]

    def test_of_names_a_score_that_may_be_absent(self) -> None:
        when = When(planned(CLASSIFY, of="scores.bad", above=0.5), 1)
        assert sent(when, [{"scores": {"bad": 0.6}}, {"scores": {"ok": 1}}, {"scores": {"bad": 0.5}}]) == [True, False, False]

    def test_null_holds_nothing(self) -> None:
        condition = Condition(of=("outputs", "y"), below=3)
        assert [condition.holds({"outputs": {"y": y}}) for y in (None, [1], 2)] == [False, False, True]

    def test_a_field_that_is_the_result_itself(self) -> None:
        when = When(planned(RAW, of="outputs.y", above=5.0), 1)
        assert sent(when, [{"outputs": {"y": y}} for y in (4.0, 6.0, [6.0], None)]) == [False, True, False, False]

    def test_of_the_envelope(self) -> None:
        plan = planned(CLASSIFY, of="degraded")
        when = When(plan, 1, lambda r, now: {"degraded": r.degraded})
        assert when.decide(label("ok"), 0) is None
        degraded = label("ok")
        degraded.degraded = True
        assert when.decide(degraded, 0) is degraded
        assert not planned(CLASSIFY, of="score", above=1).names_envelope

    @pytest.mark.parametrize(
        ("output", "words", "text"),
        [
            (RAW, {"change": 0.0}, "change: which field? set of"),
            (REGRESS, {"of": "run", "below": 1.0}, "above and below: expected a number field"),
            (RAW, {"above": 1.0}, "above and below: which field?"),
            (CLASSIFY, {"of": "lable"}, "of: expected a field of the result (label, score, scores, scores.ok"),
            (CLASSIFY, {"of": "label", "above": 1.0}, "above and below: expected a number field"),
            (REGRESS, {"label": ("a",)}, "label: expected a text field"),
            (CLASSIFY, {"of": "label", "change": 0.5}, "change: expected a number field"),
            (CLASSIFY, {"min_interval": 2, "max_interval": 1}, "min_interval is longer than max_interval"),
        ],
    )
    def test_what_cannot_be_judged_is_refused(self, output: OutputPlan, words: dict[str, Any], text: str) -> None:
        with pytest.raises(ValueError, match=re.escape(text)):
            planned(output, **words)

    def test_conditions_of_a_gate(self) -> None:
        fields = ANOMALY.result_fields()
        assert plan_condition(fields, "score", of="anomaly", above=None, below=None, label=None).holds({"anomaly": True})


class TestChange:
    def test_differs_from_what_was_last_published(self) -> None:
        when = When(planned(CLASSIFY, change=0.0), 2)
        given = [label("ok"), label("ok"), label("bad"), label("bad"), label("ok", key=1), label("bad"), label("ok")]
        assert [when.decide(r, 0) is not None for r in given] == [True, False, True, False, True, False, True]

    def test_a_dead_band_is_around_what_was_published_not_what_was_seen(self) -> None:
        when = When(planned(REGRESS, change=1.0), 1)
        values = [0.0, 0.6, 1.0, 1.2, 0.3, 0.1]
        assert sent(when, [{"values": {"y0": v, "y1": 0}} for v in values]) == [True, False, False, True, False, True]

    @pytest.mark.parametrize(("change", "want"), [(True, [True, True, False]), (0.0, [True, True, False]), (False, [True] * 3)])
    def test_true_and_nothing_are_any_difference(self, change: float, want: list[bool]) -> None:
        when = When(planned(RAW, change=change, of="outputs.y" if change is not False else None), 1)
        assert sent(when, [{"outputs": {"y": y}} for y in (1.0, 1.5, 1.5)]) == want

    def test_a_dead_band_of_a_class_is_of_its_score(self) -> None:
        when = When(planned(CLASSIFY, change=0.1), 1)
        assert [when.decide(label("ok", s), 0) is not None for s in (0.5, 0.55, 0.7)] == [True, False, True]

    def test_the_conditions_must_hold_too(self) -> None:
        when = When(planned(CLASSIFY, change=0.0, label=("bad",)), 1)
        assert [when.decide(label(t), 0) is not None for t in ("ok", "bad", "ok", "bad")] == [False, True, False, False]

    def test_after_a_reset_the_next_is_the_first(self) -> None:
        when = When(planned(CLASSIFY, change=0.0), 2)
        when.decide(label("ok", key=1), 0)
        when.reset(1)
        assert when.decide(label("ok", key=1), 0) is not None


class TestIntervals:
    def test_the_newest_held_back_goes_when_it_may(self) -> None:
        when = When(planned(CLASSIFY, change=0.0, min_interval=60), 1)
        assert when.decide(label("ok"), 0) is not None
        assert when.decide(label("bad"), 10) is None
        newest = label("bad", 0.7)
        assert when.decide(newest, 20) is None
        assert when.next_due() == 60
        assert when.due(59) == []
        assert when.due(60) == [newest]
        assert when.next_due() is None
        assert when.decide(label("bad"), 100) is None
        assert when.next_due() is None

    def test_what_was_held_back_is_dropped_when_it_no_longer_holds(self) -> None:
        when = When(planned(CLASSIFY, change=0.0, min_interval=60), 1)
        for now, text in ((0, "ok"), (10, "bad"), (20, "ok")):
            when.decide(label(text), now)
        assert when.next_due() is None
        assert when.due(60) == []

    def test_each_key_has_its_own_interval(self) -> None:
        when = When(planned(CLASSIFY, min_interval=60), 3)
        for key, now in ((0, 0), (1, 5), (2, 7), (1, 20), (0, 30)):
            when.decide(label("ok", key=key), now)
        assert when.next_due() == 60
        assert [r.key for r in when.due(64)] == [0]
        assert [r.key for r in when.due(65)] == [1]
        assert when.next_due() is None

    def test_at_least_one_in_max_interval_whether_or_not_the_conditions_hold(self) -> None:
        when = When(planned(CLASSIFY, label=("bad",), max_interval=60), 1)
        assert when.decide(label("ok"), 0) is None
        newest = label("ok", 0.6)
        assert when.decide(newest, 50) is None
        assert when.due(when.next_due() or 0) == [newest]
        assert when.due(1000) == []
        late = label("ok")
        assert when.decide(late, 1000) is late

    def test_a_reset_key_keeps_nothing(self) -> None:
        when = When(planned(CLASSIFY, min_interval=60), 1)
        when.decide(label("ok"), 0)
        when.decide(label("ok"), 1)
        when.reset(0)
        assert when.due(1000) == []


class Naive:
    """The rules of one key, by rote: remembers all results."""

    def __init__(self, change: bool, low: int | None, high: int | None) -> None:
        self.change, self.low, self.high = change, low, high
        self.sent: list[tuple[int, str]] = []
        self.first: int | None = None
        self.newest: tuple[str, bool] | None = None

    def offer(self, text: str, now: int) -> None:
        if self.first is None:
            self.first = now
        wanted = text != "bad" and (not self.change or not self.sent or self.sent[-1][1] != text)
        self.newest = (text, wanted)
        self.tick(now)

    def tick(self, now: int) -> None:
        if self.newest is None:
            return
        text, wanted = self.newest
        may = not self.sent or self.low is None or now >= self.sent[-1][0] + self.low
        since = self.sent[-1][0] if self.sent else self.first
        must = self.high is not None and since is not None and now >= since + self.high
        if (wanted and may) or must:
            self.sent.append((now, text))
            self.newest = None


@settings(max_examples=100)
@given(
    st.booleans(),
    st.sampled_from([None, 3, 7]),
    st.sampled_from([None, 7, 12]),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["ok", "fine", "bad"])), max_size=30),
)
def test_like_the_rules_by_rote(change: bool, low: int | None, high: int | None, steps: list[tuple[int, str]]) -> None:
    words = {"change": 0.0 if change else None, "label": ("ok", "fine"), "min_interval": low, "max_interval": high}
    when, naive, now = When(planned(CLASSIFY, **words), 1), Naive(change, low, high), 0
    out: list[tuple[int, str]] = []
    for pause, text in [*steps, (50, "ok")]:
        for _ in range(pause):
            now += 1
            naive.tick(now)
            due = when.next_due()
            if due is not None and due <= now:
                out += [(now, r.body["label"]) for r in when.due(now)]
        naive.offer(text, now)
        chosen = when.decide(label(text), now)
        if chosen is not None:
            out.append((now, chosen.body["label"]))
    assert out == naive.sent
    if low is not None:
        assert all(b - a >= low for (a, _), (b, _) in pairwise(out))


def test_what_is_held_back_is_told_from_what_waits_for_max_interval() -> None:
    when = When(planned(CLASSIFY, change=0.0, min_interval=60, max_interval=600), 2)
    for key in (0, 1):
        assert when.decide(label("ok", key=key), 0)
    assert when.decide(label("bad"), 10) is None
    assert when.decide(label("ok", key=1), 10) is None
    assert (when.held_until(0), when.held_until(1)) == (60, None)
    assert [r.key for r in when.flush(20)] == [0]
    assert when.held_until(0) is None
    assert when.decide(label("bad"), 30) is None  # it was said
    assert when.next_due() == 600
