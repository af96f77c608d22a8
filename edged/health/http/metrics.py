"""The counters as text for Prometheus: OpenMetrics (https://prometheus.io/docs/specs/om/open_metrics_spec/) for those that take
it, else the older format (https://prometheus.io/docs/instrumenting/exposition_formats/), which types a counter with its `_total`.

Pure. A family is a row of a table: its name with its unit, its type, its help, and where its samples come from. Names of sources,
pipelines, models and brokers are labels, as are reasons of drops, which are few; keys of sensors never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from edged.health.good import GOOD
from edged.health.running import Running
from edged.health.status import UP, State
from edged.telemetry import BOUNDS, Histogram

OPEN_METRICS = "application/openmetrics-text"
CONTENT_TYPES = {True: f"{OPEN_METRICS}; version=1.0.0; charset=utf-8", False: "text/plain; version=0.0.4; charset=utf-8"}
"""By whether it is OpenMetrics."""
EVERY_BOUND = 4
"""Of a histogram's bounds, which grow by a factor of sqrt(2): every fourth is a bucket, from 4 us up to half a minute."""
MESSAGES = ("acked", "spooled", "queued", "in_flight")

Labels = dict[str, str]


class Seen(NamedTuple):
    """What is measured: the running parts and their states, and what belongs to the process as a whole."""

    running: Running
    states: list[State]
    now: int
    uptime_s: float
    resident_bytes: int
    cpu_s: float
    loop_lag_s: float
    version: str


class Family(NamedTuple):
    """`name` ends with its unit, but for `_total` of a counter, which is added."""

    name: str
    type: str
    help: str
    samples: Callable[[Seen], Iterable[tuple[Labels, float | Histogram]]]


def exposition(seen: Seen, is_open: bool = True) -> str:
    """The whole page; `is_open`: as OpenMetrics."""
    lines: list[str] = []
    for family in FAMILIES:
        name = f"edged_{family.name}" + ("_total" if family.type == "counter" and not is_open else "")
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.type}"]
        for labels, value in family.samples(seen):
            lines += _lines(f"edged_{family.name}", family.type, labels, value)
    return "\n".join([*lines, *(["# EOF"] if is_open else []), ""])


def _lines(name: str, kind: str, labels: Labels, value: float | Histogram) -> Iterator[str]:
    if isinstance(value, Histogram):
        total = 0
        for i, (bound, count) in enumerate(zip(BOUNDS, value.counts, strict=False)):
            total += count
            if i % EVERY_BOUND == EVERY_BOUND - 1:
                yield f"{name}_bucket{_written({**labels, 'le': repr(bound / 1e9)})} {total}"
        yield f"{name}_bucket{_written({**labels, 'le': '+Inf'})} {value.total}"
        yield f"{name}_count{_written(labels)} {value.total}"
        yield f"{name}_sum{_written(labels)} {value.sum / 1e9!r}"
    else:
        suffix = "_total" if kind == "counter" else ""
        yield f"{name}{suffix}{_written(labels)} {value!r}"


def _written(labels: Labels) -> str:
    escaped = {n: v.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for n, v in labels.items()}
    return "{" + ",".join(f'{n}="{v}"' for n, v in escaped.items()) + "}" if labels else ""


Found = Iterator[tuple[Labels, float | Histogram]]


def _about(seen: Seen) -> Found:
    plan = seen.running.plan
    yield {"version": seen.version, "device": plan.device, "run": seen.running.run}, 1


def _states(seen: Seen) -> Found:
    for one in seen.states:
        yield {"kind": one.kind, "name": one.name, "state": one.state}, 1


def _one(value: Callable[[Seen], float]) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        yield {}, value(seen)

    return samples


