"""Plan to running parts: the one file that names concrete classes.

`assemble` builds from the last stage to the first, so that everybody finds a consumer: models, links, pipelines, sources.
Given what runs `before`, it takes over every part whose plan is equal, with all that is in it, and touches none. `connect`
then wires the parts, in one turn of the loop: from there on the new plan is what runs.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from edged.clock.alarm import Alarm
from edged.clock.clock import Clock
from edged.daemon.gating import wire_gates
from edged.errors import Problem
from edged.model.gpu.ladder import Picked
from edged.model.inputs import make_constant, make_filler
from edged.model.load import load_session
from edged.model.records import LoadReport, ModelPlan, ModelRefused
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.mqtt.subscriptions import KnownFilters
from edged.mqtt.suspects import PATIENCE, Suspects
from edged.pipeline.align import Aligner
from edged.pipeline.gate import Gate
from edged.pipeline.pipeline import Pipeline, PipelineCounts
from edged.pipeline.preprocess import Postprocess
from edged.pipeline.recurrent import States
from edged.pipeline.slots import Slots
from edged.pipeline.window import WindowStage
from edged.plan.change import is_same_head, is_same_publish, is_same_rows, is_same_window
from edged.plan.records import PipelinePlan, Plan, PublishPlan, SourcePlan
from edged.plan.results import message_bytes
from edged.plan.steps import make_postprocess, make_preprocess
from edged.records import Block, Receipt
from edged.results.encode import Encoder, Envelope, envelope_fields, make_encoder
from edged.results.publish import Publish
from edged.results.when import When
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.freshness import Freshness
from edged.sources.kind import Parts, Reader
from edged.sources.kinds import kind_of
from edged.sources.mqtt import MqttSource, Router
from edged.sources.replies import Replies
from edged.spool.disk import FileDisk
from edged.spool.spool import Spool, boot_id
from edged.stamp import KeyTable, Stamper
from edged.system.hang_recorder import Stages
from edged.system.one_shot import start_one_shot_thread
from edged.telemetry import Drops, PublishCounts

Consumers = list[Callable[[Block], None]]
"""Who takes the blocks of a source. The list stays as long as the source; a reload changes what is in it."""


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """The running parts, by name. `freshness` has the sources of which it can be told that they are stale or frozen."""

    plan: Plan
    run: str
    links: Mapping[str, Link]
    routers: Mapping[str, Router]
    models: Mapping[str, Model]
    loaded: dict[str, Loaded]
    pipelines: Mapping[str, Pipeline]
    publishes: Mapping[str, tuple[PublishCounts, ...]]
    sources: Mapping[str, Reader | MqttSource]
    flows: Mapping[str, Flow]
    keys: Mapping[str, KeyTable]
    freshness: Mapping[str, Freshness]
    consumers: Mapping[str, Consumers]
    envelopes: Mapping[str, Envelope]
    workers: Workers
    stages: Stages
    suspects: Suspects
    spool: Spool | None
    leaving: list[Pipeline] = field(default_factory=list)
    """Pipelines of an earlier plan that still run out what they had; `release` takes out those that are done."""

    @property
    def reports(self) -> dict[str, LoadReport]:
        return {name: one.report for name, one in self.loaded.items()}

    @property
    def readers(self) -> dict[str, Reader]:
        """The sources that have a task."""
        return {name: s for name, s in self.sources.items() if not isinstance(s, MqttSource)}

    def amend(self, name: str, report: LoadReport) -> None:
        """Something else is to be said of a model that stays as it is."""
        one = self.loaded[name]._replace(report=report)
        self.loaded[name] = self.models[name].loaded = one

    def waiting(self, name: str) -> int:
        """Rows and windows of a pipeline that wait for a run."""
        mine = self.pipelines[name]
        return len(mine.slots) + sum(len(p.slots) for p in self.leaving if p.counts is mine.counts)

    @property
    def mqtt_sources(self) -> list[MqttSource]:
        return [s for s in self.sources.values() if isinstance(s, MqttSource)]

    @property
    def replies(self) -> list[Replies]:
        """The requests of all sources that answer some."""
        return [s.replies for s in self.sources.values() if isinstance(s, MqttSource) and s.replies is not None]

    @property
    def has_live_sources(self) -> bool:
        """Whether some source can go on for ever; recordings end."""
        return any(not kind_of(p.settings).ends for p in self.plan.sources.values())

    def drop_caches(self) -> None:
        """Gives up what only saves time and fills again by itself."""
        for link in self.links.values():
            link.drop_caches()
        for router in self.routers.values():
            router.drop_caches()
        for pipeline in self.pipelines.values():
            for publish in pipeline.publishes:
                publish.drop_caches()

    def close(self) -> None:
        """Ends what has a thread or a session."""
        for model in self.models.values():
            model.close()
        self.workers.close(timeout_s=1.0)


def load_models(
    plans: Mapping[str, ModelPlan], picked: Mapping[str, Picked] | None = None, all_golden: bool = False
) -> dict[str, Loaded]:
    """Loads and tries every model; takes as long as they take, so not on the loop. `picked`: who is to run them, where that was
    tried elsewhere. `all_golden`: no trial has read the golden samples.

    Raises `ModelRefused` with the problems of all models that do not load as planned.
    """
    loaded: dict[str, Loaded] = {}
    problems: list[Problem] = []
    for name, plan in plans.items():
        try:
            one = picked[name] if picked is not None else None
            if one is None:
                loaded[name] = Loaded(*load_session(plan, all_golden=all_golden))
            else:
                loaded[name] = _load_doubted(plan, one, all_golden)
        except ModelRefused as error:
            problems += error.problems
    if problems:
        raise ModelRefused(problems)
    return loaded


def _load_doubted(plan: ModelPlan, one: Picked, all_golden: bool) -> Loaded:
    """What is noted of a GPU is in doubt until it has run here: a library may end the process, too."""
    if one.note is not None:
        one.note.doubt()
    loaded = Loaded(*load_session(plan, choice=one.choice, engine=one.engine, all_golden=all_golden))
    if one.note is not None and loaded.report.provider == one.choice.rungs[0]:
        one.note.trust()
    return loaded


def assemble(
    plan: Plan,
    loaded: Mapping[str, Loaded],
    clock: Clock,
    log: Any,
    before: Assembly | None = None,
    run: str | None = None,
    stages: Stages | None = None,
) -> Assembly:
    """Builds every part on the running loop, opening nothing yet. `loaded` has every model of the plan, those that are kept
    from `before` as they are there. `run` is that of a start that goes on where a stop left off."""
    a = before or _nothing(plan, run or secrets.token_hex(4), stages or Stages(clock.now))
    tables = _key_tables(plan, a)
    sources, flows = _sources(plan, tables, clock, a)
    routers = {n: a.routers.get(n) or Router([], clock, Drops(f"broker.{n}")) for n in plan.links}
    spool = a.spool or (Spool(plan.spool, FileDisk(plan.spool.path), clock, log, boot_id()) if plan.spool is not None else None)
    links = {
        name: a.links.get(name)
        or Link(
            settings,
            a.stages.wrap(f"broker.{name}: inputs", routers[name].on_publishes),
            clock,
            log,
            spool.backlog(name) if spool is not None else None,
            KnownFilters(plan.state_dir / "subscriptions" / f"{name}.json", settings.client_id, log, _in_thread),
            a.suspects,
            partial(_drop_poison, routers[name], a.suspects),
        )
        for name, settings in plan.links.items()
    }
    models = _models(loaded, clock, a)
    pipelines: dict[str, Pipeline] = {}
    publishes: dict[str, tuple[PublishCounts, ...]] = {}
    envelopes: dict[str, Envelope] = {}
    for name, p in plan.pipelines.items():
        table = tables.get(p.key_group) if p.keys else None
        has_its_keys = table is (a.keys.get(p.key_group) if p.keys else None)
        old = _Old(a.plan.pipelines[name], a.pipelines[name]) if name in a.pipelines and has_its_keys else None
        model = models.get(p.model or "")
        if old is not None and old.plan == p and model is a.models.get(p.model or ""):
            pipelines[name], publishes[name], envelopes[name] = old.pipeline, a.publishes[name], a.envelopes[name]
            continue
        envelope = a.envelopes[name] if old is not None else Envelope(plan.device, name, None, a.run, _names(table))
        counts = a.pipelines[name].counts if name in a.pipelines else PipelineCounts(f"pipeline.{name}", clock.now_s)
        accounts = a.publishes.get(name, ())
        entries = [
            old.pipeline.publishes[i]
            if old is not None and is_same_publish(old.plan, p, i)
            else _publish(
                x,
                p,
                _number_type(p, loaded),
                envelope,
                table,
                links[x.broker],
                accounts[i] if i < len(accounts) else PublishCounts(f"pipeline.{name}.publish[{i}]", clock.now_s),
            )
            for i, x in enumerate(p.publishes)
        ]
        envelopes[name] = envelope
        publishes[name] = tuple(e.counts for e in entries)
        flow = _flow_of([flows[s] for s in p.roots if s in flows])
        answer = make_encoder(envelope, ())
        pipelines[name] = _pipeline(
            plan, a.stages, p, model, loaded.get(p.model or ""), entries, answer, counts, flow, clock, old
        )
    in_use = {id(x) for p in pipelines.values() for x in (p, p.slots)}
    return Assembly(
        plan=plan,
        run=a.run,
        links=links,
        routers=routers,
        models=models,
        loaded=dict(loaded),
        pipelines=pipelines,
        publishes=publishes,
        sources=sources,
        flows=flows,
        keys=tables,
        freshness=_freshness(plan, a),
        consumers={name: a.consumers.get(name, []) for name in sources},
        envelopes=envelopes,
        workers=a.workers,
        stages=a.stages,
        suspects=a.suspects,
        spool=spool,
        leaving=[p for p in (*a.leaving, *a.pipelines.values()) if not {id(p), id(p.slots)} & in_use],
    )


def _in_thread(work: Callable[[], None]) -> None:
    start_one_shot_thread("edged-note", work, lambda _: None)


def _drop_poison(router: Router, suspects: Suspects, message: Inbound) -> None:
    topic = message[0].decode(errors="replace")
    detail = f"{topic}: {PATIENCE + 1} runs of edged ended with it, in {suspects.stage}"
    router.refuse(message, "poison", detail)
    suspects.tell(topic, suspects.stage)


def _nothing(plan: Plan, run: str, stages: Stages) -> Assembly:
    """What runs before anything does."""
    empty = replace(plan, links={}, sources={}, models={}, pipelines={})
    workers = Workers(asyncio.get_running_loop().call_soon_threadsafe)
    suspects = Suspects(stages, [n for n, link in plan.links.items() if link.subscriptions])
    return Assembly(empty, run, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, workers, stages, suspects, None)


class _Old(NamedTuple):
    """A pipeline of the plan before, whose keys are the same numbers."""

    plan: PipelinePlan
    pipeline: Pipeline


def _names(table: KeyTable | None) -> Callable[[int], tuple[str, ...]] | None:
    return table.names if table is not None else None


def connect(a: Assembly, before: Assembly | None = None) -> None:
    """Wires the parts, in one turn of the loop. From here on `before` is no more, but for what it has to run out."""
    plan = a.plan
    if a.spool is not None and plan.spool is not None:
        a.spool.configure(plan.spool)
    for name, link in a.links.items():
        link.configure(plan.links[name])
        link.on_superseded = partial(_supersede, a.mqtt_sources, (*a.pipelines.values(), *a.leaving), a.replies)
    for name, router in a.routers.items():
        router.route_to([s for s in a.sources.values() if isinstance(s, MqttSource) and plan.sources[s.name].broker == name])
    takers = _consumers(plan, a.pipelines, a.leaving, a.stages)
    wire_gates(plan, a.pipelines, a.leaving, takers, a.envelopes)
    for name, consumers in takers.items():
        fresh = a.freshness.get(name)  # before the pipelines, whose rows it may mark
        a.consumers[name][:] = consumers if fresh is None else [fresh.see, *consumers]
    for name, source in a.sources.items():
        if isinstance(source, MqttSource):
            if source.replies is not None:
                source.replies.configure(plan.sources[name].replies, a.links[plan.sources[name].broker or ""].send)
                source.replies.on_expired = partial(_expire, (*a.mqtt_sources, *a.pipelines.values(), *a.leaving))
            source.consumers = a.consumers[name]
            if source.queue is not None:
                deadlines = [p.deadline_ns or 0 for p in plan.pipelines.values() if name in p.sources]
                source.queue.deadline = max(deadlines, default=0) if all(deadlines) else 0
            source.is_pace = any(
                p.align and p.align.to is not None and p.sources[p.align.to] == name for p in plan.pipelines.values()
            )
    if before is not None:
        _pass_on_undecoded(a, before)
    for pipeline in a.leaving:
        pipeline.retire()
    for name, model in a.models.items():
        is_other = before is not None and name in before.plan.models and not _is_same_file(before.plan, plan, name)
        model.replace(a.loaded[name], partial(_rename, a, name, is_other))
        model.delay_ns = plan.models[name].delay_ns
    _feed(a)
    for name, p in plan.pipelines.items():
        pipeline = a.pipelines[name]
        old = before.pipelines.get(name) if before is not None else None
        if before is not None and old is not None and old is not pipeline:
            pipeline.take_over(old, is_same_window(before.plan.pipelines[name], p))
    for pipeline in (*a.pipelines.values(), *a.leaving):
        pipeline.judge()
    for old in before.pipelines.values() if before is not None else ():
        old.say_last(_publishes(a))


def _publishes(a: Assembly) -> list[Publish]:
    """Every entry of the plan."""
    return [publish for pipeline in a.pipelines.values() for publish in pipeline.publishes]


def _pass_on_undecoded(a: Assembly, before: Assembly) -> None:
    """What a source that is gone has not decoded yet goes to the one in its place, if that tells its sensors apart in the same
    way."""
    for source in before.mqtt_sources:
        name = source.name
        after = next((s for s in a.mqtt_sources if s.name == name), None)
        if after is not source:
            is_alike = after is not None and a.plan.sources[name].key_parts == before.plan.sources[name].key_parts
            source.leave_to(after if is_alike else None)


def release(a: Assembly) -> None:
    """Lets go of the pipelines of an earlier plan that have run out what they had."""
    done = [p for p in a.leaving if not p.has_waiting]
    if done:
        a.leaving[:] = [p for p in a.leaving if p not in done]
        _feed(a)
    for pipeline in done:
        pipeline.say_last(_publishes(a))
        pipeline.close()


def _feed(a: Assembly) -> None:
    """Tells every model whose rows it runs: those of pipelines that leave come first."""
    for name, model in a.models.items():
        mine = [a.pipelines[n] for n, p in a.plan.pipelines.items() if p.model == name]
        feeders = [*(p for p in a.leaving if p.wake == model.wake), *mine]
        for pipeline in feeders:
            if pipeline.states is not None:
                pipeline.states.be_alone(len(feeders) == 1)
        model.feed_from(feeders)


def _is_same_file(old: Plan, new: Plan, model: str) -> bool:
    a, b = old.models[model].manifest, new.models[model].manifest
    return (a.path, a.sha256) == (b.path, b.sha256)


def _rename(a: Assembly, model: str, is_other: bool) -> None:
    """From here on results are those of the file that is loaded now; what another one remembered means nothing to it."""
    if is_other:
        for pipeline in (*a.pipelines.values(), *a.leaving):
            if pipeline.states is not None and pipeline.wake == a.models[model].wake:
                pipeline.states.forget_all()
    for name, p in a.plan.pipelines.items():
        if p.model == model and is_other:
            a.pipelines[name].counts.drops.forgive()
        if p.model == model:
            a.envelopes[name].model = f"{model}@{a.loaded[model].report.sha256[:8]}"


def _models(loaded: Mapping[str, Loaded], clock: Clock, a: Assembly) -> dict[str, Model]:
    """A model goes on with another file, between two runs, if rows and outputs are alike; else it is another model."""
    loop = asyncio.get_running_loop()
    return {
        name: a.models[name]
        if name in a.models and _is_alike(a.models[name].loaded, one)
        else Model(name, one, loop.call_soon, clock.now, a.workers, a.stages, loop.call_later)
        for name, one in loaded.items()
    }


def _is_alike(a: Loaded, b: Loaded) -> bool:
    rows = [{n: (x.shape[1:], x.dtype) for n, x in one.session.inputs.items()} for one in (a, b)]
    return rows[0] == rows[1] and a.report.outputs == b.report.outputs


def _key_tables(plan: Plan, a: Assembly) -> dict[str, KeyTable]:
    """One table for each group of sources whose keys are the same numbers."""
    tables: dict[str, KeyTable] = {}
    for name, group in _key_groups(plan).items():
        stale = [s.stale_ns for s in group]
        longest = None if None in stale else max(s for s in stale if s is not None)
        size = max(s.max_keys for s in group)
        old = a.keys.get(name)
        was = {s.key_names for s in _key_groups(a.plan).get(name, ())}
        if old is not None and old.max_keys == size and was == {s.key_names for s in group}:
            old.stale_ns = longest
            tables[name] = old
        else:
            tables[name] = KeyTable(size, longest)
    return tables


def _key_groups(plan: Plan) -> dict[str, list[SourcePlan]]:
    groups: dict[str, list[SourcePlan]] = {}
    for source in plan.sources.values():
        if source.key_names:
            groups.setdefault(source.key_group, []).append(source)
    return groups


def _freshness(plan: Plan, a: Assembly) -> dict[str, Freshness]:
    return {
        name: a.freshness[name]
        if name in a.freshness and a.plan.sources[name] == p
        else Freshness(p.stale_ns, p.frozen_ns, p.width, p.max_keys, p.dtype, p.learns_pace)
        for name, p in plan.sources.items()
        if p.stale_ns is not None or p.frozen_ns is not None or p.learns_pace
    }


def _sources(
    plan: Plan, tables: Mapping[str, KeyTable], clock: Clock, a: Assembly
) -> tuple[dict[str, Reader | MqttSource], dict[str, Flow]]:
    sources: dict[str, Reader | MqttSource] = {}
    flows: dict[str, Flow] = {}
    for name, p in plan.sources.items():
        flow = flows[name] = a.flows.get(name) or Flow()
        keys = tables[p.key_group] if p.key_names else None
        if a.plan.sources.get(name) == p and (keys is None or keys is a.keys.get(p.key_group)):
            sources[name] = a.sources[name]
            continue
        counts = a.sources[name].counts if name in a.sources else SourceCounts(name, clock.now_s)
        stamper = Stamper(p.decode.time_format if p.decode else None, p.rate, keys)
        parts = Parts(stamper, flow, counts, clock, a.stages, keys, _replies(p, a, clock))
        sources[name] = kind_of(p.settings).build(p, parts)
    return sources, flows


def _replies(p: SourcePlan, a: Assembly, clock: Clock) -> Replies | None:
    """The requests of a source that answers some, those that wait among them."""
    if not p.replies:
        return None
    old = a.sources.get(p.name)
    if isinstance(old, MqttSource) and old.replies is not None:
        return old.replies

    def ring() -> None:
        replies.look(clock.now())

    alarm = Alarm(a.stages.wrap(f"source.{p.name}: answers", ring), clock)
    replies = Replies(f"source.{p.name}: answers", alarm.set)
    return replies


def _flow_of(flows: list[Flow]) -> Callable[[bool], None]:
    """Holds or releases the flow of every source of a pipeline."""

    def set_held(held: bool) -> None:
        for flow in flows:
            if held:
                flow.hold()
            else:
                flow.release()

    return set_held


def _number_type(p: PipelinePlan, loaded: Mapping[str, Loaded]) -> str:
    """The element type of results in format "raw": that of the model's output, whatever its sources are decoded as."""
    if p.model is None:
        return p.dtype
    own = {o.name: o.dtype for o in loaded[p.model].report.outputs}
    return "float64" if any(own.get(name) == "float64" for name in p.output.tensors) else "float32"


