"""Names and durations as error texts say them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edged.config.values import MIN, MS, NS, US, D, H, S, nearest

MOST_NAMES = 12


def listed(names: Iterable[str]) -> str:
    """The names with commas; of many only the first ones."""
    names = tuple(names)
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > MOST_NAMES else shown or "none"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`; did you mean "baudrate"?`, or nothing."""
    meant = nearest(name, tuple(known))
    return f'; did you mean "{meant}"?' if meant else ""


def duration(ns: int) -> str:
    """As a person writes it: `60s`, `250ms`, `30min`."""
    for unit, size, least in (("d", D, 2), ("h", H, 2), ("min", MIN, 2), ("s", S, 1), ("ms", MS, 1), ("us", US, 1)):
        if ns % size == 0 and ns >= least * size:
            return f"{ns // size}{unit}"
    return f"{ns // NS}ns"
