"""Plan to running parts: the one file that names concrete classes.

Builds from the last stage to the first, so that everybody finds a consumer: models, links, pipelines, sources.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any

from edged.alarm import Alarm
from edged.align import Aligner
from edged.clock import Clock
from edged.config import schema
from edged.decode import make_payload_decoder, make_stream_decoder
from edged.encode import Envelope, envelope_fields, make_encoder
from edged.errors import Problem
from edged.flow import Flow
from edged.freshness import Freshness
from edged.inputs import Filler, make_constant
from edged.model.load import load_session
from edged.model.records import LoadReport, ModelRefused
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.pipeline import Pipeline, PipelineCounts
from edged.plan.records import PipelinePlan, Plan, PublishPlan, SourcePlan
from edged.plan.steps import make_postprocess, make_preprocess
from edged.preprocess import Postprocess
from edged.publish import Publish
from edged.records import Block, Receipt
from edged.shape import make_shape, result_fields
from edged.slots import Slots
from edged.sources.counts import SourceCounts
from edged.sources.mqtt import Filter, MqttSource, Router
from edged.sources.replay import ReplaySource
from edged.sources.serial import SerialSource
from edged.sources.simulate import SimulateSource
from edged.spool.disk import FileDisk
from edged.spool.spool import Spool, boot_id
from edged.stamp import KeyTable, Stamper
from edged.telemetry import Drops, PublishCounts
from edged.transport.mqtt_client import Link
from edged.when import When
from edged.window import WindowStage

Reader = SerialSource | ReplaySource | SimulateSource
"""A source with a task of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """The running parts, by name. `readers` pairs the sources that have a task with those who take their blocks. `freshness` has
    the sources of which it is known when they are stale or frozen."""

    plan: Plan
    run: str
    links: Mapping[str, Link]
    routers: Mapping[str, Router]
    models: Mapping[str, Model]
    reports: Mapping[str, LoadReport]
    pipelines: Mapping[str, Pipeline]
    publishes: Mapping[str, tuple[PublishCounts, ...]]
    sources: Mapping[str, Reader | MqttSource]
    keys: Mapping[str, KeyTable]
    freshness: Mapping[str, Freshness]
    readers: tuple[tuple[Reader, list[Callable[[Block], None]]], ...]
    envelopes: tuple[Envelope, ...]
    workers: Workers
    spool: Spool | None

    @property
    def has_live_sources(self) -> bool:
        """Whether some source can go on for ever; recordings end."""
        return any(not isinstance(s, ReplaySource) for s in self.sources.values())

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


def load_models(plan: Plan) -> dict[str, Loaded]:
    """Loads and tries every model; takes as long as they take, so not on the loop.

    Raises `ModelRefused` with the problems of all models that do not load as planned.
    """
    loaded: dict[str, Loaded] = {}
    problems: list[Problem] = []
    for name, model_plan in plan.models.items():
        try:
            loaded[name] = Loaded(*load_session(model_plan))
        except ModelRefused as error:
            problems += error.problems
    if problems:
        raise ModelRefused(problems)
    return loaded


