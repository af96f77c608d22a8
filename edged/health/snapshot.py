"""What edged says about itself: the topics health, model and event, the line in `systemctl status`, changes of state in the log.

Reads the counters of the running parts; owns none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import structlog

from edged import __version__
from edged.clock.clock import Clock
from edged.config.load import place_of
from edged.config.units import MIB
from edged.daemon.assembly import Assembly
from edged.daemon.relief import Relief
from edged.health.availability import Availability
from edged.health.status import GOOD, UP, State, states
from edged.model.gpu.gpu import used_bytes
from edged.model.records import LoadReport
from edged.plan.change import Change
from edged.plan.records import GpuPlan
from edged.records import Message
from edged.results.encode import rfc3339
from edged.sources.mqtt import MqttSource
from edged.sources.replies import Counts as RequestCounts
from edged.spool.spool import Spool
from edged.spool.store import HOLDING
from edged.telemetry import Histogram, PublishCounts, Rate

QUIET_AT_START = ("connecting", "waiting", "silent", "idle", "filling")
"""States that every part goes through at a start: no news then."""
EXPLAIN_EVERY_NS = 10 * 10**9
UNHEARD_NS = 30 * 10**9
"""A source that is silent from the start is no news; after so long it is told, once."""
ENGINE_EVERY_NS = 5 * 10**9
"""How often it is said how far an engine is."""
BUSY_ROWS = 25
"""Rows read between two ticks, from which on much comes in."""
MAX_ERRORS = 20
"""Problems of a refused configuration that are published; the log has all."""

log: Any = structlog.get_logger("edged")


class Fallback(NamedTuple):
    """The file has `errors`; what runs is what ran last without a fault, `kept` then."""

    errors: tuple[str, ...]
    kept: str


class Health:
    """`tick` is called a few times a second; it looks at states once a second and publishes at the configured interval."""

    def __init__(
        self,
        assembly: Assembly,
        clock: Clock,
        config_hash: str,
        ended_in: Sequence[str] = (),
        fallback: Fallback | None = None,
    ) -> None:
        """`ended_in`: the stages in which the run before ended, if it had no time to say so."""
        self.lag = Histogram()
        self.is_busy = False
        """Whether much comes in, so that a closer look at the loop costs little beside it."""
        self._rows_seen = 0
        self._lag_highest = 0
        self._slow: dict[str, tuple[int, int]] = {}
        self._next_slow: dict[str, int] = {}
        self._assembly = assembly
        self._plan = assembly.plan
        self._clock = clock
        self._config_hash = config_hash
        self._started = clock.now()
        self._next_look = 0
        self._next_health = 0
        self._next_explanation = self._started + EXPLAIN_EVERY_NS
        self._states: dict[tuple[str, str], str] = {}
        self._unheard: dict[str, int] = {}
        self._rates: dict[tuple[str, str], Rate] = {}
        self._encode = msgspec.json.Encoder().encode
        self.memory = Relief(assembly, self.event)
        self._connects: dict[str, int] = {}
        self._availability = Availability(assembly)
        self._ended_in = ended_in
        self.building: Callable[[], Mapping[str, float]] = dict
        """How long engines have been built for models, in seconds."""
        self._has_built = False
        self._next_engine = 0
        self._errors = fallback.errors if fallback is not None else ()
        self._last_good = fallback.kept if fallback is not None else ""
        self._at_start: tuple[str, ...] = ()

    def adopt(self, assembly: Assembly, config_hash: str) -> None:
        """Speaks of another assembly from now on. Retained topics of what is gone are removed."""
        before, self._assembly, self._plan = self._assembly, assembly, assembly.plan
        self._config_hash = config_hash
        if assembly is before:
            return
        for name in before.models.keys() - assembly.models.keys():
            self._send_bytes(f"model/{name}", b"", retain=True)
        gone = {(kind, name) for kind, name in self._states if name not in getattr(assembly, f"{kind}s", {name})}
        for key in gone:
            del self._states[key]
            self._rates.pop(key, None)
        self._unheard = {name: since for name, since in self._unheard.items() if name in assembly.sources}
        self.memory.adopt(assembly)
        self._availability.adopt(assembly)

    def say_engine(self, name: str, ok: bool, **facts: Any) -> None:
        """News of an engine that is built for a model: in the log, as an event, and in the model's topic."""
        (log.info if ok else log.error)("engine", model=name, **facts)
        self.event("engine", model=name, ok=ok, **facts)
        self._next_engine = 0

    def say_reload(self, errors: Sequence[str], change: Change | None, why: str, of_file: bool = True) -> None:
        """What became of a reload: in the log, as an event, and in health until the next one. `of_file` False: of models only,
        so that what is wrong with the file still is."""
        if errors or of_file:
            self._errors = tuple(errors)
        if errors:
            for line in errors:
                log.error("configuration", problem=line)
            log.error("reload_refused", why=why, problems=len(errors), kept="what ran before")
            self.event("reload", ok=False, why=why, errors=self._places())
        elif change is not None:
            if self._last_good and of_file:
                self._last_good = ""
                log.info("configuration_right_again", why=why)
                self.event("reload", ok=True, why=why, before="the last good configuration")
            self._at_start = change.at_start
            facts = {"added": change.added, "changed": change.changed, "removed": change.removed, "at_start": change.at_start}
            said = {key: list(names) for key, names in facts.items() if names}
            if said:
                log.info("reloaded", why=why, **{key: "; ".join(names) for key, names in said.items()})
                self.event("reload", ok=True, why=why, **said)
        self._next_health = 0

    def see_lag(self, ns: int) -> None:
        """So late was the loop."""
        self.lag.add(ns)
        self._lag_highest = max(self._lag_highest, ns)

    def see_slow(self, stage: str, ns: int) -> None:
        """A stage held the loop for so long."""
        count, longest = self._slow.get(stage, (0, 0))
        self._slow[stage] = (count + 1, max(longest, ns))
        now = self._clock.now()
        if now >= self._next_slow.get(stage, 0):
            self._next_slow[stage] = now + EXPLAIN_EVERY_NS
            log.warning("loop_blocked", by=stage, ms=ns // 10**6, times=count + 1)
            self.event("slow", stage=stage, ms=ns // 10**6)

    def say_poison(self, topic: str, stage: str) -> None:
        """An input that ended the process again and again is dropped."""
        log.error("poison", topic=topic, stage=stage)
        self.event("poison", topic=topic, stage=stage)

    def tick(self) -> None:
        now = self._clock.now()
        rows = sum(source.counts.read for source in self._assembly.sources.values())
        self.is_busy = rows - self._rows_seen > BUSY_ROWS
        self._rows_seen = rows
        self._availability.look(now)
        if now >= self._next_look:
            self._next_look = now + 10**9
            self._look()
            is_synced = self._clock.is_synced()
            for envelope in self._assembly.envelopes.values():
                envelope.clock_unsynced = not is_synced
        if now >= self._next_health:
            self._next_health = now + self._plan.health_interval_ns
            self.publish()
        if now >= self._next_engine and (self._has_built or self.building()):
            self._next_engine = now + ENGINE_EVERY_NS
            self._has_built = bool(self.building())  # once more when it is over
            self._say_models()

    def publish(self) -> None:
        """Publishes health now, retained; and each model's topic, which changes seldom, along with it."""
        facts = self.snapshot()
        if self._errors:
            facts["config_errors"] = self._places()
        self._send("health", facts, retain=True)
        self._say_models()
        self.lag.clear()

    def _places(self) -> list[str]:
        """What the network learns of the file's errors: their words may be those of the file, and everybody reads the topics."""
        return [place_of(line) for line in self._errors[:MAX_ERRORS]]

    def _say_models(self) -> None:
        for name, facts in self._models():
            self._send(f"model/{name}", facts, retain=True)

    def say_stopped(self) -> None:
        """The last words: health as it is now, and that no source is read any more."""
        self.publish()
        self._availability.stop()

    def event(self, kind: str, **facts: Any) -> None:
        """Something happened that somebody may want to know of at once."""
        self._send("event", {"time": rfc3339(self._clock.utc()), "event": kind, **facts}, retain=False)

    def _send(self, topic: str, facts: dict[str, Any], retain: bool) -> None:
        self._send_bytes(topic, self._encode(facts), retain)

    def _send_bytes(self, topic: str, body: bytes, retain: bool) -> None:
        full = f"{self._plan.base_topic}/{topic}".encode()
        for broker in self._plan.health_brokers:
            link = self._assembly.links[broker]
            if link.state in UP:  # retained or said anew later: nothing to keep while away
                link.send(Message(full, body, 0, retain))

    def _look(self) -> None:
        """Says what changed since the last look: on the event topic, and in the log (links log their own changes)."""
        now = self._clock.now()
        for kind, name, state, reason in states(self._assembly, now):
            before = self._states.get((kind, name))
            if kind == "source":
                self._tell_unheard(name, state, reason, now)
            if before == state:
                continue
            self._states[kind, name] = state
            if before is None and state in QUIET_AT_START:
                continue
            if kind != "broker":
                facts = {kind: name, "state": state, "before": before, "reason": reason}
                (log.info if state in GOOD else log.warning)("state", **{k: v for k, v in facts.items() if v})
            self.event("state", part=kind, name=name, state=state, before=before, reason=reason)
        for name, link in self._assembly.links.items():
            if link.counts.connects != self._connects.get(name, 0):
                self._connects[name] = link.counts.connects
                self._next_health = 0  # whoever asks this broker shall not find old health
        self._explain_joins(now)
        self.memory.look(now / 1e9)

    def _tell_unheard(self, name: str, state: str, reason: str, now: int) -> None:
        """Why nothing has ever come from a source, once, when it has been silent for a while: its state may never change."""
        if state != "silent" or self._assembly.sources[name].counts.last_arrival:
            self._unheard.pop(name, None)
        elif (since := self._unheard.setdefault(name, now)) >= 0 and now - since >= UNHEARD_NS:
            self._unheard[name] = -1
            log.warning("unheard", source=name, reason=reason)
            self.event("unheard", source=name, reason=reason)

    def _explain_joins(self, now: int) -> None:
        """Why rows of several sources do not come together, if they do not; said at most every 10 s."""
        if now < self._next_explanation:
            return
        self._next_explanation = now + EXPLAIN_EVERY_NS
        for name, pipeline in self._assembly.pipelines.items():
            for text in pipeline.aligner.diagnose() if pipeline.aligner is not None else ():
                log.warning("join", pipeline=name, reason=text)
                self.event("join", pipeline=name, reason=text)

    # ---- texts ----

    def status_line(self) -> str:
        """For `systemctl status`."""
        bad = [f"runs the last good configuration, of {self._last_good}"] if self._last_good else []
        bad += [f"configuration refused: {self._errors[0]}"] if self._errors else []
        bad += [f"{s.kind} {s.name}: {s.state}" for s in states(self._assembly, self._clock.now()) if s.state not in GOOD]
        results = sum(p.counts.published for p in self._assembly.pipelines.values())
        memory = f"{self.memory.read() // MIB} of {self._plan.budget // MIB} MiB"
        return f"{'; '.join(bad[:3])}; {memory}" if bad else f"{results} results, {memory}"

    def ready_facts(self) -> dict[str, Any]:
        models = {
            n: "waits for TensorRT's engine" if r.is_held else f"{r.provider}, {r.run}, {r.p50_us:.0f} us"
            for n, r in self._assembly.reports.items()
        }
        return {
            "device": self._plan.device,
            "resident_mib": self.memory.read() // MIB,
            "budget_mib": self._plan.budget // MIB,
            **{f"model.{n}": text for n, text in models.items()},
        }

    def stop_facts(self) -> dict[str, Any]:
        a = self._assembly
        return {
            "results": sum(p.counts.published for p in a.pipelines.values()),
            "dropped": sum(p.counts.drops.total for p in a.pipelines.values())
            + sum(c.drops.total for e in a.publishes.values() for c in e),
            "uptime_s": round((self._clock.now() - self._started) / 1e9, 1),
        }

    def snapshot(self) -> dict[str, Any]:
        """What `edged status` says; the health topic has the errors of the file without their words."""
        now = self._clock.now()
        found = {(s.kind, s.name): s for s in states(self._assembly, now)}
        return {
            "device": self._plan.device,
            "time": rfc3339(self._clock.utc()),
            "version": __version__,
            "uptime_s": round((now - self._started) / 1e9, 1),
            "config": self._config_hash,
            **({"config_errors": self._errors[:MAX_ERRORS]} if self._errors else {}),
            **({"config_last_good": self._last_good} if self._last_good else {}),
            **({"config_at_start": self._at_start} if self._at_start else {}),
            "run": self._assembly.run,
            **({"last_run_ended_in": list(self._ended_in)} if self._ended_in else {}),
            "state": "healthy" if all(s.state in GOOD for s in found.values()) and not self._last_good else "degraded",
            "memory": self.memory.facts() | _gpu(self._plan.gpu),
            "loop_lag": {**self.lag.summary(), "highest_ms": round(self._lag_highest / 1e6, 1)},
            **(
                {"slow": {n: {"times": times, "longest_ms": ns // 10**6} for n, (times, ns) in self._slow.items()}}
                if self._slow
                else {}
            ),
            "cpu_s": round(time.process_time(), 2),
            "sources": {n: _said(found, "source", n) | self._source(n, now) for n in self._assembly.sources},
            "pipelines": {n: _said(found, "pipeline", n) | self._pipeline(n, now) for n in self._assembly.pipelines},
            "models": {n: _said(found, "model", n) | self._model(n) for n in self._assembly.models},
            "brokers": {n: _said(found, "broker", n) | self._broker(n) for n in self._assembly.links},
            **({"spool": _said(found, "spool", "spool") | _spool(self._assembly.spool)} if self._assembly.spool else {}),
        }

    def _rate(self, kind: str, name: str, count: int, now: int) -> float:
        return self._rates.setdefault((kind, name), Rate()).read(count, now)

    def _source(self, name: str, now: int) -> dict[str, Any]:
        source = self._assembly.sources[name]
        c = source.counts
        plan = self._plan.sources[name]
        table = self._assembly.keys.get(plan.key_group) if plan.key_names else None
        fresh = self._assembly.freshness.get(name)
        is_judged = table is not None and fresh is not None and bool(fresh.is_judged.any())
        return {
            "rate": self._rate("source", name, c.rows, now),
            "age_s": round((now - c.last_arrival) / 1e9, 3) if c.last_arrival else None,
            "bytes": c.bytes,
            "messages": c.messages,
            "read": c.read,
            "rows": c.rows,
            "rejected": c.rejected,
            "dropped": c.drops.by_reason,
            **({"keys": len(table), "max_keys": plan.max_keys} if table is not None else {}),
            **({"silent_after_s": round(fresh.limit / 1e9, 3)} if fresh is not None and plan.learns_pace and fresh.limit else {}),
            **({"keys_online": int(np.count_nonzero(fresh.is_online(now)))} if is_judged and fresh is not None else {}),
            **({"waiting": len(source.queue)} if isinstance(source, MqttSource) and source.queue is not None else {}),
            **({"requests": _requests(source.replies.counts)} if isinstance(source, MqttSource) and source.replies else {}),
            **({"units": {f.name: f.unit for f in plan.fields if f.unit}} if any(f.unit for f in plan.fields) else {}),
        }

    def _pipeline(self, name: str, now: int) -> dict[str, Any]:
        pipeline = self._assembly.pipelines[name]
        c = pipeline.counts
        facts = {
            "rate": self._rate("pipeline", name, c.published + c.filtered, now),
            "due": c.due,
            "published": c.published,
            "filtered": c.filtered,
            **({"gated": c.gated} if pipeline.gate is not None or c.gated else {}),
            "dropped": c.drops.by_reason,
            "waiting": self._assembly.waiting(name),
            "slots": pipeline.slots.count,
            "peak": pipeline.slots.peak,
            "parked": pipeline.parked,
            "age": c.age.summary(),
            "publish": [{**_messages(p), "filtered": p.filtered} for p in self._assembly.publishes[name]],
        }
        if pipeline.aligner is not None:
            facts["join"] = {"dropped": pipeline.aligner.dropped, "waiting": pipeline.aligner.waiting}
        return facts

    def _model(self, name: str) -> dict[str, Any]:
        model, report = self._assembly.models[name], self._assembly.reports[name]
        c = model.counts
        return {
            "provider": report.provider,
            "provider_fallback": int(_is_fallback(self._plan.models[name].providers, report)),
            "run": report.run,
            "runs": c.runs,
            "rows": c.rows,
            "failed": c.failed,
            "batch_mean": round(model.batch_mean, 2),
            "time": c.time.summary(),
        }

    def _broker(self, name: str) -> dict[str, Any]:
        link = self._assembly.links[name]
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
            "dropped": self._assembly.routers[name].drops.by_reason,
        }

    def _models(self) -> Iterator[tuple[str, dict[str, Any]]]:
        building = self.building()
        for name, r in self._assembly.reports.items():
            requested = self._plan.models[name].providers
            engine = {"building": "tensorrt", "elapsed_s": round(building[name], 1)} if name in building else None
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


def _gpu(plan: GpuPlan | None) -> dict[str, Any]:
    """`used_mib` is what all processes have of it, `null` where nobody tells."""
    if plan is None:
        return {}
    used = used_bytes()
    facts = {"name": plan.name, "is_shared": plan.is_shared, "budget_mib": plan.budget // MIB}
    return {"gpu": {**facts, "planned_mib": plan.planned_bytes // MIB, "used_mib": used // MIB if used else None}}


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