def _publish(
    p: PublishPlan,
    pipeline: PipelinePlan,
    dtype: str,
    envelope: Envelope,
    keys: KeyTable | None,
    link: Link,
    counts: PublishCounts,
) -> Publish:
    def topic(key: int) -> bytes:
        parts = keys.names(key) if keys is not None else ()
        return p.topic.fill({**dict(zip(pipeline.keys, parts, strict=True)), "key": "/".join(parts)}).encode()

    settings = p.settings
    return Publish(
        encoder=make_encoder(envelope, pipeline.output.result_fields(), settings.format, settings.fields or (), dtype),
        when=When(p.when, pipeline.max_keys, envelope_fields(envelope)) if p.when is not None else None,
        topic=topic,
        outlet=link,
        counts=counts,
        qos=settings.qos,
        retain=settings.retain,
        deadline=pipeline.deadline_ns or 0,
        size=message_bytes(pipeline, p),
    )


def _pipeline(
    plan: Plan,
    stages: Stages,
    p: PipelinePlan,
    model: Model | None,
    loaded: Loaded | None,
    publishes: list[Publish],
    answer: Encoder,
    counts: PipelineCounts,
    hold_sources: Callable[[bool], None],
    clock: Clock,
    old: _Old | None,
) -> Pipeline:
    """A pipeline, with those parts of the `old` one whose plans are equal."""
    if old is not None and is_same_window(old.plan, p):
        aligner, window = old.pipeline.aligner, old.pipeline.window
    else:
        aligner = Aligner(p.align) if p.align is not None else None
        window = WindowStage(p.window.size, p.window.hop, p.window.gap_ns, p.width, p.max_keys, p.dtype) if p.window else None
    if old is not None and is_same_rows(old.plan, p) and old.plan.gate == p.gate and old.pipeline.wake == _wake(model):
        slots, states = old.pipeline.slots, old.pipeline.states
    else:
        slots, states = _slots(p, counts), _states(p)

    def ring() -> None:
        pipeline.tick()

    alarm = Alarm(stages.wrap(f"pipeline.{p.name}: timer", ring), clock)
    pipeline = Pipeline(
        p.name,
        aligner=aligner,
        window=window,
        hop=p.window.hop if p.window else 1,
        preprocess=make_preprocess(p.steps, p.window_shape, p.dtype, p.picture) if p.steps else None,
        fillers={i.name: make_filler(i) for i in p.inputs if i.value is None},
        slots=slots,
        states=states,
        wake=_wake(model),
        postprocess=_postprocess(p, loaded),
        head=old.pipeline.head if old is not None and is_same_head(old.plan, p) else p.output.make_head(),
        fields=p.fields,
        publishes=publishes,
        overflow=p.overflow,
        hold_sources=hold_sources,
        counts=counts,
        clock=clock,
        alarm=alarm.set,
        results=p.results,
        deadline=p.deadline_ns or 0,
        tells_again=all(s in plan.sources and plan.sources[s].has_own_time for s in p.sources),
        answer=answer,
        gate=_gate(p, old),
        priority=p.priority,
    )
    return pipeline


