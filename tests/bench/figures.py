"""The figures by which edged is judged: what they are, what they should reach, and how they stand to those of the last release.

Pure: the jobs' summaries in, lines of a table out. A figure is edged's own (MiB, seconds, a share), or its ratio to another
contestant of the same rounds. Only ratios travel between machines: the others are compared with the last release's where both
come from the same kind of machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.jobs import EDGED, ONE_KEY, PLAIN, C

Summary = Mapping[str, Mapping[str, Any]]
"""One job's: by contestant the medians of its columns, and under `ratios` those of edged's to its, round by round."""

NOISE = 0.1
"""A figure that is worse than before by no more than this share says nothing: rounds differ by as much."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`column` of `job`; against nobody, it is edged's own. `reach` is what it should be: at most, or at least where more is
    better. `slack`: so much worse, in its own unit, is noise however small the figure is."""

    title: str
    job: str
    column: str
    unit: str
    against: str = ""
    reach: float | None = None
    form: str = ".1f"
    more_is_better: bool = False
    slack: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.job}.{self.column}" + (f" : {self.against}" if self.against else "")

    @property
    def is_portable(self) -> bool:
        return bool(self.against) or not self.unit

    def is_floor_of(self, other: Figure) -> bool:
        return self.against == C and (self.job, self.column) == (other.job, other.column)


@dataclass(frozen=True, slots=True)
class Found:
    """What a figure came to; `ratio` and `other` are None where it is edged's own."""

    figure: Figure
    edged: float
    other: float | None = None
    ratio: float | None = None
    is_judged: bool = True
    """Not where the floor took part and this is against the plain script: another Python or paho makes that faster or slower."""

    @property
    def value(self) -> float:
        return self.edged if self.ratio is None else self.ratio

    @property
    def reaches(self) -> bool | None:
        reach = self.figure.reach
        if reach is None:
            return None
        return self.value >= reach if self.figure.more_is_better else self.value <= reach

    def is_step_back(self, before: float | None) -> bool:
        """Whether it is worse than `before` by more than noise."""
        if before is None or not self.is_judged:
            return False
        worse = before - self.value if self.figure.more_is_better else self.value - before
        return worse > max(NOISE * abs(before), self.figure.slack)


FIGURES = (
    Figure("MQTT raw, QoS 0, 64 in flight", "raw", "cost", "us an answer", C, 0.95),
    Figure("MQTT raw, QoS 0, 64 in flight", "raw", "cost", "us an answer", PLAIN),
    Figure("MQTT JSON, QoS 0, 64 in flight", "json", "cost", "us an answer", C, 1.15),
    Figure("MQTT JSON, QoS 0, 64 in flight", "json", "cost", "us an answer", PLAIN),
    Figure("MQTT raw, QoS 1 both ways, 32 in flight", "qos1", "cost", "us an answer", C, 1.1),
    Figure("MQTT raw, QoS 1 both ways, 32 in flight", "qos1", "cost", "us an answer", PLAIN),
    Figure("one at a time, QoS 0", "raw", "alone_us", "us an answer", C),
    Figure("one at a time, QoS 0", "raw", "alone_us", "us an answer", PLAIN, 0.85),
    Figure("one at a time, QoS 0: p50", "raw", "p50_us", "us", C, form=".0f"),
    Figure("one at a time, QoS 0: p50", "raw", "p50_us", "us", PLAIN, 0.95, ".0f"),
    Figure("one at a time, QoS 1", "qos1", "alone_us", "us an answer", PLAIN, 0.85),
    Figure("one at a time, QoS 1: p50", "qos1", "p50_us", "us", PLAIN, 0.95, ".0f"),
    Figure("serial at full speed", "serial", "cost", "us a line", C, 1.1, ".2f"),
    Figure("serial at full speed", "serial", "cost", "us a line", PLAIN, form=".2f"),
    Figure("serial at full speed", "serial", "per_s", "lines per second", reach=300_000, form=",.0f", more_is_better=True),
    Figure("1,000 keys against one", "keys", "cost", "us an answer", ONE_KEY, 1.15),
    Figure("resident memory", "raw", "mib", "MiB", reach=80),
    Figure("from exec to READY", "raw", "ready_s", "s", reach=0.5, form=".2f"),
    Figure("idle, a sensor at 10 Hz", "idle", "cost", "% of a core", reach=1, form=".2f", slack=0.2),
    Figure(
        "10 x overload: share of the best throughput", "overload", "best_share", "", reach=0.95, form=".2f", more_is_better=True
    ),
    Figure("10 x overload: p99 age by the deadline", "overload", "age_share", "", reach=1, form=".2f", slack=0.1),
    Figure("10 x overload: memory grows by", "overload", "growth_mib", "MiB", reach=2, slack=1.0),
)


def find(summaries: Mapping[str, Summary], figures: Sequence[Figure] = FIGURES) -> list[Found]:
    """The figures whose jobs were run and whose contestants took part. Of `figures` those against the floor stand first."""
    found = []
    for figure in figures:
        lines = summaries.get(figure.job, {})
        mine, other = lines.get(EDGED, {}), lines.get(figure.against, {})
        if figure.column not in mine:
            continue
        if not figure.against:
            found.append(Found(figure, mine[figure.column]))
        elif figure.column in other.get("ratios", {}):
            is_judged = figure.against != PLAIN or not any(one.figure.is_floor_of(figure) for one in found)
            found.append(Found(figure, mine[figure.column], other[figure.column], other["ratios"][figure.column], is_judged))
    return found


def last_values(record: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an earlier record that can be compared with those of this machine, by key."""
    is_same = record.get("machine") == machine
    kept: Mapping[str, float] = record.get("figures", {})
    portable = {figure.key for figure in FIGURES if figure.is_portable}
    return {key: value for key, value in kept.items() if is_same or key in portable}


def table(found: Sequence[Found], last: Mapping[str, float]) -> Iterator[str]:
    """One line a figure."""
    yield f"{'':46}{'edged':>10}  {'against':15}{'it':>10}{'ratio':>8}{'reach':>12}{'last':>9}  {'':11}{'unit'}"
    for one in found:
        figure, before = one.figure, last.get(one.figure.key)
        form = ".2f" if one.ratio is not None else figure.form
        goal = "" if figure.reach is None else (">= " if figure.more_is_better else "<= ") + format(figure.reach, form)
        yield (
            f"{figure.title:46}{one.edged:>10{figure.form}}  {figure.against:15}"
            f"{'' if one.other is None else format(one.other, figure.form):>10}"
            f"{'' if one.ratio is None else format(one.ratio, '.2f'):>8}{goal:>12}"
            f"{'' if before is None else format(before, form):>9}  {verdict(one, before):11}{figure.unit}"
        ).rstrip()


def verdict(one: Found, before: float | None) -> str:
    if one.is_step_back(before):
        return "STEP BACK"
    return "" if one.reaches is None else "reached" if one.reaches else "not yet"
