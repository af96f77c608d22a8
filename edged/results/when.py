"""Which results a `publish` entry sends: conditions, change, and the two intervals, for each key by itself.

Knows no clock: `now` (monotonic ns) comes in, and `next_due` says when to call `due`. Keeps at most one result a key: the
newest that `min_interval` holds back, or that `max_interval` may still want.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from edged.notation.words import did_you_mean, listed
from edged.records import Result
from edged.results.fields import ENVELOPE, ResultField, value_at

Path = tuple[str, ...]


class Condition(msgspec.Struct, frozen=True):
    """All that are given must hold: `above` and `below` for the number at `of`, `labels` for the text at `label_of`,
    and the field at `is_true`. A field that is not there, or is null, holds nothing."""

    of: Path | None = None
    above: float | None = None
    below: float | None = None
    label_of: Path = ("label",)
    labels: frozenset[str] | None = None
    is_true: Path | None = None

    @property
    def names_envelope(self) -> bool:
        """Whether it judges a field of the envelope (`degraded`, `model`), not only of the output."""
        return any(field.path in (self.of, self.label_of, self.is_true) for field in ENVELOPE)

    def holds(self, body: Mapping[str, Any]) -> bool:
        if self.above is not None or self.below is not None:
            value = value_at(body, self.of or ())
            if not isinstance(value, (int, float)):
                return False
            if self.above is not None and not value > self.above:
                return False
            if self.below is not None and not value < self.below:
                return False
        if self.labels is not None and value_at(body, self.label_of) not in self.labels:
            return False
        return self.is_true is None or bool(value_at(body, self.is_true))


class WhenPlan(msgspec.Struct, frozen=True):
    """`change_of`: the field that must differ from what was last published, by more than `dead_band` if it is a number.
    Intervals in ns."""

    condition: Condition = Condition()
    change_of: Path | None = None
    dead_band: float | None = None
    min_interval: int | None = None
    max_interval: int | None = None

    @property
    def names_envelope(self) -> bool:
        """As for a condition."""
        return self.condition.names_envelope or any(field.path == self.change_of for field in ENVELOPE)


def plan_condition(
    fields: Sequence[ResultField],
    default_of: str | None,
    *,
    of: str | None,
    above: float | None,
    below: float | None,
    label: Sequence[str] | None,
) -> Condition:
    """The condition said by the words `of`, `above`, `below`, `label`.

    Raises: ValueError, with a text for a person, when a field is unknown or of the wrong kind.
    """
    compares = above is not None or below is not None
    if not compares and not label:
        return Condition(is_true=_field(fields, of, "of").path if of else None)
    number = text = None
    if compares:
        number = _field(fields, of or default_of, "above and below", "number")
    if label:
        # `of` may name the text that is meant, where no number is asked for.
        text = _field(fields, "label" if of is None or compares else of, "label", "text")
    return Condition(
        of=number.path if number else None,
        above=above,
        below=below,
        label_of=text.path if text else ("label",),
        labels=frozenset(label) if label else None,
    )


def plan_when(
    fields: Sequence[ResultField],
    defaults: tuple[str | None, str | None],
    *,
    change: bool | float | None,
    of: str | None,
    above: float | None,
    below: float | None,
    label: Sequence[str] | None,
    min_interval: int | None,
    max_interval: int | None,
) -> WhenPlan:
    """A `when` table against the `result_fields` and `default_of` of an output; the envelope's fields are known too.
    `change` is true or 0 for any difference, else the dead band.

    Raises: ValueError, with a text for a person.
    """
    has_change = change is not None and change is not False
    dead_band = float(change) if change and change is not True else None
    # With `change`, `of` is what must change; alone it would have to be true.
    is_only_change = has_change and above is None and below is None
    known = (*ENVELOPE, *fields)
    condition = plan_condition(known, defaults[1], of=None if is_only_change else of, above=above, below=below, label=label)
    change_of = None
    if has_change:
        default = defaults[0] if dead_band is None else defaults[1]
        change_of = _field(known, of or default, "change", None if dead_band is None else "number").path
    if min_interval is not None and max_interval is not None and min_interval > max_interval:
        raise ValueError("min_interval is longer than max_interval: at most one and at least one cannot both hold")
    return WhenPlan(condition, change_of, dead_band, min_interval, max_interval)


def _field(fields: Sequence[ResultField], name: str | None, what: str, kind: str | None = None) -> ResultField:
    fitting = [f for f in fields if kind is None or f.kind in (kind, "tensor")]  # a tensor may be a scalar
    said = [f for f in fitting if f not in ENVELOPE] + [f for f in fitting if f in ENVELOPE]
    known = listed(f.name for f in said)
    if name is None:
        raise ValueError(f'{what}: which field? set of = "...", one of: {known}')
    for field in fitting:
        if field.name == name:
            return field
    needs = f"a {kind} field" if kind else "a field of the result"
    raise ValueError(f'{what}: expected {needs} ({known}), found "{name}"{did_you_mean(name, [f.name for f in said])}')


class When:
    """One entry's filter. `decide` each result as it comes; call `due` at `next_due`.

    `envelope` reads the envelope of a result; needed only where the plan `names_envelope`.
    """

    def __init__(self, plan: WhenPlan, max_keys: int, envelope: Callable[[Result, int], dict[str, Any]] | None = None) -> None:
        self._plan = plan
        self._envelope = envelope if plan.names_envelope else None
        self._sent: list[int | None] = [None] * max_keys  # when this entry last published the key
        self._since: list[int | None] = [None] * max_keys  # the same, else its first result: where max_interval counts from
        self._value: list[Any] = [None] * max_keys  # what was published then, of `change_of`
        # By key: when it is due, its value of `change_of`, and whether `min_interval` alone holds it back.
        self._kept: dict[int, tuple[Result, int, Any, bool]] = {}
        self._next: int | None = None  # not later than any time in `_kept`

    def decide(self, result: Result, now: int) -> Result | None:
        """The result if it is to be published now, None if it is filtered or kept for later."""
        key, plan = result.key, self._plan
        self._kept.pop(key, None)
        fields = result.body if self._envelope is None else {**self._envelope(result, now), **result.body}
        value = None if plan.change_of is None else value_at(fields, plan.change_of)
        is_wanted = plan.condition.holds(fields) and self._differs(key, value)
        sent, since = self._sent[key], self._since[key]
        due: int | None = None
        if is_wanted:
            due = now if sent is None or plan.min_interval is None else sent + plan.min_interval
        if since is None:
            self._since[key] = since = now
        if plan.max_interval is not None:
            at_latest = since + plan.max_interval
            due = at_latest if due is None else min(due, at_latest)
        if due is None:
            return None
        if due <= now:
            self._published(key, value, now)
            return result
        self._kept[key] = (result, due, value, is_wanted)
        if self._next is None or due < self._next:
            self._next = due
        return None

    def due(self, now: int) -> list[Result]:
        """What was kept and is to be published now."""
        if self._next is None or now < self._next:
            return []
        return self._release(now, [result for result, due, _, _ in self._kept.values() if due <= now])

    def flush(self, now: int) -> list[Result]:
        """What `min_interval` holds back: it is to be published now, since nothing else will be."""
        return self._release(now, [result for result, _, _, is_held in self._kept.values() if is_held])

    def _release(self, now: int, ready: list[Result]) -> list[Result]:
        for result in ready:
            value = self._kept.pop(result.key)[2]
            self._published(result.key, value, now)
        self._next = min((due for _, due, _, _ in self._kept.values()), default=None)
        return ready

    @property
    def may_hold(self) -> bool:
        """Whether it has a `min_interval`."""
        return self._plan.min_interval is not None

    def held_until(self, key: int) -> int | None:
        """When the result of a key may go that `min_interval` holds back; None if there is none."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[3] else None

    def next_due(self) -> int | None:
        """When to call `due` (it may then have nothing), None while nothing is kept."""
        return self._next if self._kept else None

    def reset(self, key: int) -> None:
        """Forgets a key: its next result is its first."""
        self._sent[key] = self._since[key] = self._value[key] = None
        self._kept.pop(key, None)

    def _published(self, key: int, value: Any, now: int) -> None:
        self._sent[key] = self._since[key] = now
        self._value[key] = value

    def _differs(self, key: int, value: Any) -> bool:
        plan = self._plan
        if plan.change_of is None or self._sent[key] is None:
            return True
        last = self._value[key]
        if plan.dead_band is None or not isinstance(value, (int, float)) or not isinstance(last, (int, float)):
            return bool(value != last)
        return abs(value - last) > plan.dead_band
