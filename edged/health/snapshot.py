"""What the counters of the running parts say, as one table: a pure function of them and of the time.

Reads the counters; owns none of them. When it is made, and to whom it goes, is in `schedule.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.clock.spent import shown
from edged.health.running import Running
from edged.health.status import State
from edged.model.records import LoadReport
from edged.notation.units import MIB
from edged.plan.records import GpuPlan
from edged.results.heads.head import Latching
from edged.sources.mqtt import MqttSource
from edged.sources.replies import Counts as RequestCounts
from edged.spool.settings import HOLDING
from edged.telemetry import PublishCounts, Rate

if TYPE_CHECKING:
    from edged.spool.spool import Spool

ALWAYS = ("sources", "pipelines", "models", "brokers")
"""Said where there is none, too."""


class Rates:
    """Events per second, by part: the one thing here that remembers the snapshot before."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], Rate] = {}

    def read(self, kind: str, name: str, count: int, now: int) -> float:
        return self._rates.setdefault((kind, name), Rate()).read(count, now)

    def forget(self, kind: str, name: str) -> None:
        self._rates.pop((kind, name), None)


def parts(a: Running, now: int, states: Iterable[State], rates: Rates) -> Generator[None, None, dict[str, Any]]:
    """Every part by kind and name: its state, and why, and its counters. `now` is monotonic ns. Yields after each, since a device
    may have hundreds, and the loop has other things to do."""
    found = {(s.kind, s.name): s for s in states}
    whole: dict[str, dict[str, Any]] = {kind: {} for kind in ALWAYS}
    for kind, name, facts in _facts(a, now, rates):
        whole.setdefault(kind, {})[name] = _said(found, kind.removesuffix("s"), name) | facts
        yield
    if a.spool:
        whole["spool"] = _said(found, "spool", "spool") | _spool(a.spool)
    return whole


def _facts(a: Running, now: int, rates: Rates) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for n in a.sources:
        yield "sources", n, _source(a, n, now, rates)
    for n in a.ports:
        yield "ports", n, _port(a, n)
    for n in a.pipelines:
        yield "pipelines", n, _pipeline(a, n, now, rates)
    for n in a.models:
        yield "models", n, _model(a, n)
    for n in a.remotes:
        yield "models", n, _remote(a, n)
    for n in a.links:
        yield "brokers", n, _broker(a, n)
    for n in a.behaviours:
        yield "behaviours", n, _behaviour(a, n)


def _source(a: Running, name: str, now: int, rates: Rates) -> dict[str, Any]:
    source = a.sources[name]
    c = source.counts
    plan = a.plan.sources[name]
    table = a.keys.get(plan.key_group) if plan.key_names else None
    fresh = a.freshness.get(name)
    is_judged = table is not None and fresh is not None and bool(fresh.is_judged.any())
    return {
        "rate": rates.read("source", name, c.rows, now),
        "age_s": round((now - c.last_arrival) / 1e9, 3) if c.last_arrival else None,
        "bytes": c.bytes,
        "messages": c.messages,
        "read": c.read,
        "rows": c.rows,
        "rejected": c.rejected,
        "dropped": c.drops.by_reason,
        "spent_s": shown(c.spent),
        **({"sent": c.asked.facts()} if c.asked.messages else {}),
        **({"keys": len(table), "max_keys": plan.max_keys} if table is not None else {}),
        **({"silent_after_s": round(fresh.limit / 1e9, 3)} if fresh is not None and plan.learns_pace and fresh.limit else {}),
        **({"keys_online": int(np.count_nonzero(fresh.is_online(now)))} if is_judged and fresh is not None else {}),
        **({"waiting": len(source.queue)} if isinstance(source, MqttSource) and source.queue is not None else {}),
        **({"requests": _requests(source.replies.counts)} if isinstance(source, MqttSource) and source.replies else {}),
        **({"units": {f.name: f.unit for f in plan.fields if f.unit}} if any(f.unit for f in plan.fields) else {}),
    }


def _port(a: Running, name: str) -> dict[str, Any]:
    """Of a port that several sources share: `read` are frames, `rows` those that some source means."""
    c = a.ports[name].counts
    return {
        "bytes": c.bytes,
        "read": c.read,
        "rows": c.rows,
        "rejected": c.rejected,
        "dropped": c.drops.by_reason,
        **({"sent": c.asked.facts()} if c.asked.messages else {}),
    }


def _pipeline(a: Running, name: str, now: int, rates: Rates) -> dict[str, Any]:
    pipeline = a.pipelines[name]
    c = pipeline.counts
    facts = {
        "rate": rates.read("pipeline", name, c.published + c.filtered, now),
        "due": c.due,
        "published": c.published,
        "filtered": c.filtered,
        **({"gated": c.gated} if pipeline.gate is not None or c.gated else {}),
        "dropped": c.drops.by_reason,
        "waiting": a.waiting(name),
        "slots": pipeline.slots.count,
        "peak": pipeline.slots.peak,
        "parked": pipeline.parked,
        "age": c.age.summary(),
        "spent_s": shown(c.spent),
        "publish": [{**_messages(p), "filtered": p.filtered} for p in a.publishes[name]],
    }
    if pipeline.paused or c.left_out:
        facts["left_out"] = c.left_out
    if isinstance(head := pipeline.head, Latching) and head.latches:
        facts["latched"] = len(head.latched)
    if pipeline.aligner is not None:
        facts["join"] = {"dropped": pipeline.aligner.dropped, "waiting": pipeline.aligner.waiting}
    return facts


