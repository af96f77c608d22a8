"""Timers that fire together: what looks at something each second, or each half of one, does so in the same wake-up as the others.

An idle process is woken by little else, and a wake-up costs more than what a look does in it.
"""

from __future__ import annotations


def until_beat(period_s: float, now: int) -> float:
    """Seconds from `now` (monotonic ns) to the next whole multiple of a period: in milliseconds, as the loop counts them."""
    period = round(period_s * 1000)
    return (period - now // 10**6 % period) / 1000