def _gate(p: PipelinePlan, old: _Old | None) -> Gate | None:
    """The gate, with what it knows if it is as before."""
    if p.gate is None:
        return None
    return old.pipeline.gate if old is not None and old.plan.gate == p.gate else Gate(p.gate)


def _wake(model: Model | None) -> Callable[[], None] | None:
    return model.wake if model is not None else None


def _slots(p: PipelinePlan, counts: PipelineCounts) -> Slots:
    rows = {i.name: (i.shape, i.dtype) for i in p.inputs if i.is_row}
    slots = Slots(p.slots if p.has_slots else 1, rows, p.overflow, counts.drops, is_by_key=bool(p.states))
    for i in p.inputs:
        if i.is_row and i.value is not None:
            slots.rows[i.name][:] = make_constant(i.value, i.shape, i.dtype)
    return slots


def _states(p: PipelinePlan) -> States | None:
    ends = [(s.input, s.output, s.shape, s.dtype) for s in p.states]
    return States(ends, p.max_keys, p.state_gap_ns) if ends else None


def _postprocess(p: PipelinePlan, loaded: Loaded | None) -> Postprocess | None:
    if loaded is None or not p.postprocess:
        return None
    own = {s.output for s in p.states}
    outputs = {o.name: (o.shape or (), o.dtype) for o in loaded.report.outputs if o.name not in own}
    return make_postprocess(p.postprocess, outputs)


