"""Plans what Home Assistant shows: of each pipeline one entry of `publish`, and the entities that its output makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edged.config.schema import Config, Publish, ShownEntity
from edged.errors import Problem
from edged.mqtt.settings import KEPT_NEVER, LinkSettings, Subscription
from edged.notation.words import did_you_mean
from edged.plan.records import HomeAssistantPlan, PipelinePlan, PublishPlan, ShownPlan, SourcePlan
from edged.plan.scope import Scope
from edged.plan.sources import identifier_of
from edged.results.entities import BINARY_CLASSES, SENSOR_CLASSES, Entity
from edged.results.when import Condition
from edged.topics import TopicError, parse_filter, parse_template

MAX_DEVICES = 1000
"""Devices that keys become, all pipelines together."""
USUAL_PREFIX = "homeassistant"
READABLE = ("json", "text")
MISSED = 3
"""Results that may be missing before what was said last is no longer true, and how long that is at least."""
MIN_EXPIRY_S = 30


def plan_homeassistant(
    config: Config,
    pipelines: Mapping[str, PipelinePlan],
    sources: Mapping[str, SourcePlan],
    links: Mapping[str, LinkSettings],
    known: Mapping[str, str],
    problems: list[Problem],
) -> tuple[HomeAssistantPlan | None, dict[str, LinkSettings]]:
    """The plan, None where nothing is announced, and the links with the subscription that tells when Home Assistant starts.
    `known` has what topics may name everywhere."""
    settings, at = config.homeassistant, Scope("homeassistant", problems)
    subscribed = dict(links)
    if not settings.discovery:
        _warn_of_overrides(config, problems)
        return None, subscribed
    broker = settings.broker or next(iter(config.broker), "")
    if broker not in links:
        return None, subscribed  # which has a problem of its own
    try:
        prefix = parse_template(settings.prefix, known, ()).text
    except TopicError as error:
        at.wrong("prefix", str(error))
        return None, subscribed
    shown = {
        name: one
        for name, p in pipelines.items()
        if (one := _plan_shown(Scope(f"pipeline.{name}", problems), config.pipeline[name].publish, p, sources, broker))
        is not None
    }
    births = tuple(parse_filter(f"{one}/status") for one in dict.fromkeys((prefix, USUAL_PREFIX)))
    taken = {identifier for source in sources.values() for identifier, _ in source.filters}
    taken |= {identifier for p in pipelines.values() for identifier, _ in p.acks}
    told = tuple((identifier_of("homeassistant", topic, taken), topic) for topic in births)
    link = links[broker]
    more = (Subscription(topic.mqtt, qos=0, identifier=number, retain_handling=KEPT_NEVER) for number, topic in told)
    subscribed[broker] = replace(link, subscriptions=(*link.subscriptions, *more))
    most = sum(source.max_keys for name, source in sources.items() if any(one.source == name for one in shown.values()))
    return HomeAssistantPlan(broker, prefix, told, shown, min(most, MAX_DEVICES)), subscribed


def _warn_of_overrides(config: Config, problems: list[Problem]) -> None:
    for name, pipeline in config.pipeline.items():
        for i, entry in enumerate(pipeline.publish):
            if entry.homeassistant:
                at = Scope(f"pipeline.{name}.publish[{i}]", problems)
                at.warn("homeassistant", "has no effect without [homeassistant] discovery = true", "key")


def _plan_shown(
    at: Scope, entries: Sequence[Publish], p: PipelinePlan, sources: Mapping[str, SourcePlan], broker: str
) -> ShownPlan | None:
    """What is shown of one pipeline; None: nothing, after saying why where somebody asked for it."""
    asked = [i for i, entry in enumerate(entries) if entry.homeassistant]
    if len(asked) > 1:
        text = f"publish[{asked[0]}] is shown already; one entry of a pipeline is, or its entities would be there twice"
        at.wrong(f"publish[{asked[1]}].homeassistant", text)
        return None
    if len(p.publishes) != len(entries):
        return None  # one has a problem of its own
    for i in asked or range(len(entries)):
        here = at.below(f"publish[{i}]")
        x, said = p.publishes[i], entries[i].homeassistant
        if said is False:
            continue
        entities = _readable(x, p.output.entities())
        if entities and x.broker == broker:
            return _shown(here, p, x, said if isinstance(said, ShownEntity) else ShownEntity(), entities, sources)
        if said:
            here.wrong("homeassistant", _why_not(p, x, broker))
    return None


def _why_not(p: PipelinePlan, x: PublishPlan, broker: str) -> str:
    if x.broker != broker:
        return f"its results go to broker.{x.broker}, and Home Assistant is at broker.{broker} (homeassistant.broker)"
    if x.settings.format not in READABLE:
        return f'Home Assistant cannot read format "{x.settings.format}"; write "json"'
    if p.output.entities():
        shown = " or ".join(f'"{entity.field.name}"' for entity in p.output.entities())
        return f"none of its fields can be shown; add {shown} to fields"
    return f'nothing of type "{p.output.type}" is one number or text; choose another output type'


def _readable(x: PublishPlan, entities: Sequence[Entity]) -> tuple[Entity, ...]:
    """Those whose field Home Assistant finds in the messages of an entry."""
    fields = x.settings.fields or ()
    if x.settings.format not in READABLE:
        return ()
    if not fields:
        return tuple(entities)
    return tuple(e for e in entities if e.field.name in fields or e.field.path[0] in fields)


def _shown(
    at: Scope,
    p: PipelinePlan,
    x: PublishPlan,
    said: ShownEntity,
    entities: tuple[Entity, ...],
    sources: Mapping[str, SourcePlan],
) -> ShownPlan:
    if said.device_class is not None:
        entities = _reclassed(at.below("homeassistant"), said.device_class, entities)
    if x.when is not None and x.when.condition != Condition() and x.when.max_interval is None:
        text = "Home Assistant gets a result while this holds, and none when it ends; use change = true, or add max_interval"
        at.warn("when", text, "key")
    keyed = [root for root in p.roots if p.keys and sources[root].key_names]
    return ShownPlan(
        publish=x,
        keys=p.keys,
        key_group=p.key_group,
        source=keyed[0] if keyed else "",
        roots=tuple(root for root in p.roots if root in sources),
        entities=entities,
        name=said.name or p.name,
        icon=said.icon,
        expire_after_s=_expiry(p, x),
        about=p.about,
    )


def _reclassed(at: Scope, wanted: str, entities: tuple[Entity, ...]) -> tuple[Entity, ...]:
    first, *rest = entities
    known = BINARY_CLASSES if first.component == "binary_sensor" else SENSOR_CLASSES
    if first.component == "sensor" and first.field.kind != "number":
        at.wrong("device_class", "has no effect: these are labels or texts, and classes are of numbers", "key")
    elif first.component == "sensor" and rest:
        at.wrong("device_class", "has no effect: there are several values; the unit of each says of which class it is", "key")
    elif wanted not in known:
        text = f'expected a class of a {first.component}, found "{wanted}"{did_you_mean(wanted, known)}'
        at.wrong("device_class", f"{text}; known: {' '.join(known)}")
    return (first._replace(device_class=wanted), *rest)


def _expiry(p: PipelinePlan, x: PublishPlan) -> int | None:
    """After how many seconds without a message the last one is too old; None: it is retained, or may be old and true."""
    when = x.when
    if x.settings.retain or p.gate is not None:
        return None
    period = 1 / p.rate if p.rate else None
    if when is not None:
        if when.max_interval is not None:
            period = when.max_interval / 1e9
        elif when.condition != Condition() or when.change_of is not None:
            return None
        elif period is not None and when.min_interval is not None:
            period = max(period, when.min_interval / 1e9)
    return None if period is None else max(MIN_EXPIRY_S, math.ceil(MISSED * period))
