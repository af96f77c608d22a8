"""Plans the window of a pipeline: durations become samples, and a silence becomes a gap."""

from __future__ import annotations

from collections.abc import Sequence

from edged.config.schema import Align, Window
from edged.notation.values import Span
from edged.notation.words import duration
from edged.plan.joins import pace_of, rate_of
from edged.plan.records import Stream, WindowPlan
from edged.plan.scope import Scope

GAP_PERIODS = 3
MIN_ARRIVAL_GAP_NS = 10**9
"""Samples stamped on arrival come in bursts: a shorter silence is none of the sensor's."""


def plan_window(at: Scope, streams: Sequence[Stream], align: Align | None, window: Window | None) -> WindowPlan | None:
    """The window in samples; None without one, or after saying what is wrong with it."""
    if window is None:
        return None
    pace, rate = pace_of(streams, align), rate_of(streams, align)
    rate_key = "align.rate" if pace is None else streams[pace].rate_key
    size = _samples(at, "size", window.size, rate, rate_key)
    hop = size if window.hop is None else _samples(at, "hop", window.hop, rate, rate_key)
    gap = window.gap
    if gap is None:
        gap = usual_gap(streams, align)
    elif rate is not None and size != 1 and gap < 1e9 / rate:
        text = f'"{duration(gap)}" is shorter than the time between two samples at {rate:g} per second: no window would ever fill'
        at.wrong("gap", text)
    if size is None or hop is None:
        return None
    if hop > size:
        at.warn("hop", f"of every {hop} samples {hop - size} are in no window; write hop = {size}, or less, if all are to count")
    return WindowPlan(size, hop, gap)


def usual_gap(streams: Sequence[Stream], align: Align | None) -> int | None:
    """The silence, in ns, after which samples do not belong together any more; None where nobody knows how often they come."""
    pace, rate = pace_of(streams, align), rate_of(streams, align)
    if rate is None:
        return None
    gap = int(GAP_PERIODS * 1e9 / rate)
    has_own_time = pace is None or streams[pace].has_own_time
    return gap if has_own_time else max(gap, MIN_ARRIVAL_GAP_NS)


def _samples(at: Scope, key: str, span: Span, rate: float | None, rate_key: str) -> int | None:
    if span.duration is None:
        return span.samples
    said = duration(span.duration)
    if rate is None:
        fix = f"set {rate_key} (one per second: rate = 1), or give {key} in samples"
        if rate_key.startswith("source."):
            fix += '; of a sensor that reports on change: align = { rate = "6/min", tolerance = "1h" }'
        at.wrong(key, f'"{said}" needs the samples per second; {fix}')
        return None
    samples = round(span.duration * rate / 1e9)
    if samples < 1:
        at.wrong(key, f'"{said}" is less than one sample at {rate:g} per second')
        return None
    return samples
