"""Plans which inputs are worth a look, what must be at hand to record them, and where they go."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from msgspec.structs import replace

from edged.config.schema import Config, HardSamples, MqttSource
from edged.errors import Problem
from edged.mqtt.settings import KEPT_NEVER, LinkSettings, Subscription
from edged.notation.units import KIB, MIB
from edged.plan.gates import when_of
from edged.plan.publishes import reader_of
from edged.plan.records import Machine, PipelinePlan, RootPlan, SamplesPlan, SourcePlan
from edged.plan.scope import Scope
from edged.plan.sources import identifier_of
from edged.sources.kinds import kind_of
from edged.topics import FIELD, TopicError, parse_filter, parse_template

MIN_BYTES, MAX_BYTES = 64 * KIB, 4 * MIB
"""Bytes of what came in lately of a source; of pictures at least two of the largest."""
NUMBER = 24
"""Bytes of a number on the wire, with what stands around it, at most as a rule."""
MORE_ROWS = 2
"""Beside those that a result is made of: frames are cut anywhere, and a join needs what was there before."""


def plan_samples(
    config: Config,
    machine: Machine,
    pipelines: Mapping[str, PipelinePlan],
    links: Mapping[str, LinkSettings],
    sources: Mapping[str, SourcePlan],
    known: Mapping[str, str],
    problems: list[Problem],
) -> tuple[dict[str, PipelinePlan], dict[str, LinkSettings]]:
    """The pipelines and links with them."""
    planned, subscribed = dict(pipelines), dict(links)
    taken = {s.identifier for link in links.values() for s in link.subscriptions}
    for name, p in pipelines.items():
        settings = config.pipeline[name].samples
        if settings is None:
            continue
        at = Scope(f"pipeline.{name}.samples", problems)
        before = len(problems)
        plan = _plan(at, config, settings, machine, p, pipelines, links, sources, {**known, "pipeline": name}, taken)
        if plan is None or (len(problems) > before and any(not x.is_warning for x in problems[before:])):
            continue
        planned[name] = replace(p, samples=plan)
        if plan.labels is not None and plan.broker is not None:
            identifier, topic = plan.labels
            link = subscribed[plan.broker]
            one = Subscription(topic.mqtt, qos=1, identifier=identifier, retain_handling=KEPT_NEVER)
            subscribed[plan.broker] = replace(link, subscriptions=(*link.subscriptions, one))
    return planned, subscribed


def _plan(
    at: Scope,
    config: Config,
    settings: HardSamples,
    machine: Machine,
    p: PipelinePlan,
    pipelines: Mapping[str, PipelinePlan],
    links: Mapping[str, LinkSettings],
    sources: Mapping[str, SourcePlan],
    known: Mapping[str, str],
    taken: set[int],
) -> SamplesPlan | None:
    when = None
    if settings.when is not None:
        try:
            when = when_of(settings.when, p.output).condition
        except ValueError as error:
            at.wrong("when", str(error))
    broker = settings.broker or next(iter(config.broker), None)
    speaks = settings.topic is not None or settings.labels is not None
    if speaks and broker not in links:
        at.wrong("broker", f'expected the name of a broker, found "{broker}"' if broker else "required: there is no broker")
        return None
    if speaks and settings.broker is None and len(config.broker) != 1:
        at.wrong("broker", f"required, since there are {len(config.broker)} brokers", "table")
    topic, labels = "", None
    try:
        if settings.topic is not None:
            template = parse_template(settings.topic, known, ())
            topic = template.fill({})
            reader = reader_of(config.broker, sources, broker or "", template)
            if reader is not None:
                at.wrong("topic", f"{topic} is read by source.{reader}: samples would come back as inputs")
    except TopicError as error:
        at.wrong("topic", str(error))
    try:
        if settings.labels is not None:
            asked = parse_filter(settings.labels, known)
            labels = (identifier_of(f"{p.name}: labels", asked, taken), asked)
    except TopicError as error:
        at.wrong("labels", str(error))
    roots = [_root(at, sources[root], p, pipelines) for root in p.roots]
    if settings.max_bytes is not None and settings.max_bytes > machine.disk_free:
        at.warn("max_bytes", f"{settings.max_bytes // MIB} MiB, and {machine.disk_free // MIB} MiB are free on that disk")
    folder = machine.state_dir / "samples" / p.name
    return SamplesPlan(
        when=when,
        limits=settings.limit,
        audit=settings.audit,
        roots=tuple(root for root in roots if root is not None),
        broker=broker if speaks else None,
        topic=topic,
        folder=folder,
        max_bytes=settings.max_bytes or 0,
        labels=labels,
    )


def _root(at: Scope, source: SourcePlan, p: PipelinePlan, pipelines: Mapping[str, PipelinePlan]) -> RootPlan | None:
    """What must be at hand of one source."""
    from edged.sources.recent import OVERHEAD

    settings = source.settings
    kind = kind_of(settings).recorded
    if not kind:
        at.wrong("", f"source.{source.name} is of type {settings.type}: only what sensors send is recorded")
        return None
    rows = ceil(rows_behind(p, pipelines) * _pace(source, p, pipelines)) + MORE_ROWS * (p.align is not None)
    key_at = _key_at(source, p)
    one = OVERHEAD + 64 + NUMBER * source.width + sum(len(f.name) for f in source.fields)
    if source.decode is not None and source.decode.is_slow:
        one = source.decode.max_bytes + OVERHEAD
    need = 2 * rows * one * (source.max_keys if key_at != () else 1)
    least = 2 * one if rows == 1 else MIN_BYTES
    if need > max(MAX_BYTES, least):
        whose = f" of {source.max_keys} keys" if source.max_keys > 1 else ""
        text = f"{rows} samples{whose} of source.{source.name} may be some {need // MIB} MiB as they come in, and the last"
        at.warn(
            "", f"{text} {max(MAX_BYTES, least) // MIB} MiB are at hand: samples of which some are gone are counted, not kept"
        )
    return RootPlan(source.name, source.port, kind, rows, max(MIN_BYTES, least, min(need, MAX_BYTES)), key_at)


def rows_behind(p: PipelinePlan, pipelines: Mapping[str, PipelinePlan]) -> int:
    """How many samples of what it starts from a result is made of, with all windows on the way."""
    count, at = 1, p
    while True:
        if at.window is not None:
            count = (count - 1) * at.window.hop + at.window.size
        if at.sources[0] not in pipelines:
            return count
        at = pipelines[at.sources[0]]


def _pace(source: SourcePlan, p: PipelinePlan, pipelines: Mapping[str, PipelinePlan]) -> float:
    """How many of its samples come with one row of the pipeline; 1 where nobody knows."""
    if p.align is None or source.rate is None:
        return 1.0
    to = p.align.to
    row_rate = 1e9 / p.align.period_ns if p.align.period_ns else None
    if to is not None and p.rate is not None:
        row_rate = p.rate * (p.window.hop if p.window is not None else 1)
    return max(1.0, source.rate / row_rate) if row_rate else 1.0


def _key_at(source: SourcePlan, p: PipelinePlan) -> tuple[tuple[int, int], ...] | None:
    """Where the topic says whose a message is; empty: all are of one sensor; None: only the data say it."""
    settings = source.settings
    if isinstance(settings, MqttSource) and any(FIELD in topic.captures for _, topic in source.filters):
        return None
    if not source.key_names:
        return () if p.align is None or len(p.roots) == 1 or not p.keys else None
    if not all(kind == "capture" for kind, _ in source.key_parts) or source.every_ns is not None:
        return None  # how many messages such a sample takes is not known
    return tuple((at, part) for part, (_, at) in enumerate(source.key_parts))
