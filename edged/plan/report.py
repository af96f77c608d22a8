"""A plan for people and for machines: what is wired to what, and the memory table with its sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edged.config import schema
from edged.config.schema import When
from edged.model.gpu.providers import THREADS
from edged.model.records import LoadReport
from edged.model.remote.records import PREFIX, AskPlan, RemotePlan
from edged.model.worker import CPU
from edged.notation.units import MIB
from edged.notation.words import caps_said, duration, listed, rate_said
from edged.plan.graph import condition_said, gate_said, graph_json, graph_text
from edged.plan.memory import step_name
from edged.plan.records import (
    GpuPlan,
    HomeAssistantPlan,
    KeyTablePlan,
    MemoryLine,
    PipelinePlan,
    Plan,
    PublishPlan,
    SamplesPlan,
    ShownPlan,
    SourcePlan,
)
from edged.plan.spool import RECORD, results_a_second
from edged.results.entities import Entity
from edged.sources.asking import said as send_said
from edged.sources.asking import written
from edged.sources.kinds import kind_of
from edged.sources.pace import GAPS, MIN_SILENCE_NS, SILENT_GAPS
from edged.sources.rtu import poll_of
from edged.spool.settings import SpoolSettings


def plan_text(plan: Plan) -> str:
    """Who feeds whom, the wiring with a line for each part, then the memory table."""
    lines = [f"device {plan.device} publishes about itself on {plan.base_topic}/status, /health, /model, /source, /event", ""]
    lines += [*graph_text(plan), ""]
    for name, p in plan.pipelines.items():
        lines.append(f"pipeline.{name}")
        lines += [
            f"  {_source(plan.sources[s], plan.key_tables.get(s)) if s in plan.sources else f'results of pipeline.{s}'}"
            for s in p.sources
        ]
        lines += [f"    --> {text}" for text in _stages(p, plan.remotes)]
        lines += [f"    --> {_publish(x, plan.spool)}" for x in p.publishes]
        lines += [f"    --> {text}" for text in (_samples(p.samples) if p.samples is not None else ())]
        lines.append("")
    if plan.spool is not None:
        lines += [_spool(plan.spool, results_a_second(plan.pipelines, plan.sources)), ""]
    lines += _sends(plan)
    lines += _behaviours(plan)
    lines += _homeassistant(plan)
    lines += _silences(plan.sources)
    lines += _memory(plan.memory, plan.planned_bytes, plan.budget)
    if plan.gpu is not None:
        whose = "the same memory as above" if plan.gpu.is_shared else "its own memory"
        lines += ["", f"{plan.gpu.name}, {whose}", *_memory(plan.gpu.lines, plan.gpu.planned_bytes, plan.gpu.budget)]
    return "\n".join(lines)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "device": plan.device,
        "base_topic": plan.base_topic,
        "sources": {
            n: {
                "type": s.settings.type,
                "fields": [f.name for f in s.fields],
                "keys": list(s.key_names),
                "max_keys": s.max_keys,
                "rate": s.rate,
                **({"port": s.port} if s.port else {}),
                "stale_after_ns": s.stale_ns,
                "learns_pace": s.learns_pace,
                "reply": [f.text for f in s.replies],
            }
            for n, s in plan.sources.items()
        },
        "models": {
            n: {"path": str(m.manifest.origin), "sha256": m.manifest.sha256, "version": m.manifest.version}
            for n, m in plan.models.items()
        }
        | {n: {"url": str(m.url), "protocol": m.protocol, "fallback": m.fallback} for n, m in plan.remotes.items()},
        "pipelines": {n: _pipeline_json(p) for n, p in plan.pipelines.items()},
        "behaviours": {
            n: {
                "run": b.where,
                "instances": b.instances,
                "source": [heard.stream for heard in b.hears],
                "ask": list(b.ask),
                "publish": [one.text for one in b.publish],
                "write": list(b.write),
            }
            for n, b in plan.behaviours.items()
        },
        "homeassistant": _homeassistant_json(plan.homeassistant) if plan.homeassistant is not None else None,
        "graph": graph_json(plan),
        "spool": {"path": str(plan.spool.path), "max_bytes": plan.spool.max_bytes} if plan.spool is not None else None,
        "memory": {
            "lines": [{"what": line.what, "bytes": line.bytes, "how": line.how} for line in plan.memory],
            "planned_bytes": plan.planned_bytes,
            "budget_bytes": plan.budget,
        },
        "gpu": _gpu_json(plan.gpu) if plan.gpu is not None else None,
    }


def _gpu_json(gpu: GpuPlan) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "is_shared": gpu.is_shared,
        "lines": [{"what": line.what, "bytes": line.bytes, "how": line.how} for line in gpu.lines],
        "planned_bytes": gpu.planned_bytes,
        "budget_bytes": gpu.budget,
    }


def load_text(report: LoadReport) -> str:
    """A line about a model that was loaded and tried, then why it is so: every provider that was not taken has its reason."""
    facts = f"model.{report.name}: runs on {report.provider}, {report.run}, {report.p50_us:.0f} us for {report.batch_max} rows"
    if report.is_held:
        facts = f"model.{report.name}: gives no results until TensorRT's engine is built: edged model prepare {report.name}"
    elif report.builds:
        facts += f"; TensorRT's engine is not built yet: edged model prepare {report.name}, or it is done while the daemon runs"
    if len(report.nodes) > 1:
        facts += f"\n  nodes of the graph: {', '.join(f'{n} on {rung}' for rung, n in report.nodes.items())}"
    return facts + "".join(f"\n  {said}" for said in (*report.reasons, report.batching) if said)


def threads_text(plan: Plan, reports: Mapping[str, LoadReport]) -> list[str]:
    """How models that are too slow for the loop share the processors."""
    shared = {n: plan.models[n] for n, r in reports.items() if r.run != "inline" and THREADS.get(r.provider) == CPU}
    if not shared:
        return []
    count = min(plan.workers, len(shared))
    cores = f"{plan.cores} core{'s' if plan.cores > 1 else ''}"
    lines = [f"{', '.join(f'model.{n}' for n in shared)}: run on {count} thread{'s' if count > 1 else ''}, on {cores}"]
    ranks = {n: max(p.priority for p in plan.pipelines.values() if p.model == n) for n in shared}
    if count > 1 and len(set(ranks.values())) > 1:
        above = [f"model.{n}" for n, rank in ranks.items() if rank > min(ranks.values())]
        lines.append(f"  one of them stays free for {', '.join(above)}, of higher priority")
    if plan.cores > 1:
        lines.append(
            "  edged bench MODEL measures which is faster here: several threads for one model, or several models at once"
        )
    inside = [n for n, model in shared.items() if model.threads > 1]
    if inside and count > 1 and count - 1 + max(shared[n].threads for n in inside) > plan.cores:
        lines += [
            f"  model.{n}: threads = {shared[n].threads} is faster only while it runs alone; beside other models set 1"
            for n in inside
        ]
    return lines


def _pipeline_json(p: PipelinePlan) -> dict[str, Any]:
    return {
        "sources": list(p.sources),
        "window": {"size": p.window.size, "hop": p.window.hop, "gap_ns": p.window.gap_ns} if p.window else None,
        "model": p.model if p.ask is None else p.ask.remote,
        "inputs": {i.name: {"shape": list(i.shape), "dtype": i.dtype} for i in p.inputs},
        "state": {s.output: {"input": s.input, "shape": list(s.shape), "dtype": s.dtype} for s in p.states},
        "slots": p.slots if p.has_slots else None,
        "overflow": p.overflow if p.has_slots else None,
        "gate": {"source": p.gate.source, "while": gate_said(p.gate)} if p.gate is not None else None,
        "samples": _samples_json(p.samples) if p.samples is not None else None,
        "priority": p.priority,
        "output": p.output.type,
        "publish": [
            {"broker": x.broker, "topic": x.topic.text, "qos": x.settings.qos, "format": x.settings.format} for x in p.publishes
        ],
    }


def _samples_json(s: SamplesPlan) -> dict[str, Any]:
    return {
        "sources": [root.source for root in s.roots],
        "while": condition_said(s.when) if s.when is not None else None,
        "limit": [caps_said([cap]) for cap in s.limits],
        "audit": caps_said([s.audit]) if s.audit is not None else None,
        "leaves": {"broker": s.broker, "topic": s.topic} if s.topic else None,
        "kept": {"path": str(s.folder), "max_bytes": s.max_bytes} if s.max_bytes else None,
        "labels": {"broker": s.broker, "topic": s.labels[1].text} if s.labels is not None else None,
    }


def _memory(lines: tuple[MemoryLine, ...], planned: int, budget: int) -> Iterator[str]:
    width = max(len(line.what) for line in lines)
    yield f"{'memory':{width}}  {'MiB':>8}"
    for line in lines:
        yield f"{line.what:{width}}  {line.bytes / MIB:8.2f}  {line.how}"
    spare = (budget - planned) / MIB
    yield f"{'sum':{width}}  {planned / MIB:8.2f}  of {budget / MIB:.0f} MiB, {spare:.0f} MiB to spare"


def _source(s: SourcePlan, table: KeyTablePlan | None) -> str:
    where = f"{kind_of(s.settings).describe(s)}{f' (port.{s.port})' if s.port else ''}"
    rate = f", {rate_said(s.rate)}" if s.rate else ""
    keys = f", up to {s.max_keys} keys by {' '.join(s.key_names)}" if s.key_names else ""
    answers = f", answers on {listed(f.text for f in s.replies)}" if s.replies else ""
    rejects = f", what it refuses goes to {s.rejects.broker}: {s.rejects.topic}" if s.rejects else ""
    wait = f", put in order within {duration(s.lateness_ns)}" if s.lateness_ns else ""
    own = f", {len(table.keys)} of them in {table.name}" if table is not None else ""
    fields = listed(dict.fromkeys(f.name for f in s.fields))
    return f"source.{s.name}: {where}{rate}{keys}{own}{wait}{answers}{rejects}: {fields}"


def _sends(plan: Plan) -> list[str]:
    """What is said on ports: it may start a motor."""
    speakers: dict[str, tuple[schema.Send, ...]] = {f"port.{n}": p.settings.send for n, p in plan.ports.items()}
    for name, source in plan.sources.items():
        if isinstance(source.settings, schema.SerialSource) and not source.port:
            speakers[f"source.{name}"] = source.settings.send
    lines = [f"{who} sends {send_said(one)}" for who, sends in speakers.items() for one in sends]
    for name, source in plan.sources.items():
        settings = source.settings
        if isinstance(settings, schema.ModbusSource):
            units = f"unit{'s' if len(settings.address) > 1 else ''} {listed(map(str, settings.address))}"
            what = listed(request.said() for request in poll_of(settings.decode.fields).requests)
            lines.append(f"source.{name} asks {units} every {duration(settings.every)} for {what}")
    return [*lines, ""] if lines else []


def _behaviours(plan: Plan) -> list[str]:
    """What each may do: it may stop a motor."""
    lines = []
    for name, b in plan.behaviours.items():
        of = f", one for each of up to {b.instances} keys" if b.per_key else ""
        lines.append(f"behaviour.{name}: {b.where}{of}")
        if b.hears:
            full = (
                "the newest of each key waits" if b.overflow == "latest_only" else f"{b.inbox} wait, then the oldest is dropped"
            )
            lines.append(f"  reads {listed(heard.stream for heard in b.hears)}; {full}, and a crash loses what waits")
        if b.ask:
            lines.append(f"  asks {listed(f'pipeline.{one}' for one in b.ask)}")
        if b.publish:
            most = caps_said(b.limits)
            topics = listed(one.text for one in b.publish)
            lines.append(f"  may publish to {b.broker}: {topics}, at most {most}")
        if b.write:
            lines.append(f"  may write to {listed(b.write)}")
        for one in b.on_end:
            last = f"{one.topic.text} gets {one.value!r}" if one.topic is not None else f"{one.write} gets {written(one.data)}"
            lines.append(f"  when it ends {last}")
    return [*lines, ""] if lines else []


def _homeassistant(plan: Plan) -> list[str]:
    """What appears there, and what does not."""
    shown = plan.homeassistant
    if shown is None:
        return []
    lines = [f"in Home Assistant, by {shown.broker}: {shown.prefix}/device/+/config: {plan.device} with its own diagnostics, and"]
    for name, one in shown.shown.items():
        source = plan.sources.get(one.source)
        by = f", on a device for each of up to {source.max_keys} keys of source.{one.source}" if source is not None else ""
        old = f"; unavailable after {one.expire_after_s} s without a result" if one.expire_after_s is not None else ""
        lines.append(f"  pipeline.{name}: {listed(_entity(one, entity) for entity in one.entities)}{by}{old}")
    if left := [f"pipeline.{name}" for name in plan.pipelines if name not in shown.shown]:
        lines.append(f"  nothing of {', '.join(left)}")
    return [*lines, ""]


def _entity(one: ShownPlan, entity: Entity) -> str:
    what = ", ".join(filter(None, (entity.device_class, entity.field.unit)))
    return f'{entity.component} "{one.called(entity)}"{f" ({what})" if what else ""}'


def _homeassistant_json(shown: HomeAssistantPlan) -> dict[str, Any]:
    return {
        "broker": shown.broker,
        "prefix": shown.prefix,
        "entities": [
            {
                "pipeline": name,
                "field": entity.field.name,
                "component": entity.component,
                "name": one.called(entity),
                "device_class": entity.device_class,
                "unit": entity.field.unit,
                "per_key": bool(one.source),
            }
            for name, one in shown.shown.items()
            for entity in one.entities
        ],
    }


def _silences(sources: Mapping[str, SourcePlan]) -> list[str]:
    """The sources of which nobody said how long they may be silent."""
    learning = [f"source.{n}" for n, s in sources.items() if s.learns_pace]
    never = [
        f"source.{n}"
        for n, s in sources.items()
        if s.stale_ns is None and not s.learns_pace and not isinstance(s.settings, schema.AskSource)
    ]
    lines = []
    if learning:
        lines += [
            f"no limit of silence: {', '.join(learning)}; neither rate nor stale_after is set",
            f"  if {GAPS} gaps are regular, edged learns the pace, and reports silent after {SILENT_GAPS} gaps, at least "
            f"{MIN_SILENCE_NS // 10**9} s; if not (a door contact), it reports no silence: set stale_after if it should",
        ]
    if never:
        lines.append(f'silence is never reported: {", ".join(never)}; stale_after = "never"')
    return [*lines, ""] if lines else []


def _spool(spool: SpoolSettings, rate: float | None) -> str:
    """How long an outage it covers, for results of a usual size."""
    count = spool.max_bytes // RECORD
    how_long = f", {_span(count / rate)} at {rate_said(rate)}" if rate else ""
    what = f"about {count} results of {RECORD} bytes{how_long}"
    return f"while a broker is away, {spool.max_bytes / MIB:.0f} MiB in {spool.path}: {what}"


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _asked(p: PipelinePlan, ask: AskPlan, remote: RemotePlan) -> Iterator[str]:
    """What leaves this device, for whom, and what becomes of rows that get no answer."""
    yield f"{p.slots} slots for a model elsewhere; a sample is settled once it has a slot, and a crash loses what waits there"
    picture = f", the picture of source.{p.sources[0]}" if p.view is not None else ""
    what = "a prompt" if ask.prompt else "; ".join(f"{i.name.removeprefix(PREFIX)} {list(i.shape)}" for i in ask.inputs)
    caps = f", at most {caps_said(remote.limits)}" if remote.limits else ""
    yield f"model.{remote.name}: {remote.url} by {remote.protocol} gets {what}{picture}; {remote.concurrency} at a time{caps}"
    yield f"rows without an answer {f'go to model.{p.model}' if p.model else 'are dropped'}"


def _stages(p: PipelinePlan, remotes: Mapping[str, RemotePlan]) -> Iterator[str]:
    if p.align is not None:
        pace = f"sample of {p.sources[p.align.to]}" if p.align.to is not None else duration(p.align.period_ns or 0)
        old = max(s.tolerance_ns or 0 for s in p.align.sources)
        yield f"one row every {pace}, {p.align.method} values of the others, at most {duration(old)} old"
    if p.view is not None:
        how = {"letterbox": "with gray around it", "crop": "cut off", "stretch": "stretched"}
        yield f"each picture as {p.view.size[0]} x {p.view.size[1]} pixels, {how[p.view.fit]}, {p.view.color}"
    if p.window is not None:
        gap = f", starting over after a silence of {duration(p.window.gap_ns)}" if p.window.gap_ns else ""
        yield f"window of {p.window.size} samples, one every {p.window.hop}{gap}"
    if p.gate is not None:
        which = "the same sample" if p.gate.fork is not None else "the newest that is not after it"
        yield f"only while {p.gate.source} says {gate_said(p.gate)}, of {which}"
    yield from map(step_name, p.steps)
    if p.ask is not None:
        yield from _asked(p, p.ask, remotes[p.ask.remote])
    elif p.model is not None:
        full = {
            "block": "when they are full the source waits",
            "drop_oldest": "when they are full edged drops the oldest row",
            "drop_newest": "when they are full edged drops the new row",
            "latest_only": "only the newest row of each key waits",
        }
        turn = f", priority {p.priority}" if p.priority else ""
        yield f"{p.slots} slots, {full[p.overflow]}{turn}"
        inputs = (f"{i.name} = {i.value}" if i.value is not None else f"{i.name} {list(i.shape)} {i.dtype}" for i in p.inputs)
        yield f"model.{p.model}: {', '.join(inputs)}"
    if p.states:
        ends = ", ".join(f"{s.output} as {s.input} {list(s.shape)} {s.dtype}" for s in p.states)
        yield f"what it remembers of {'each key' if p.keys else 'the samples before'}: {ends}"
    yield from (f"{f.path.name}:{f.name}" for f in p.postprocess)
    yield p.output.summary()


def _publish(x: PublishPlan, spool: SpoolSettings | None) -> str:
    s = x.settings
    what = f"{s.format}{' of ' + listed(s.fields) if s.fields else ''}, QoS {s.qos}{', retained' if s.retain else ''}"
    is_lost = s.when.min_interval is not None and (not s.qos or spool is None)
    crash = "; a crash loses the results that edged holds back" if is_lost else ""
    return f"{x.broker}: {x.topic.text} ({what}{_when(s.when)}{crash})"


def _samples(s: SamplesPlan) -> Iterator[str]:
    """What leaves this device of its inputs, or stays on its disk."""
    what = [
        *([f"inputs of results {condition_said(s.when)}, at most {caps_said(s.limits)}"] if s.when is not None else []),
        *([f"{caps_said([s.audit])} at random"] if s.audit is not None else []),
    ]
    of = listed(f"source.{root.source}" for root in s.roots)
    where = (
        f"leave this device: {s.broker}: {s.topic}" if s.topic else f"are kept in {s.folder}, at most {s.max_bytes // MIB} MiB"
    )
    yield f"{' and '.join(what)}: recordings of {of}, with what came in around them, {where}"
    if s.labels is not None:
        yield f"labels of those come from {s.broker}: {s.labels[1].text}"


def _when(w: When) -> str:
    of = f"{w.of} " if w.of else ""
    parts = (
        None if w.change is None else f"{of}changed{f' by more than {w.change:g}' if w.change else ''}",
        None if w.above is None else f"{of}above {w.above:g}",
        None if w.below is None else f"{of}below {w.below:g}",
        None if w.label is None else f"label is {' or '.join(w.label)}",
        w.of if w.of and w.change is None and w.above is None and w.below is None and w.label is None else None,
    )
    given = [part for part in parts if part is not None]
    intervals = [
        *([f"at most one in {duration(w.min_interval)}"] if w.min_interval else []),
        *([f"at least one in {duration(w.max_interval)}"] if w.max_interval else []),
    ]
    return "".join(f", {text}" for text in ([f"if {' and '.join(given)}"] if given else []) + intervals)