def _model(a: Running, name: str) -> dict[str, Any]:
    model, report = a.models[name], a.reports[name]
    c = model.counts
    return {
        "provider": report.provider,
        "provider_fallback": int(_is_fallback(a.plan.models[name].providers, report)),
        "run": report.run,
        "runs": c.runs,
        "rows": c.rows,
        "failed": c.failed,
        "batch_mean": round(model.batch_mean, 2),
        "time": c.time.summary(),
        "spent_s": {"batch": shown(c.spent)["batch"]},
    }


def _remote(a: Running, name: str) -> dict[str, Any]:
    """`rests`: how often it was left alone after failures."""
    remote = a.remotes[name]
    c = remote.counts
    return {
        "protocol": remote.plan.protocol,
        "url": str(remote.plan.url),
        "asked": c.asked,
        "answered": c.answered,
        "unanswered": c.unanswered,
        "limited": c.limited,
        "fell_back": c.fell_back,
        "retried": c.retried,
        "under_way": remote.under_way,
        "rests": c.rests,
        "no_answer": dict(c.failures),
        "bytes_out": c.bytes_out,
        "bytes_in": c.bytes_in,
        "time": c.time.summary(),
    }


def _behaviour(a: Running, name: str) -> dict[str, Any]:
    actor = a.behaviours[name]
    c = actor.counts
    return {
        "instances": len(actor.instances),
        "heard": c.heard,
        "restarts": c.restarts,
        "spins": c.spins,
        "asked": c.asked,
        "written": c.written,
        "published": c.messages.made,
        "dropped": c.drops.by_reason,
        "publish": [_messages(c.messages)],
    }


def _broker(a: Running, name: str) -> dict[str, Any]:
    link = a.links[name]
    c = link.counts
    return {
        "connects": c.connects,
        "received": c.received,
        "bytes_in": c.bytes_in,
        "bytes_out": c.bytes_out,
        "excess": c.excess,
        "failures": c.failures,
        "protocol_errors": c.protocol_errors,
        "unacked": len(link.ledger),
        "spent_s": shown(c.spent),
        "dropped": a.routers[name].drops.by_reason,
    }


def models(a: Running, building: Mapping[str, float]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is published of each model. `building`: for how long its engine has been built, in seconds."""
    for name, r in a.reports.items():
        requested = a.plan.models[name].providers
        engine = {"building": "tensorrt", "elapsed_s": round(building[name], 1)} if r.builds and name in building else None
        yield (
            name,
            {
                "version": r.version,
                "sha256": r.sha256,
                "requested": requested if isinstance(requested, str) else list(requested),
                "provider": r.provider,
                "run": r.run,
                "batch_max": r.batch_max,
                "why": list(r.reasons),
                "batching": r.batching,
                **({"nodes": dict(r.nodes)} if r.nodes else {}),
                **({"engine": engine} if engine is not None else {}),
                **({"is_held": True} if r.is_held else {}),
                "load_s": round(r.load_s, 3),
                "weight_bytes": r.weight_bytes,
                "array_bytes": r.array_bytes,
                "resident_bytes": r.resident_bytes,
                "p50_us": round(r.p50_us, 1),
                "max_us": round(r.max_us, 1),
            },
        )


def _is_fallback(asked: str | tuple[str, ...], report: LoadReport) -> bool:
    """Whether something else runs it than what was asked for first."""
    return asked != "auto" and report.provider != asked[0]


def _messages(p: PublishCounts) -> dict[str, Any]:
    return {
        "made": p.made,
        "acked": p.acked,
        "spooled": p.spooled,
        "queued": p.queued,
        "in_flight": p.in_flight,
        "dropped": p.drops.by_reason,
    }


def _requests(c: RequestCounts) -> dict[str, Any]:
    return {
        "asked": c.asked,
        "answered": c.answered,
        "failed": c.failed,
        "superseded": c.superseded,
        "waiting": c.waiting,
        "forbidden": c.forbidden.total,
        "answers": _messages(c.replies),
    }


def gpu(plan: GpuPlan, used: int | None) -> dict[str, Any]:
    """`used` is what all processes have of it, in bytes; None where nobody tells."""
    facts = {"name": plan.name, "is_shared": plan.is_shared, "budget_mib": plan.budget // MIB}
    return {**facts, "planned_mib": plan.planned_bytes // MIB, "used_mib": used // MIB if used else None}


def _spool(spool: Spool) -> dict[str, Any]:
    store = spool.store
    return {
        "bytes": store.bytes,
        "max_bytes": store.max_bytes,
        "waiting_bytes": store.pending_bytes,
        "set_aside": len(store.aside),
        "brokers": {
            name: {
                "stored": log.stored,
                "replayed_acked": log.acked,
                "waiting": log.waiting,
                "torn": log.torn,
                "dropped": log.drops.by_reason,
            }
            for name, log in store.logs.items()
            if not log.is_holding
        },
        "held": {
            name.removesuffix(HOLDING): {
                "stored": log.stored,
                "sent": log.acked,
                "superseded": log.superseded,
                "waiting": log.waiting,
                "dropped": log.drops.by_reason,
            }
            for name, log in store.logs.items()
            if log.is_holding and log.stored
        },
    }


def _said(found: dict[tuple[str, str], State], kind: str, name: str) -> dict[str, str]:
    one = found[kind, name]
    return {"state": one.state, "reason": one.reason} if one.reason else {"state": one.state}