def assemble(plan: Plan, loaded: Mapping[str, Loaded], clock: Clock, log: Any) -> Assembly:
    """Builds every part on the running loop, opening nothing yet."""
    run = secrets.token_hex(4)
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    models = {name: Model(name, one, loop.call_soon, clock.now, workers) for name, one in loaded.items()}
    reports = {name: one.report for name, one in loaded.items()}
    tables = _key_tables(plan)
    sources, readers, flows = _sources(plan, tables, clock)
    routers = {
        name: Router(
            [s for s in sources.values() if isinstance(s, MqttSource) and plan.sources[s.name].broker == name],
            clock,
            Drops(f"broker.{name}"),
        )
        for name in plan.links
    }
    spool = Spool(plan.spool, FileDisk(plan.spool.path), clock, log, boot_id()) if plan.spool is not None else None
    links = {
        name: Link(settings, routers[name].on_publishes, clock, log, spool.backlog(name) if spool is not None else None)
        for name, settings in plan.links.items()
    }
    pipelines: dict[str, Pipeline] = {}
    publishes: dict[str, tuple[PublishCounts, ...]] = {}
    envelopes: list[Envelope] = []
    for name, p in plan.pipelines.items():
        table = tables.get(p.key_group) if p.keys else None
        model_name = f"{p.model}@{reports[p.model].sha256[:8]}" if p.model else None
        envelope = Envelope(plan.device, name, model_name, run, table.names if table is not None else None)
        envelopes.append(envelope)
        entries = [
            _publish(f"pipeline.{name}.publish[{i}]", x, p, _number_type(p, reports), envelope, table, links[x.broker])
            for i, x in enumerate(p.publishes)
        ]
        publishes[name] = tuple(e.counts for e in entries)
        flow = _flow_of([flows[s] for s in p.roots if s in flows])
        pipelines[name] = _pipeline(p, models.get(p.model or ""), entries, flow, clock)
    for link in links.values():
        link.on_superseded = partial(_supersede, tuple(pipelines.values()))
    consumers = _connect(plan, pipelines)
    freshness = _freshness(plan)
    for name, one in freshness.items():
        consumers[name].insert(0, one.see)  # before the pipelines, whose rows it may mark
    for name, source in sources.items():
        if isinstance(source, MqttSource):
            source.consumers = consumers[name]
            source.is_pace = any(
                p.align and p.align.to is not None and p.sources[p.align.to] == name for p in plan.pipelines.values()
            )
    return Assembly(
        plan=plan,
        run=run,
        links=links,
        routers=routers,
        models=models,
        reports=reports,
        pipelines=pipelines,
        publishes=publishes,
        sources=sources,
        keys=tables,
        freshness=freshness,
        readers=tuple((reader, consumers[reader.name]) for reader in readers),
        envelopes=tuple(envelopes),
        workers=workers,
        spool=spool,
    )


def _key_tables(plan: Plan) -> dict[str, KeyTable]:
    """One table for each group of sources whose keys are the same numbers."""
    tables: dict[str, KeyTable] = {}
    for source in plan.sources.values():
        if source.key_names:
            group = [s for s in plan.sources.values() if s.key_group == source.key_group and s.key_names]
            stale = [s.stale_ns for s in group]
            longest = None if None in stale else max(s for s in stale if s is not None)
            tables.setdefault(source.key_group, KeyTable(max(s.max_keys for s in group), longest))
    return tables


def _freshness(plan: Plan) -> dict[str, Freshness]:
    return {
        name: Freshness(p.stale_ns, p.frozen_ns, p.width, p.max_keys, p.dtype)
        for name, p in plan.sources.items()
        if p.stale_ns is not None or p.frozen_ns is not None
    }


def _sources(
    plan: Plan, tables: Mapping[str, KeyTable], clock: Clock
) -> tuple[dict[str, Reader | MqttSource], list[Reader], dict[str, Flow]]:
    sources: dict[str, Reader | MqttSource] = {}
    readers: list[Reader] = []
    flows: dict[str, Flow] = {}
    for name, p in plan.sources.items():
        keys = tables[p.key_group] if p.key_names else None
        stamper = Stamper(p.decode.time_format if p.decode else None, p.rate, keys)
        if isinstance(p.settings, schema.MqttSource):
            sources[name] = _mqtt_source(p, keys, stamper, clock)
            continue
        flows[name] = Flow()
        reader = _reader(p, stamper, flows[name], clock)
        sources[name] = reader
        readers.append(reader)
    return sources, readers, flows


def _mqtt_source(p: SourcePlan, keys: KeyTable | None, stamper: Stamper, clock: Clock) -> MqttSource:
    assert p.decode is not None
    assert isinstance(p.settings, schema.MqttSource)
    return MqttSource(
        p.name,
        filters=[Filter(identifier, topic) for identifier, topic in p.filters],
        takes_retained=p.settings.retained,
        decoder=make_payload_decoder(p.decode),
        keys=keys,
        key_parts=p.key_parts,
        stamper=stamper,
        counts=SourceCounts(p.name),
        clock=clock,
    )


def _reader(p: SourcePlan, stamper: Stamper, flow: Flow, clock: Clock) -> Reader:
    counts = SourceCounts(p.name)
    match p.settings:
        case schema.SerialSource() as settings:
            assert p.decode is not None
            return SerialSource(p.name, settings, make_stream_decoder(p.decode), stamper, flow, counts, clock)
        case schema.ReplaySource() as settings:
            assert p.decode is not None
            return ReplaySource(
                p.name, settings, make_stream_decoder(p.decode), make_payload_decoder(p.decode), stamper, flow, counts, clock
            )
        case schema.SimulateSource() as settings:
            return SimulateSource(p.name, settings, flow, counts, clock, p.dtype)
        case other:
            raise TypeError(f"no such source: {other!r}")