def _sources(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, source in seen.running.sources.items():
            yield {"source": name}, getattr(source.counts, value)

    return samples


def _source_drops(seen: Seen) -> Found:
    for name, source in seen.running.sources.items():
        for reason, times in source.counts.drops.by_reason.items():
            yield {"source": name, "reason": reason}, times


def _source_ages(seen: Seen) -> Found:
    for name, source in seen.running.sources.items():
        if source.counts.last_arrival:
            yield {"source": name}, (seen.now - source.counts.last_arrival) / 1e9


def _keys(seen: Seen) -> Found:
    a = seen.running
    for name, plan in a.plan.sources.items():
        fresh, table = a.freshness.get(name), a.keys.get(plan.key_group)
        if not plan.key_names or table is None:
            continue
        online = int(fresh.is_online(seen.now).sum()) if fresh is not None and fresh.is_judged.any() else None
        yield {"source": name, "state": "known"}, len(table)
        if online is not None:
            yield {"source": name, "state": "online"}, online


def _pipelines(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, pipeline in seen.running.pipelines.items():
            yield {"pipeline": name}, getattr(pipeline.counts, value)

    return samples


def _pipeline_drops(seen: Seen) -> Found:
    for name, pipeline in seen.running.pipelines.items():
        for reason, times in pipeline.counts.drops.by_reason.items():
            yield {"pipeline": name, "reason": reason}, times


def _waiting(seen: Seen) -> Found:
    for name in seen.running.pipelines:
        yield {"pipeline": name}, seen.running.waiting(name)


def _messages(seen: Seen) -> Found:
    for name, accounts in seen.running.publishes.items():
        for i, account in enumerate(accounts):
            labels = {"pipeline": name, "publish": str(i)}
            yield labels | {"outcome": "acked"}, account.acked
            yield labels | {"outcome": "spooled"}, account.spooled
            for reason, times in account.drops.by_reason.items():
                yield labels | {"outcome": reason}, times


def _unsent(seen: Seen) -> Found:
    for name, accounts in seen.running.publishes.items():
        yield {"pipeline": name}, sum(one.queued + one.in_flight for one in accounts)


def _models(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, model in seen.running.models.items():
            yield {"model": name}, getattr(model.counts, value)

    return samples


def _remotes(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, remote in seen.running.remotes.items():
            yield {"model": name}, getattr(remote.counts, value)

    return samples


def _remote_rows(seen: Seen) -> Found:
    for name, remote in seen.running.remotes.items():
        for outcome in ("answered", "unanswered", "limited", "fell_back"):
            yield {"model": name, "outcome": outcome}, getattr(remote.counts, outcome)


def _remote_failures(seen: Seen) -> Found:
    for name, remote in seen.running.remotes.items():
        for reason, times in remote.counts.failures.items():
            yield {"model": name, "reason": reason}, times


def _remote_now(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, remote in seen.running.remotes.items():
            yield {"model": name}, int(getattr(remote, value))

    return samples


def _brokers(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, link in seen.running.links.items():
            yield {"broker": name}, getattr(link.counts, value)

    return samples


def _connected(seen: Seen) -> Found:
    for name, link in seen.running.links.items():
        yield {"broker": name}, int(link.state in UP)


def _behaviours(value: str) -> Callable[[Seen], Found]:
    def samples(seen: Seen) -> Found:
        for name, actor in seen.running.behaviours.items():
            yield {"behaviour": name}, getattr(actor.counts, value)

    return samples


def _behaviour_messages(seen: Seen) -> Found:
    for name, actor in seen.running.behaviours.items():
        account = actor.counts.messages
        yield {"behaviour": name, "outcome": "acked"}, account.acked
        yield {"behaviour": name, "outcome": "spooled"}, account.spooled
        for reason, times in account.drops.by_reason.items():
            yield {"behaviour": name, "outcome": reason}, times


def _behaviour_drops(seen: Seen) -> Found:
    for name, actor in seen.running.behaviours.items():
        for reason, times in actor.counts.drops.by_reason.items():
            yield {"behaviour": name, "reason": reason}, times


def _spent(seen: Seen) -> Found:
    a = seen.running
    parts = [("source", n, s.counts.spent) for n, s in a.sources.items()]
    parts += [("pipeline", n, p.counts.spent) for n, p in a.pipelines.items()]
    parts += [("broker", n, link.counts.spent) for n, link in a.links.items()]
    parts += [("model", n, {"batch": m.counts.spent["batch"]}) for n, m in a.models.items()]
    for kind, name, spent in parts:
        for stage, ns in spent.items():
            yield {"kind": kind, "name": name, "stage": stage}, ns / 1e9


def _spooled(seen: Seen) -> Found:
    if seen.running.spool is not None:
        yield {}, seen.running.spool.store.bytes


FAMILIES = (
    Family("build_info", "gauge", "This daemon.", _about),
    Family("uptime_seconds", "gauge", "Time since the start.", _one(lambda s: s.uptime_s)),
    Family("healthy", "gauge", "1 while every part is well.", _one(lambda s: int(all(x.state in GOOD for x in s.states)))),
    Family("state", "gauge", "1 for the state in which a source, pipeline, model, broker or the spool is.", _states),
    Family("memory_resident_bytes", "gauge", "Memory in use.", _one(lambda s: s.resident_bytes)),
    Family("memory_planned_bytes", "gauge", "Memory by the plan.", _one(lambda s: s.running.plan.planned_bytes)),
    Family("memory_budget_bytes", "gauge", "Memory that may be used.", _one(lambda s: s.running.plan.budget)),
    Family("cpu_seconds", "counter", "Processor time of the process.", _one(lambda s: s.cpu_s)),
    Family("stage_cpu_seconds", "counter", "Processor time of the event loop by part and stage, by sampling.", _spent),
    Family(
        "loop_lag_seconds", "gauge", "The longest that the event loop was late since the start.", _one(lambda s: s.loop_lag_s)
    ),
    Family("source_read", "counter", "Samples that came in, good and bad.", _sources("read")),
    Family("source_rows", "counter", "Good samples.", _sources("rows")),
    Family("source_dropped", "counter", "Samples and frames that were refused, by reason.", _source_drops),
    Family("source_messages", "counter", "MQTT messages that came in.", _sources("messages")),
    Family("source_bytes", "counter", "Bytes that came in.", _sources("bytes")),
    Family("source_age_seconds", "gauge", "Time since anything came in.", _source_ages),
    Family("source_keys", "gauge", "Sensors of a source with keys.", _keys),
    Family("pipeline_due", "counter", "Windows and samples that were due for a run.", _pipelines("due")),
    Family("pipeline_results", "counter", "Results that were published.", _pipelines("published")),
    Family("pipeline_filtered", "counter", "Results that `when` kept back.", _pipelines("filtered")),
    Family("pipeline_gated", "counter", "What a closed gate kept back.", _pipelines("gated")),
    Family("pipeline_dropped", "counter", "What was due and came to nothing, by reason.", _pipeline_drops),
    Family("pipeline_waiting", "gauge", "Rows and windows that wait for a run.", _waiting),
    Family("pipeline_age_seconds", "histogram", "From the newest sample of a result to its publishing.", _pipelines("age")),
    Family("publish_messages", "counter", "Messages of each publish entry by what became of them.", _messages),
    Family("publish_unsent", "gauge", "Messages that are queued or in flight.", _unsent),
    Family("model_runs", "counter", "Runs.", _models("runs")),
    Family("model_rows", "counter", "Rows in them.", _models("rows")),
    Family("model_failed", "counter", "Rows that could not be run.", _models("failed")),
    Family("model_run_seconds", "histogram", "How long a run takes.", _models("time")),
    Family("remote_requests", "counter", "Requests to a model that runs elsewhere.", _remotes("asked")),
    Family("remote_retries", "counter", "Requests after the first for a row.", _remotes("retried")),
    Family("remote_failures", "counter", "Requests without an answer to use, by reason.", _remote_failures),
    Family("remote_rows", "counter", "Rows for such a model by what became of them.", _remote_rows),
    Family("remote_in_flight", "gauge", "Requests under way.", _remote_now("under_way")),
    Family("remote_resting", "gauge", "1 while nothing is asked after failures: the circuit is open.", _remote_now("is_resting")),
    Family("remote_rests", "counter", "How often the circuit opened.", _remotes("rests")),
    Family("remote_sent_bytes", "counter", "Bytes of requests.", _remotes("bytes_out")),
    Family("remote_received_bytes", "counter", "Bytes of answers.", _remotes("bytes_in")),
    Family("remote_answer_seconds", "histogram", "From a row's turn to its answer, retries included.", _remotes("time")),
    Family("behaviour_heard", "counter", "Results and samples that a behaviour was given.", _behaviours("heard")),
    Family("behaviour_restarts", "counter", "Instances that failed and were run again.", _behaviours("restarts")),
    Family("behaviour_spins", "counter", "Steps that blocked the event loop for too long.", _behaviours("spins")),
    Family("behaviour_messages", "counter", "Messages of behaviours by what became of them.", _behaviour_messages),
    Family("behaviour_dropped", "counter", "What did not come to be, by reason: inbox, limit, failures.", _behaviour_drops),
    Family("broker_connected", "gauge", "1 while the broker is connected.", _connected),
    Family("broker_connects", "counter", "Connections that were made.", _brokers("connects")),
    Family("broker_received", "counter", "Messages from the broker.", _brokers("received")),
    Family("broker_received_bytes", "counter", "Bytes from the broker.", _brokers("bytes_in")),
    Family("broker_sent_bytes", "counter", "Bytes to the broker.", _brokers("bytes_out")),
    Family("spool_bytes", "gauge", "Disk in use by results that wait.", _spooled),
)
"""In the order of the page. A unit is the last word of the name."""
