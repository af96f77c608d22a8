"""Plans how several streams become one: their keys, the pace, how old a value may be, and how much is kept for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from edged.config.schema import Align
from edged.notation.words import duration, rate_said
from edged.pipeline.align import AlignPlan, AlignSource
from edged.plan.records import Stream
from edged.plan.scope import Scope

KEPT_S = 1.0
"""So much of a joined stream is kept: a row of the pace stream may come so late and still find the value of its time."""
HISTORY = (64, 4096)
"""Samples of a joined stream kept for each key, at least and at most."""
UNKNOWN = 1024
"""As many where rows come later and nobody says how many samples come meanwhile."""
WAITING = (1024, 65536)
"""Rows that may wait for the next samples of the others, at least and at most."""


class Keys(NamedTuple):
    """What tells the sensors of a pipeline apart: the names of a key's parts, and how many keys there may be."""

    names: tuple[str, ...]
    most: int
    group: str


def plan_keys(at: Scope, streams: Sequence[Stream]) -> Keys:
    """The keys of all streams together; those without one go with every key."""
    keyed = [s for s in streams if s.key_names]
    if not keyed:
        return Keys((), 1, streams[0].key_group)
    first = keyed[0]
    for other in keyed[1:]:
        if other.key_names == first.key_names:
            continue
        parts = f"{first.name} is keyed by {' '.join(first.key_names)}, {other.name} by {' '.join(other.key_names)}"
        if sorted(other.key_names) == sorted(first.key_names):
            order = ", ".join(f'"{k}"' for k in first.key_names)
            at.wrong("source", f"{parts}: the parts must stand in one order; set source.{other.name}.key = [{order}]")
        elif len(other.key_names) != len(first.key_names):
            at.wrong("source", f"{parts}: keys that are joined must have the same parts")
    return Keys(first.key_names, first.max_keys, first.key_group)


def pace_of(streams: Sequence[Stream], align: Align | None) -> int | None:
    """The index of the stream that sets the pace; None for a regular grid."""
    if align is None:
        return 0
    if align.rate is not None:
        return None
    names = [s.name for s in streams]
    return names.index(align.to) if align.to in names else 0


def rate_of(streams: Sequence[Stream], align: Align | None) -> float | None:
    """Rows a second of one key."""
    pace = pace_of(streams, align)
    return streams[pace].rate if pace is not None else align.rate if align is not None else None


def plan_align(at: Scope, streams: Sequence[Stream], align: Align | None, keys: Keys, dtype: str) -> AlignPlan | None:
    """How the streams are joined; None for one stream without a grid."""
    if align is None and len(streams) == 1:
        return None
    pace = pace_of(streams, align)
    method = align.method if align is not None else "previous"
    delay = 0 if pace is None else streams[pace].delay_ns
    joined = []
    for i, stream in enumerate(streams):
        tolerance = None
        if i != pace:
            tolerance = (align.tolerance if align is not None else None) or stream.stale_ns
            if tolerance is None:
                why = f"{stream.rate_key} is not set" if stream.rate is None else f'source.{stream.name}.stale_after is "never"'
                text = f"required, since {why}: how old may a value of {stream.name} be, "
                at.wrong("align.tolerance", f'{text}such as align = {{ tolerance = "30s" }}', "table")
                return None
            if method == "previous" and stream.rate is not None and tolerance < 1e9 / stream.rate:
                text = f'"{duration(tolerance)}" is shorter than the time between two samples of {stream.name}, which come '
                at.warn("align.tolerance", f"{text}{rate_said(stream.rate)}: most rows would find no value")
            _check_delay(at, streams, pace, stream, delay + (0 if method == "previous" else tolerance))
        history = _history(at, stream, max(0, delay - stream.delay_ns) / 1e9)
        joined.append(AlignSource(stream.name, stream.width, tolerance, stream.on_bad, bool(stream.key_names), history))
    rate = None if pace is None else streams[pace].rate
    plan = AlignPlan(
        sources=tuple(joined),
        to=pace,
        period_ns=round(1e9 / align.rate) if align is not None and align.rate is not None else None,
        method=method,
        max_keys=keys.most,
        dtype=dtype,
    )
    if method == "previous" or rate is None:
        return plan
    wait_s = max(s.tolerance_ns or 0 for s in joined) / 1e9
    return _with_room(at, plan, rate, wait_s)


def _check_delay(at: Scope, streams: Sequence[Stream], pace: int | None, stream: Stream, waits: int) -> None:
    """Says where rows are made before the samples that they need are in order."""
    if stream.delay_ns <= waits:
        return
    whose = "the points of the grid wait" if pace is None else f"rows of {streams[pace].name} wait"
    fix = "" if pace is None else f'; set source.{streams[pace].name}.lateness = "{duration(stream.delay_ns)}" too'
    text = f"samples of {stream.name} may wait {duration(stream.delay_ns)} to be put in order (lateness), and {whose} "
    at.warn("source", f"{text}{duration(waits) if waits else 'for nothing'}: they are joined with older values{fix}")


def _history(at: Scope, stream: Stream, delay_s: float) -> int:
    """How many samples must be kept for rows that come so much later than the stream."""
    least, most = HISTORY
    if stream.rate is None:
        return UNKNOWN if delay_s else least
    wanted = math.ceil(stream.rate * (KEPT_S + delay_s))
    if delay_s and wanted > most:
        kept = f"{most} samples of {stream.name} are kept, {most / stream.rate:.3g} s of them"
        at.warn("source", f"rows come up to {delay_s:g} s late (lateness), and {kept}: later rows find no value")
    return min(most, max(least, wanted))


def _with_room(at: Scope, plan: AlignPlan, rate: float, wait_s: float) -> AlignPlan:
    """Room for the rows that come while the oldest one waits for its neighbours."""
    least, most = WAITING
    rows = math.ceil(rate * wait_s * plan.max_keys)
    if rows > most:
        text = f'"{plan.method}" lets up to {rows} rows wait for {wait_s:g} s, and there is room for {most}; '
        at.warn("align.tolerance", text + 'set a shorter tolerance, or method = "previous"')
    return AlignPlan(plan.sources, plan.to, plan.period_ns, plan.method, plan.max_keys, min(most, max(least, rows)), plan.dtype)