def _supersede(
    sources: Sequence[MqttSource],
    pipelines: Sequence[Pipeline],
    replies: Sequence[Replies],
    receipts: AbstractSet[Receipt],
) -> None:
    for one in replies:
        receipts = receipts | one.supersede(receipts)
    for source in sources:
        source.supersede(receipts)
    for pipeline in pipelines:
        pipeline.supersede(receipts)


def _expire(parts: Sequence[MqttSource | Pipeline], receipts: AbstractSet[Receipt]) -> None:
    for part in parts:
        part.expire(receipts)


def _consumers(
    plan: Plan, pipelines: Mapping[str, Pipeline], leaving: Sequence[Pipeline], stages: Stages
) -> dict[str, Consumers]:
    """For every source, what takes its blocks: each pipeline under the place the source has in it, as a stage of its own where
    there are several. Chains pipelines likewise."""
    consumers: dict[str, Consumers] = {name: [] for name in plan.sources}
    names: dict[int, list[str]] = {}
    for pipeline in pipelines.values():
        pipeline.followers, pipeline.after = [], []
    for name, p in plan.pipelines.items():
        for place, stream in enumerate(p.sources):
            feeds = pipelines[stream].followers if stream in pipelines else consumers[stream]
            if stream in pipelines:
                pipelines[stream].after.append(pipelines[name])
            feeds.append(_into(pipelines[name], place, p.columns))
            names.setdefault(id(feeds), []).append(f"pipeline.{name}")
    for feeds in [*consumers.values(), *(p.followers for p in pipelines.values())]:
        if len(feeds) > 1:
            feeds[:] = [stages.wrap(name, push) for name, push in zip(names[id(feeds)], feeds, strict=True)]
    everybody = [*pipelines.values(), *leaving]
    for pipeline in everybody:
        pipeline.before = [one for one in everybody if pipeline in one.after]
    return consumers


def _into(pipeline: Pipeline, place: int, columns: tuple[int, int] | None) -> Callable[[Block], None]:
    def push(block: Block) -> None:
        pipeline.push(place, block if columns is None else block.columns(*columns))

    return push