def _flow_of(flows: list[Flow]) -> Callable[[bool], None]:
    """Holds or releases the flow of every source of a pipeline."""

    def set_held(held: bool) -> None:
        for flow in flows:
            if held:
                flow.hold()
            else:
                flow.release()

    return set_held


def _number_type(p: PipelinePlan, reports: Mapping[str, LoadReport]) -> str:
    """The element type of results in format "raw": that of the model's output, whatever its sources are decoded as."""
    if p.model is None:
        return p.dtype
    own = {o.name: o.dtype for o in reports[p.model].outputs}
    return "float64" if any(own.get(name) == "float64" for name in p.output.tensors) else "float32"


def _publish(
    name: str, p: PublishPlan, pipeline: PipelinePlan, dtype: str, envelope: Envelope, keys: KeyTable | None, link: Link
) -> Publish:
    def topic(key: int) -> bytes:
        parts = keys.names(key) if keys is not None else ()
        return p.topic.fill({**dict(zip(pipeline.keys, parts, strict=True)), "key": "/".join(parts)}).encode()

    settings = p.settings
    return Publish(
        encoder=make_encoder(envelope, result_fields(pipeline.output), settings.format, settings.fields or (), dtype),
        when=When(p.when, pipeline.max_keys, envelope_fields(envelope)) if p.when is not None else None,
        topic=topic,
        outlet=link,
        counts=PublishCounts(name),
        qos=settings.qos,
        retain=settings.retain,
        deadline=pipeline.deadline_ns or 0,
    )


def _pipeline(
    p: PipelinePlan, model: Model | None, publishes: list[Publish], hold_sources: Callable[[bool], None], clock: Clock
) -> Pipeline:
    counts = PipelineCounts(f"pipeline.{p.name}")
    slots = Slots(
        p.slots if model is not None else 1, {i.name: (i.shape, i.dtype) for i in p.inputs if i.is_row}, p.overflow, counts.drops
    )
    for i in p.inputs:
        if i.is_row and i.value is not None:
            slots.rows[i.name][:] = make_constant(i.value, i.shape, i.dtype)

    def ring() -> None:
        pipeline.tick()

    alarm = Alarm(ring, clock)
    pipeline = Pipeline(
        p.name,
        aligner=Aligner(p.align) if p.align is not None else None,
        window=WindowStage(p.window.size, p.window.hop, p.window.gap_ns, p.width, p.max_keys, p.dtype) if p.window else None,
        hop=p.window.hop if p.window else 1,
        preprocess=make_preprocess(p.steps, p.window_shape, p.dtype) if p.steps else None,
        fillers={i.name: Filler(i) for i in p.inputs if i.value is None},
        slots=slots,
        wake=model.wake if model is not None else None,
        postprocess=_postprocess(p, model),
        shape=make_shape(p.output),
        fields=p.fields,
        publishes=publishes,
        overflow=p.overflow,
        hold_sources=hold_sources,
        counts=counts,
        clock=clock,
        alarm=alarm.set,
        results=p.results,
        deadline=p.deadline_ns or 0,
    )
    if model is not None:
        model.attach(pipeline)
    return pipeline


def _postprocess(p: PipelinePlan, model: Model | None) -> Postprocess | None:
    if model is None or not p.postprocess:
        return None
    return make_postprocess(p.postprocess, {o.name: (o.shape or (), o.dtype) for o in model.loaded.report.outputs})


def _supersede(pipelines: Sequence[Pipeline], receipts: AbstractSet[Receipt]) -> None:
    for pipeline in pipelines:
        pipeline.supersede(receipts)


def _connect(plan: Plan, pipelines: Mapping[str, Pipeline]) -> dict[str, list[Callable[[Block], None]]]:
    """For every source, what takes its blocks: each pipeline under the place the source has in it. Chains pipelines likewise."""
    consumers: dict[str, list[Callable[[Block], None]]] = {name: [] for name in plan.sources}
    for name, p in plan.pipelines.items():
        for place, stream in enumerate(p.sources):
            feeds = pipelines[stream].followers if stream in pipelines else consumers[stream]
            feeds.append(_into(pipelines[name], place))
    return consumers


def _into(pipeline: Pipeline, place: int) -> Callable[[Block], None]:
    def push(block: Block) -> None:
        pipeline.push(place, block)

    return push
