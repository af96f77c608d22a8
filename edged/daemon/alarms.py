"""Alarms that stay until somebody acknowledges them (`output.latch`), by the names of their sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog

from edged.daemon.assembly import Assembly
from edged.notation.words import found_among
from edged.results.heads.head import Latching
from edged.stamp import UNFIT

log: Any = structlog.get_logger("edged")
Key = tuple[str, ...]


def acknowledge(a: Assembly, name: str, key: str | None) -> list[str]:
    """Ends the alarm of one sensor, or all of a pipeline; returns whose they were. Raises ValueError, in words for a person."""
    head = _latching(a, name)
    if head is None:
        those = [n for n in a.pipelines if _latching(a, n) is not None]
        raise ValueError(f"expected a pipeline whose output has latch, {found_among(name, those)}")
    names = _names(a, name)
    ended = [one for one in head.latched if key is None or key == "/".join(names(one))]
    if key is not None and not ended:
        raise ValueError(f'no alarm of "{key}" in pipeline {name} waits to be acknowledged')
    for one in ended:
        head.acknowledge(one)
    keys = ["/".join(names(one)) or name for one in ended]
    log.info("acknowledged", pipeline=name, keys=" ".join(keys))
    return keys


def acknowledge_by_message(a: Assembly, name: str, payload: bytes) -> None:
    """The payload is the key; empty: all."""
    try:
        acknowledge(a, name, payload.decode("utf-8", "replace").strip() or None)
    except ValueError as error:
        log.warning("not_acknowledged", pipeline=name, reason=str(error))


def latched(a: Assembly) -> dict[str, list[Key]]:
    """The sensors whose alarm nobody has acknowledged, by pipeline."""
    found: dict[str, list[Key]] = {}
    for name in a.pipelines:
        head = _latching(a, name)
        if head is not None and (keys := head.latched):
            found[name] = [_names(a, name)(key) for key in keys]
    return found


def latch(a: Assembly, name: str, keys: Iterable[Key], now: int) -> None:
    """Goes on with alarms that were raised before. `now` is monotonic ns."""
    head = _latching(a, name)
    if head is None:
        return
    p = a.plan.pipelines[name]
    for key in keys:
        if len(key) == len(p.keys):
            one = a.keys[p.key_group].id(tuple(key), now) if p.keys else 0
            if one is not None and one != UNFIT:
                head.latch(one)


def _latching(a: Assembly, name: str) -> Latching | None:
    head = a.pipelines[name].head if name in a.pipelines else None
    return head if isinstance(head, Latching) and head.latches else None


def _names(a: Assembly, name: str) -> Callable[[int], Key]:
    p = a.plan.pipelines[name]
    return a.keys[p.key_group].names if p.keys else lambda key: ()
