"""Plans the brokers and the sources: addresses, subscriptions, keys, and where each field lies in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from edged.config.schema import AnySource, Broker, Config, MqttSource, Pipeline, ReplaySource, SerialSource
from edged.decode.plan import DecodePlan, plan_decode
from edged.errors import Problem
from edged.plan.records import SourcePlan
from edged.records import Field
from edged.topics import TopicError, TopicFilter, overlaps, parse_filter
from edged.transport.mqtt_settings import KEPT_ALWAYS, KEPT_NEVER, LinkSettings, Subscription

MIB = 1024 * 1024
DEFAULT_KEYS = 256
LEAST_STALE_NS = 2 * 10**9
SIMULATED = ("ax", "ay", "az")
WIDE = ("float64", "int32", "int64", "uint32", "uint64")
"""Element types of a model input that float32 cannot carry exactly; their sources are decoded as float64."""


def plan_sources(
    config: Config, device: str, base_topic: str, wide: frozenset[str], problems: list[Problem]
) -> dict[str, SourcePlan]:
    """`wide` names the sources that must be decoded as float64."""
    groups = _key_groups(config.pipeline)
    known = {"device": device, "base_topic": base_topic}
    plans: dict[str, SourcePlan] = {}
    identifier = 1
    for name, source in config.source.items():
        filters: list[tuple[int, TopicFilter]] = []
        if isinstance(source, MqttSource):
            for i, topic in enumerate(source.topic):
                try:
                    filters.append((identifier, parse_filter(topic, known)))
                except TopicError as error:
                    problems.append(Problem(f"source.{name}.topic" + (f"[{i}]" if len(source.topic) > 1 else ""), str(error)))
                identifier += 1
        planned = _plan_source(name, source, tuple(filters), groups.get(name, name), name in wide, config, problems)
        if planned is not None:
            plans[name] = planned
    _check_overlaps(config, plans, problems)
    return plans


def _plan_source(
    name: str,
    source: AnySource,
    filters: tuple[tuple[int, TopicFilter], ...],
    key_group: str,
    is_wide: bool,
    config: Config,
    problems: list[Problem],
) -> SourcePlan | None:
    path = f"source.{name}"
    dtype = "float64" if is_wide else "float32"
    captures = _captures(path, source, filters, problems)
    key_names = captures if source.key is None else source.key
    key_fields = tuple(k for k in key_names if k not in captures)
    decode: DecodePlan | None = None
    if source.decode is not None:
        framed = isinstance(source, SerialSource | ReplaySource)
        planned = plan_decode(
            source.decode,
            key_fields=key_fields,
            on_bad=source.on_bad,
            max_bytes=source.max_bytes,  # type: ignore[union-attr]
            frame=source.frame if framed else None,  # type: ignore[union-attr]
            checksum=source.checksum if framed else None,  # type: ignore[union-attr]
            dtype=dtype,
            max_keys=_max_keys(source, key_names),
        )
        if isinstance(planned, list):
            problems += [replace(p, path=f"{path}.{p.path}" if p.path else path) for p in planned]
            return None
        decode = planned
        fields = tuple(Field(f.name, f.start, f.stop, f.shape, _unit(source, f.name)) for f in decode.fields if f.start >= 0)
    else:
        fields = tuple(Field(n, i, i + 1, (), "m/s2") for i, n in enumerate(SIMULATED))
        if source.rate is None:
            problems.append(Problem(path, "rate: required: how many samples a second to make up, such as rate = 1000", "table"))
    parts = tuple(("capture", captures.index(k)) if k in captures else ("field", key_fields.index(k)) for k in key_names)
    if not key_fields:
        _check_wildcards(path, filters, problems)
    return SourcePlan(
        name=name,
        settings=source,
        decode=decode,
        fields=fields,
        dtype=dtype,
        rate=source.rate,
        broker=_broker_of(source, config),
        filters=filters,
        key_names=key_names,
        key_parts=parts,
        max_keys=_max_keys(source, key_names),
        key_group=key_group,
        stale_ns=stale_ns(source.rate),
    )


def stale_ns(rate: float | None) -> int | None:
    """How long a sensor of this rate may be silent: 3 periods, at least 2 s; without a rate for ever."""
    return None if rate is None else max(LEAST_STALE_NS, int(3e9 / rate))


def _max_keys(source: AnySource, key_names: Sequence[str]) -> int:
    return (source.max_keys or DEFAULT_KEYS) if key_names else 1


def _unit(source: AnySource, name: str) -> str | None:
    return next((f.unit for f in source.decode.fields if f.name == name), None) if source.decode else None


def _broker_of(source: AnySource, config: Config) -> str | None:
    if not isinstance(source, MqttSource):
        return None
    return source.broker or next(iter(config.broker), None)


def _captures(
    path: str, source: AnySource, filters: Sequence[tuple[int, TopicFilter]], problems: list[Problem]
) -> tuple[str, ...]:
    """The names captured by every filter of the source, which must be the same and in the same order."""
    if not filters:
        return ()
    names = [f.captures for _, f in filters]
    if any(n != names[0] for n in names):
        shown = "; ".join(" ".join(f"{{{c}}}" for c in n) or "none" for n in names)
        problems.append(
            Problem(f"{path}.topic", f"all topics of a source must capture the same names in the same order, found {shown}")
        )
    return names[0]


def _check_wildcards(path: str, filters: Sequence[tuple[int, TopicFilter]], problems: list[Problem]) -> None:
    for i, (_, topic) in enumerate(filters):
        if not topic.has_wildcards:
            continue
        levels = topic.text.split("/")
        named = "/".join({"+": f"{{level{n}}}", "#": "{rest...}"}.get(level, level) for n, level in enumerate(levels, 1))
        wildcard = "+" if "+" in levels else "#"
        problems.append(
            Problem(
                f"{path}.topic" + (f"[{i}]" if len(filters) > 1 else ""),
                f'"{wildcard}" matches many sensors and nothing tells them apart, so their samples would share one window; '
                f"write {named}",
            )
        )


def _check_overlaps(config: Config, plans: Mapping[str, SourcePlan], problems: list[Problem]) -> None:
    """Under 3.1.1 nothing tells which filter a message came for, so overlapping ones would deliver it twice to each."""
    for (a, pa), (b, pb) in combinations(plans.items(), 2):
        broker = config.broker.get(pa.broker or "")
        if broker is None or pa.broker != pb.broker or broker.version != "3.1.1":
            continue
        if any(overlaps(fa, fb) for _, fa in pa.filters for _, fb in pb.filters):
            problems.append(
                Problem(
                    f"source.{b}.topic",
                    f'overlaps the topic of source.{a}, which MQTT 3.1.1 cannot tell apart; use version = "5"',
                )
            )


def _key_groups(pipelines: Mapping[str, Pipeline]) -> dict[str, str]:
    """Sources that one pipeline joins share their key ids, so that equal keys are equal numbers: name -> name of the group."""
    group: dict[str, str] = {}
    for pipeline in pipelines.values():
        if len(pipeline.source) < 2:
            continue
        merged = {group.get(s, s) for s in pipeline.source}
        leader = min(merged)
        for s in pipeline.source:
            group.setdefault(s, s)
        group.update({s: leader for s, g in group.items() if g in merged})
    return group


def plan_links(
    config: Config, device: str, base_topic: str, sources: Mapping[str, SourcePlan], problems: list[Problem]
) -> dict[str, LinkSettings]:
    """One link for every broker, with its subscriptions."""
    links: dict[str, LinkSettings] = {}
    seen: dict[tuple[str, str], str] = {}
    for name, broker in config.broker.items():
        client_id = broker.client_id or f"edged-{device}" + (f"-{name}" if len(config.broker) > 1 else "")
        address = f"{broker.url.host}:{broker.url.port}{broker.url.path}"
        if other := seen.get((address, client_id)):
            problems.append(
                Problem(
                    f"broker.{name}",
                    f"has the address and client_id of broker.{other}: the broker would end one for the other",
                    "table",
                )
            )
        seen[address, client_id] = name
        mine = [s for s in sources.values() if s.broker == name]
        links[name] = _link(name, broker, client_id, f"{base_topic}/status", mine)
    return links


def _link(name: str, broker: Broker, client_id: str, status_topic: str, sources: Sequence[SourcePlan]) -> LinkSettings:
    subscriptions = tuple(
        Subscription(
            filter=topic.mqtt,
            qos=s.settings.qos,  # type: ignore[union-attr]
            identifier=identifier,
            retain_handling=KEPT_ALWAYS if s.settings.retained else KEPT_NEVER,  # type: ignore[union-attr]
        )
        for s in sources
        for identifier, topic in s.filters
    )
    largest = max((s.settings.max_bytes for s in sources), default=0)  # type: ignore[union-attr]
    return LinkSettings(
        name=name,
        url=broker.url,
        client_id=client_id,
        username=broker.username,
        password=broker.password,
        ca=broker.ca,
        cert=broker.cert,
        key=broker.key,
        version=broker.version,
        keepalive_s=max(1, broker.keepalive // 10**9),
        session_expiry_s=broker.session_expiry // 10**9,
        receive_maximum=broker.receive_maximum,
        max_packet=broker.max_packet or max(MIB, largest + 64 * 1024),  # topic and properties ride in the packet too
        subscriptions=subscriptions,
        status_topic=status_topic,
    )
