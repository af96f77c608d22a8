"""The table of `make bench`: ratios of single rounds, what is worse than before, and what can be compared at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.figures import FIGURES, Figure, Found, find, last_values, table, verdict
from tests.bench.jobs import EDGED, JOBS, PLAIN, C, Sample
from tests.bench.race import LAST, summary

RAW = Figure("raw", "raw", "cost", "us", C, 0.95)
LINES = Figure("lines", "serial", "per_s", "lines per second", reach=300_000, more_is_better=True)


def test_a_ratio_is_the_median_of_those_of_single_rounds() -> None:
    rounds: list[dict[str, Sample]] = [
        {EDGED: {"cost": 20.0}, C: {"cost": 10.0}},
        {EDGED: {"cost": 90.0}, C: {"cost": 100.0}},  # a slow moment of the machine: both are slow
        {EDGED: {"cost": 30.0}, C: {"cost": 10.0}},
    ]
    lines = summary(rounds)
    assert lines[C] == {"cost": 10.0, "ratios": {"cost": 2.0}}
    assert lines[EDGED] == {"cost": 30.0, "ratios": {"cost": 1.0}}
    [found] = find({"raw": lines}, [RAW])
    assert (found.edged, found.other, found.ratio, found.value) == (30.0, 10.0, 2.0, 2.0)


def test_who_did_not_take_part_has_no_line() -> None:
    lines = summary([{EDGED: {"cost": 20.0}, PLAIN: {"cost": 40.0}}])
    assert find({"raw": lines}, [RAW]) == []
    assert find({"raw": {}}, FIGURES) == []


@pytest.mark.parametrize(
    ("figure", "value", "before", "is_back"),
    [
        (RAW, 1.2, 1.1, False),
        (RAW, 1.3, 1.1, True),
        (RAW, 0.5, 1.1, False),
        (RAW, 9.9, None, False),
        (LINES, 280_000.0, 300_000.0, False),
        (LINES, 260_000.0, 300_000.0, True),
        (LINES, 400_000.0, 300_000.0, False),
        (Figure("idle", "idle", "cost", "%", slack=0.2), 0.45, 0.3, False),
        (Figure("idle", "idle", "cost", "%", slack=0.2), 0.55, 0.3, True),
    ],
)
def test_a_step_back_is_worse_by_more_than_noise(figure: Figure, value: float, before: float | None, is_back: bool) -> None:
    found = Found(figure, value)
    assert found.is_step_back(before) is is_back
    before = {} if before is None else {figure.key: before}  # type: ignore[assignment]
    assert any("STEP BACK" in line for line in table([found], before)) is is_back  # type: ignore[arg-type]


@pytest.mark.parametrize(("has_floor", "marks"), [(True, ["", ""]), (False, ["STEP BACK"])])
def test_a_step_back_is_against_the_floor_where_there_is_one(has_floor: bool, marks: list[str]) -> None:
    """Another Python makes a plain script faster, which says nothing of edged."""
    others: dict[str, Sample] = {C: {"cost": 18.0}} if has_floor else {}
    lines = summary([{EDGED: {"cost": 20.0}, PLAIN: {"cost": 50.0}, **others}])
    figures = [Figure("raw", "raw", "cost", "us an answer", against) for against in (C, PLAIN)]
    before = {"raw.cost : C": 1.4, "raw.cost : plain script": 0.25}
    found = find({"raw": lines}, figures)
    assert [verdict(one, before[one.figure.key]) for one in found] == marks
    assert all(("STEP BACK  us" in line) is ("STEP BACK" in marks) for line in list(table(found, before))[1:])


def test_only_ratios_travel_to_another_machine() -> None:
    here = {"processor": "A", "cores": 2, "python": "3.11"}
    ratio, own = "raw.cost : C", "raw.mib"
    record: dict[str, Any] = {"machine": here, "figures": {ratio: 1.2, own: 78.0}}
    assert last_values(record, here) == {ratio: 1.2, own: 78.0}
    assert last_values(record, {**here, "python": "3.13"}) == {ratio: 1.2}
    assert last_values({}, here) == {}


def test_the_figures_are_of_jobs_that_exist_and_differ() -> None:
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    assert {figure.job for figure in FIGURES} == set(JOBS)


def test_the_last_release_is_kept_in_the_repository() -> None:
    record = json.loads(LAST.read_text())
    assert set(record["figures"]) <= {figure.key for figure in FIGURES}
    assert {"version", "machine", "rounds", "figures"} <= set(record)
