"""What `edged status` tells beside health, to whoever looks: the newest result of each pipeline, keys that are not well, why
things were dropped, and what was refused. Too much for a retained topic; nothing of it leaves the device by itself.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from edged.health.running import Running
from edged.plan.records import PublishPlan
from edged.records import Message
from edged.results.heads.head import Latching
from edged.telemetry import QUIET, Drops, PublishCounts

MAX_KEYS = 20
"""Keys of a source that are named; of more, the least recently seen."""
MAX_BYTES = 4096
"""Of a result that is shown."""


def details(a: Running, now: int) -> dict[str, Any]:
    """By kind and name, as in health. `now` is monotonic ns."""
    return {
        "sources": {n: _source(a, n, now) for n in a.sources},
        "pipelines": {
            n: {
                "why": _why(a.pipelines[n].counts.drops, *(one.drops for one in a.publishes[n])),
                "last": [*_last(p.publishes, a.publishes[n], now)],
                **_latched(a, n),
                **({"samples": a.samples[n].facts()} if n in a.samples else {}),
            }
            for n, p in a.plan.pipelines.items()
        },
        "behaviours": {n: {"why": _why(b.counts.drops, b.counts.messages.drops)} for n, b in a.behaviours.items()},
        "brokers": {n: {"why": _why(router.drops)} for n, router in a.routers.items()},
    }


def _source(a: Running, name: str, now: int) -> dict[str, Any]:
    counts = a.sources[name].counts
    rejects = [
        {
            "age_s": round(now / 1e9 - at, 1),
            "reason": one.reason,
            "detail": one.detail,
            "times": one.times,
            "data": base64.b64encode(one.data).decode(),
        }
        for at, one in counts.watch.rejects
    ]
    return {"why": _why(counts.drops), "rejects": rejects, **_unwell(a, name, now), **_of_table(a, name), **_of_waiting(a, name)}


def _of_waiting(a: Running, name: str) -> dict[str, Any]:
    """Samples that wait to be put in order by their time, and those that found no more room and left earlier."""
    lateness = a.stampers[name].lateness
    return {} if lateness is None else {"waiting": len(lateness), "hurried": lateness.hurried}


def _of_table(a: Running, name: str) -> dict[str, Any]:
    """The table of sensors that the source has, and the keys that came and have no row in it."""
    table = a.plan.key_tables.get(name)
    if table is None:
        return {}
    keys = a.keys[a.plan.sources[name].key_group]
    without = [key for key in map("/".join, map(keys.names, range(len(keys)))) if key not in table.keys]
    return {"table": {"name": table.name, "keys": len(table.keys), "without": len(without), "such_as": without[:MAX_KEYS]}}


def _why(*drops: Drops) -> dict[str, str]:
    """What was said of the last one that was dropped for each reason."""
    return {reason: text for one in drops for reason, text in one.details.items() if reason not in QUIET}


def _unwell(a: Running, name: str, now: int) -> dict[str, Any]:
    """Keys of a source that are silent or frozen, those first that have been so longest."""
    plan, fresh = a.plan.sources[name], a.freshness.get(name)
    if not plan.key_names or fresh is None:
        return {}
    last = fresh.last_good
    unwell = np.flatnonzero((last > 0) & fresh.is_judged & ~fresh.is_online(now))
    unwell = unwell[np.argsort(last[unwell], kind="stable")]
    names = a.keys[plan.key_group].names
    keys = [
        {
            "key": "/".join(names(key)),
            "state": "frozen" if fresh.is_frozen[key] else "silent",
            "age_s": round((now - int(last[key])) / 1e9, 1),
        }
        for key in unwell[:MAX_KEYS].tolist()
    ]
    return {"unwell": len(unwell), "unwell_keys": keys}


def _latched(a: Running, name: str) -> dict[str, Any]:
    """Keys whose alarm waits for somebody to acknowledge it."""
    head, p = a.pipelines[name].head, a.plan.pipelines[name]
    if not isinstance(head, Latching) or not head.latches:
        return {}
    names = a.keys[p.key_group].names if p.keys else None
    keys = head.latched
    return {"latched": len(keys), "latched_keys": ["/".join(names(key)) if names is not None else "" for key in keys[:MAX_KEYS]]}


def _last(plans: tuple[PublishPlan, ...], accounts: tuple[PublishCounts, ...], now: int) -> Iterator[dict[str, Any]]:
    """The newest message of each `publish` entry that has made one."""
    for plan, account in zip(plans, accounts, strict=True):
        if (message := account.last) is not None:
            age_s = round((now - message.arrival) / 1e9, 1) if message.arrival else None
            yield {"topic": message.topic.decode(errors="replace"), "age_s": age_s, **_body(message, plan.settings.format)}


def _body(message: Message, format: str) -> dict[str, Any]:
    if len(message.body) > MAX_BYTES:
        return {"format": format, "bytes": len(message.body)}
    if format == "json":
        return {"result": msgspec.json.decode(message.body + (b"}" if message.is_json and message.arrival else b""))}
    if format == "msgpack":
        return {"result": msgspec.msgpack.decode(message.body)}
    if format == "csv":
        return {"result": message.body.decode()}
    return {"format": format, "bytes": len(message.body)}
