"""What a model said beside what was so: labels over time, confusion tables, detection rates, drift. Pure."""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.learn.moments import Moments

MAX_SECONDS = 10**8
"""A number up to here counts from the start of the recording, a larger one from 1970."""
DAY_S = 86400.0


class Answer(NamedTuple):
    """One result: when (UTC ns), of which key, and its body."""

    time: int
    key: str
    body: Mapping[str, Any]


class Span(NamedTuple):
    """From `start` up to `end` (UTC ns) it was so."""

    start: int
    end: int
    label: str


class Labels(msgspec.Struct, frozen=True):
    """By key, in the order of time; of the key "" what holds for all that have none of their own."""

    spans: Mapping[str, Sequence[Span]]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(span.label for spans in self.spans.values() for span in spans))

    def of(self, key: str) -> Sequence[Span]:
        return self.spans.get(key, self.spans.get("", ()))

    def at(self, key: str, time: int) -> str | None:
        spans = self.of(key)
        i = bisect_right(spans, time, key=lambda span: span.start) - 1
        return spans[i].label if i >= 0 and time < spans[i].end else None


def read_labels(text: str, started: int) -> Labels:
    """Of a CSV file with the columns `time` (or `start`) and `label`, maybe `end` and `key`. What a row says holds until its
    `end`, else until the next row of its key. `started`: when the recording began (UTC ns). Raises ValueError, with the
    line."""
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    start = "time" if "time" in columns else "start"
    if start not in columns or "label" not in columns:
        raise ValueError(f"line 1: expected the columns time (or start) and label, found {', '.join(columns) or 'nothing'}")
    found: dict[str, list[tuple[int, int | None, str]]] = {}
    for row in rows:
        try:
            begin = _time(row[start] or "", started)
            end = _time(row["end"], started) if row.get("end") else None
        except ValueError as error:
            raise ValueError(f"line {rows.line_num}: {error}") from None
        found.setdefault((row.get("key") or "").strip(), []).append((begin, end, (row["label"] or "").strip()))
    spans: dict[str, list[Span]] = {}
    for key, given in found.items():
        given.sort(key=lambda one: one[0])
        nexts = [begin for begin, _, _ in given[1:]] + [1 << 62]
        spans[key] = [
            Span(begin, min(after, end) if end is not None else after, label)
            for (begin, end, label), after in zip(given, nexts, strict=True)
            if label
        ]
    return Labels(spans)


def _time(text: str, started: int) -> int:
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(
                f"expected seconds since the start, or a time such as 2026-11-29T12:00:00Z, found {text!r}"
            ) from None
        return round((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1e9)
    return round(number * 1e9) + (started if abs(number) < MAX_SECONDS else 0)


class Rate(msgspec.Struct, frozen=True):
    """Of one label: of so many answers `flagged` are abnormal; of so many spans in which there was an answer, `found` had an
    abnormal one. `auc`: how well the score alone tells it from normal, 0.5 by chance, 1 always."""

    label: str
    count: int
    flagged: int
    spans: int
    found: int
    auc: float | None


def confusion(answers: Sequence[Answer], labels: Labels) -> Counter[tuple[str, str]]:
    """How often what was `a` was called `b`."""
    pairs = ((labels.at(a.key, a.time), str(a.body["label"])) for a in answers)
    return Counter((truth, said) for truth, said in pairs if truth is not None)


def accuracy(table: Counter[tuple[str, str]]) -> float:
    return sum(n for (truth, said), n in table.items() if truth == said) / max(1, sum(table.values()))


def rates(answers: Sequence[Answer], labels: Labels, normal: str) -> list[Rate]:
    """Of each label, `normal` first."""
    by: dict[str, list[Answer]] = {}
    hit: dict[str, dict[tuple[str, int], bool]] = {}
    for answer in answers:
        label = labels.at(answer.key, answer.time)
        if label is None:
            continue
        by.setdefault(label, []).append(answer)
        spans = labels.of(answer.key)
        at = bisect_right(spans, answer.time, key=lambda span: span.start)
        seen = hit.setdefault(label, {})
        seen[answer.key, at] = seen.get((answer.key, at), False) or bool(answer.body.get("anomaly"))
    usual = _scores(by.get(normal, []))
    return [
        Rate(
            label,
            len(by[label]),
            sum(bool(a.body.get("anomaly")) for a in by[label]),
            len(hit[label]),
            sum(hit[label].values()),
            None if label == normal or not len(usual) else auc(usual, _scores(by[label])),
        )
        for label in sorted(by, key=lambda label: (label != normal, label))
    ]


def _scores(answers: Sequence[Answer]) -> NDArray[np.float64]:
    return np.array([a.body["score"] for a in answers], np.float64)


def auc(usual: NDArray[Any], others: NDArray[Any]) -> float:
    """The chance that one of `others` is above one of `usual`; equal ones count half."""
    both = np.concatenate([usual, others])
    _, place, count = np.unique(both, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    n, m = len(usual), len(others)
    return float((rank[n:].sum() - m * (m + 1) / 2) / (n * m))


def onsets(answers: Sequence[Answer], counts: Callable[[Answer], bool] = lambda a: True) -> int:
    """How often some key became abnormal, of the answers that count."""
    was: dict[str, bool] = {}
    found = 0
    for a in answers:
        is_on = bool(a.body.get("anomaly"))
        if is_on and not was.get(a.key) and counts(a):
            found += 1
        was[a.key] = is_on
    return found


def seconds(answers: Sequence[Answer]) -> float:
    return (max(a.time for a in answers) - min(a.time for a in answers)) / 1e9 if answers else 0.0


class Drift(NamedTuple):
    """How far the mean of a field lies from where the model was trained, in deviations of then, and its deviation by that of
    then."""

    field: str
    shift: float
    spread: float

    @property
    def is_far(self) -> bool:
        return abs(self.shift) > 1 or not 0.5 <= self.spread <= 2


def drift(found: Moments, fields: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> list[Drift]:
    far = []
    for field, m, d, was, before in zip(fields, found.mean, found.deviation, mean, std, strict=True):
        unit = before or 1e-3 * abs(was) or 1e-6
        far.append(Drift(field, float((m - was) / unit), float(d / before) if before else 1.0 if d == 0 else float("inf")))
    return far


def agreement(a: Sequence[Answer], b: Sequence[Answer], member: str) -> float | None:
    """The share of answers of the same key and time in which two models say the same; None without such answers."""
    known = {(x.key, x.time): x.body.get(member) for x in a}
    both = [(known[x.key, x.time], x.body.get(member)) for x in b if (x.key, x.time) in known]
    return sum(x == y for x, y in both) / len(both) if both else None
