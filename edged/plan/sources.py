"""Plans the sources: what they subscribe to, what tells their sensors apart, and where each field lies in a row."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from msgspec import structs
from msgspec.structs import replace

from edged.config.ports import sample_fields, settled, shared_port
from edged.config.schema import AnySource, Config, ModbusSource, MqttSource, Pipeline, ReplaySource, SerialSource
from edged.decode.formats import FORMATS
from edged.decode.plan import DecodePlan
from edged.decode.planner import plan_decode
from edged.decode.resize import View
from edged.decode.where import conditions
from edged.errors import Problem
from edged.notation.field_paths import Step
from edged.notation.values import NEVER
from edged.notation.words import counted, duration
from edged.plan.keys import plan_corrections, with_corrections
from edged.plan.ports import check_bus, check_shared
from edged.plan.records import SourcePlan
from edged.plan.replies import plan_replies
from edged.plan.scope import Scope
from edged.records import Field
from edged.sources.kinds import kind_of
from edged.topics import FIELD, TopicError, TopicFilter, covers, overlaps, parse_filter

DEFAULT_KEYS = 256
MIN_STALE_NS = 2 * 10**9
USUAL_WAITING, MIN_WAITING, MAX_WAITING = 4096, 64, 65_536
"""Samples that may wait for others (`lateness`): without a rate, at least, and at most."""
NO_VIEWS: Mapping[str, tuple[View, ...]] = {}
MAX_IDENTIFIER = 2**21 - 1
"""Three bytes on the wire. Larger ones would take four, and fewer would meet more often."""


def plan_sources(
    config: Config,
    known: Mapping[str, str],
    wide: frozenset[str],
    problems: list[Problem],
    views: Mapping[str, tuple[View, ...]] = NO_VIEWS,
) -> dict[str, SourcePlan]:
    """One plan for each source that can be planned. `known` has what topics may name everywhere. `wide` names those that must be
    decoded as float64; `views` has what pipelines see of the pictures of those that have pictures."""
    plans: dict[str, SourcePlan] = {}
    taken: set[int] = set()
    for name, own in config.source.items():
        at = Scope(f"source.{name}", problems)
        source = settled(own, config.port)
        check_shared(at, own, source, config)
        filters = _filters(at, name, source, known, taken)
        replies = plan_replies(at, source, known)
        planned = _plan_source(at, name, source, filters, name in wide, config, views.get(name, ()))
        if planned is not None:
            plans[name] = replace(planned, replies=replies, port=shared_port(own))
    _check_filters(config, plans, problems)
    return _in_groups(plans, key_groups(config.pipeline, {name for name, plan in plans.items() if plan.key_names}))


def mqtt_settings(source: SourcePlan) -> MqttSource:
    """The settings of a source that has a broker."""
    assert isinstance(source.settings, MqttSource)
    return source.settings


def stale_ns(rate: float | None) -> int | None:
    """How long a sensor of this rate may be silent: 3 periods, at least 2 s; without a rate for ever."""
    return None if rate is None else max(MIN_STALE_NS, int(3e9 / rate))


def _stale_ns(source: AnySource) -> int | None:
    return None if source.stale_after == NEVER else source.stale_after or stale_ns(source.rate)


def key_groups(pipelines: Mapping[str, Pipeline], keyed: Collection[str] = ()) -> dict[str, str]:
    """Sources that pipelines join, each with the name of its group: their equal keys must be equal numbers. So must those of a
    gate's sources, if they are `keyed`."""
    group: dict[str, str] = {}
    for pipeline in pipelines.values():
        joined = set().union(*(_roots(stream, pipelines) for stream in pipeline.source))
        if pipeline.gate is not None:
            joined |= _roots(pipeline.gate.source, pipelines) & {*keyed}
        merged = {group.get(s, s) for s in joined}
        leader = min(merged)
        group.update(dict.fromkeys(joined, leader))
        group.update({s: leader for s, g in group.items() if g in merged})
    return group


def _roots(stream: str, pipelines: Mapping[str, Pipeline]) -> set[str]:
    """The sources behind a stream."""
    if stream not in pipelines:
        return {stream}
    return set().union(*(_roots(s, pipelines) for s in pipelines[stream].source))


def _in_groups(plans: Mapping[str, SourcePlan], groups: Mapping[str, str]) -> dict[str, SourcePlan]:
    """The plans with their groups; all keyed sources of a group have room for the keys of the largest."""
    most: dict[str, int] = {}
    for name, plan in plans.items():
        group = groups.get(name, name)
        most[group] = max(most.get(group, 1), plan.max_keys)
    return {
        name: replace(p, key_group=groups.get(name, name), max_keys=most[groups.get(name, name)] if p.key_names else 1)
        for name, p in plans.items()
    }


def _filters(
    at: Scope, name: str, source: AnySource, known: Mapping[str, str], taken: set[int]
) -> tuple[tuple[int, TopicFilter], ...]:
    parsed: dict[int, TopicFilter] = {}
    for i, topic in enumerate(source.topic if isinstance(source, MqttSource) else ()):
        try:
            parsed[i] = parse_filter(topic, known)
        except TopicError as error:
            at.wrong(f"topic[{i}]", str(error))
            continue
        if "{device}" in topic:
            text = (
                f"{{device}} is this device's own id: only {parsed[i].text} is read; to read those of all devices and tell them"
            )
            at.warn(f"topic[{i}]", f"{text} apart, choose another name, such as {{sensor}}")
    for i, one in list(parsed.items()):
        wider = next((other for j, other in parsed.items() if j != i and covers(other.mqtt, one.mqtt)), None)
        if wider is not None:
            at.warn(f"topic[{i}]", f"has no effect, since {wider.text} matches all of it: each message counts once; remove it")
            del parsed[i]
    return tuple((identifier_of(name, one, taken), one) for one in parsed.values())


def identifier_of(source: str, topic: TopicFilter, taken: set[int]) -> int:
    """A subscription identifier that stays with its subscription whatever is added to the file before it, so that neither a
    reload nor a session that the broker kept has to learn a new one."""
    identifier = zlib.crc32(f"{source}\0{topic.text}".encode()) % MAX_IDENTIFIER + 1
    while identifier in taken:
        identifier = identifier % MAX_IDENTIFIER + 1
    taken.add(identifier)
    return identifier


def _plan_source(
    at: Scope,
    name: str,
    source: AnySource,
    filters: tuple[tuple[int, TopicFilter], ...],
    is_wide: bool,
    config: Config,
    views: tuple[View, ...],
) -> SourcePlan | None:
    all_captures = _captures(at, filters)
    captures = tuple(name for name in all_captures if name != FIELD)
    key_names = captures if source.key is None else source.key
    key_fields = tuple(k for k in key_names if k not in captures)
    max_keys = (source.max_keys or DEFAULT_KEYS) if key_names else 1
    dtype = "float64" if is_wide else "float32"
    if not key_names and source.key is None:
        _check_wildcards(at, filters)
    decode: DecodePlan | None = None
    kind = kind_of(source)
    fields = kind.made(source)
    stale = _stale_ns(source)
    parts = tuple(("capture", captures.index(k)) if k in captures else ("field", key_fields.index(k)) for k in key_names)
    if source.decode is not None:
        decode = _decode(at, source, all_captures, key_fields, max_keys, dtype, views)
        if decode is None:
            return None
        _check_lateness(at, source, decode, stale)
        if source.keys is not None and key_names:
            decode = with_corrections(decode, plan_corrections(name, source.keys, decode, parts, at.problems))
        dtype = decode.dtype.name
        if kind.frames is not None and not isinstance(source, ModbusSource):
            _check_frames(at, source, decode)
        units = {f.name: f.unit for f in source.decode.fields}
        fields = tuple(Field(f.name, f.start, f.stop, f.shape, units.get(f.name), f.is_text) for f in decode.value_fields)
    if isinstance(source, SerialSource):
        _check_baudrate(at, source)
    if isinstance(source, ModbusSource):
        check_bus(at, source)
    is_part = isinstance(source, MqttSource) and source.share is not None  # others get the rest: silence says nothing
    return SourcePlan(
        name=name,
        settings=source if source.keys is None else structs.replace(source, keys=None),  # what it says is in the plan
        decode=decode,
        fields=fields,
        dtype=dtype,
        rate=source.rate,
        broker=(source.broker or next(iter(config.broker), None)) if isinstance(source, MqttSource) else None,
        filters=filters,
        key_names=key_names,
        key_parts=parts,
        max_keys=max_keys,
        key_group=name,
        stale_ns=stale if not is_part or source.stale_after is not None else None,
        frozen_ns=source.frozen_after,
        every_ns=source.every,
        lateness_ns=source.lateness,
        most_waiting=_most_waiting(source, max_keys),
        learns_pace=source.stale_after is None and source.rate is None and not is_part,
        known_keys=tuple((str(one),) for one in source.address) if isinstance(source, ModbusSource) and key_names else (),
        capture_where=tuple((all_captures.index(one.name), one) for one in conditions(source.where) if one.name in all_captures),
    )


def _most_waiting(source: AnySource, max_keys: int) -> int:
    """Samples that wait to be put in order, at most: twice those that `rate` expects."""
    if not source.lateness:
        return 0
    if source.rate is None:
        return USUAL_WAITING
    return max(MIN_WAITING, min(MAX_WAITING, math.ceil(2 * source.rate * max_keys * source.lateness / 1e9)))


def _check_lateness(at: Scope, source: AnySource, decode: DecodePlan, stale: int | None) -> None:
    if not source.lateness:
        return
    if decode.time_format is None:
        at.wrong("lateness", "has no effect without decode.time: by arrival every sample is in order", "key")
    elif decode.time_format.startswith("elapsed_"):
        text = f'"{decode.time_format}" is counted by the sensor from its own start, and goes back only when it starts over'
        at.wrong("lateness", f"{text}; samples are put in order by UTC times", "key")
    if isinstance(source, MqttSource) and source.reply:
        at.wrong("reply", "a request is answered at once, and lateness makes its sample wait; remove one of them", "key")
    if stale is not None and source.lateness >= stale:
        text = f"expected less than stale_after, {duration(stale)}, found {duration(source.lateness)}"
        at.wrong("lateness", f"{text}; a sensor would be stale before its samples are used")


def _decode(
    at: Scope,
    source: SerialSource | MqttSource | ModbusSource | ReplaySource,
    captures: Sequence[str],
    key_fields: Sequence[str],
    max_keys: int,
    dtype: str,
    views: tuple[View, ...],
) -> DecodePlan | None:
    frames = kind_of(source).frames
    frame, checksum = frames(source) if frames is not None else (None, None)
    planned = plan_decode(
        sample_fields(source, key_fields),
        key_fields=key_fields,
        on_bad=source.on_bad,
        max_bytes=source.max_bytes,
        frame=frame,
        checksum=checksum,
        dtype=dtype,
        max_keys=max_keys,
        carry=source.carry,
        views=views,
        where=tuple(one for one in conditions(source.where) if one.name not in captures),
        rate=source.rate,
        is_named=FIELD in captures,
        stale_ns=_stale_ns(source),
    )
    if isinstance(planned, DecodePlan):
        return planned
    at.problems.extend(replace(p, path=f"{at.path}.{p.path}" if p.path else at.path) for p in planned)
    return None


def _captures(at: Scope, filters: Sequence[tuple[int, TopicFilter]]) -> tuple[str, ...]:
    """The names captured by every filter of the source, which must be the same and in the same order."""
    names = [f.captures for _, f in filters]
    if any(n != names[0] for n in names):
        shown = "; ".join(" ".join(f"{{{c}}}" for c in n) or "none" for n in names)
        at.wrong("topic", f"all topics of a source must capture the same names in the same order, found {shown}")
    return names[0] if names else ()


def _check_wildcards(at: Scope, filters: Sequence[tuple[int, TopicFilter]]) -> None:
    for i, (_, topic) in enumerate(filters):
        if not topic.has_wildcards:
            continue
        levels = topic.text.split("/")
        named = "/".join({"+": f"{{level{n}}}", "#": "{rest...}"}.get(level, level) for n, level in enumerate(levels, 1))
        wildcard = "+" if "+" in levels else "#"
        at.wrong(
            f"topic[{i}]",
            f'"{wildcard}" matches many sensors and nothing tells them apart, so their samples would share one window; '
            f"write {named}",
        )


def _check_filters(config: Config, plans: Mapping[str, SourcePlan], problems: list[Problem]) -> None:
    """Filters of which MQTT 3.1.1 cannot tell which one brought a message: a broker may send a copy for each."""
    filters = [
        (name, i, topic)
        for name, plan in plans.items()
        if plan.broker is not None and config.broker[plan.broker].version == "3.1.1"
        for i, (_, topic) in enumerate(plan.filters)
    ]
    for (a_name, _, a), (b_name, j, b) in combinations(filters, 2):
        is_one_broker = plans[a_name].broker == plans[b_name].broker
        if is_one_broker and overlaps(a, b) and not covers(a.mqtt, b.mqtt) and not covers(b.mqtt, a.mqtt):
            whose = "" if a_name == b_name else f" of source.{a_name}"
            text = f'overlaps {a.text}{whose}, which MQTT 3.1.1 cannot tell apart; if the broker can: version = "5"'
            Scope(f"source.{b_name}", problems).wrong(f"topic[{j}]", text)


def _check_frames(at: Scope, source: Any, decode: DecodePlan) -> None:
    """Frames of one size, whose payload is cut into records: none would ever be good if it is no whole number of them."""
    from edged.decode.checksums import size_of

    size, checksum = source.frame.size, size_of(source.checksum)
    longest = size or source.max_bytes
    if checksum and source.checksum.start >= longest - checksum - source.checksum.stop:
        text = f"expected a byte before the checksum of a frame of at most {longest} bytes, found {source.checksum.start}"
        at.wrong("checksum.start", text)
    if source.frame.type != "fixed" or size is None:
        return
    markers = [marker for marker in (source.frame.sync, source.frame.tail) if isinstance(marker, bytes)]
    around = sum(map(len, markers)) + checksum
    beside = f"{around} of them {'sync, tail' if source.frame.tail else 'sync'} and checksum, " if around else ""
    record = sum(field.wire_bytes for field in decode.fields)
    if size <= around:
        at.wrong("frame.size", f"{size} bytes, {beside}leaves nothing to decode")
    elif decode.encoding is not None or decode.compress is not None:
        return  # the record is another number of bytes
    elif decode.rest == "skip" and size - around < record:
        at.wrong("frame.size", f"a frame of {size} bytes, {beside}holds {size - around}, and the fields take {record}")
    elif decode.rest == "refuse" and FORMATS[decode.format].is_records:
        held = f"a frame of {size} bytes, {beside}holds {size - around}"
        if (size - around) % record:
            text = f"{held}, which is no whole number of records of {record} bytes; {around + record} would hold one"
            at.wrong("frame.size", text)
        elif size - around != record and decode.format == "struct" and decode.rows != (Step.SELF,):
            many = (size - around) // record
            at.wrong("frame.size", f'{held}, {many} records of {record} bytes; each of them is a sample with decode.rows = "."')


def _check_baudrate(at: Scope, source: SerialSource) -> None:
    """Warns where the line cannot carry `rate`. Of keyed sources nobody knows how many sensors speak."""
    needed = _frame_bytes(source)
    if source.rate is None or source.key or needed is None:
        return
    bits = 1 + source.bytesize + (source.parity != "none") + source.stopbits
    carried = int(source.baudrate / bits / source.rate)
    if carried >= needed:
        return
    if source.frame.type == "line":
        numbers = sum(math.prod(f.shape) for f in source.decode.fields)
        several = "number needs" if numbers == 1 else "numbers need"
        unit, need = "line", f"{counted(numbers)} {source.decode.format} {several} about {needed}"
    else:
        unit, need = "frame", f"a frame is {needed}"
    some = f"{carried} bytes" if carried else "less than one byte"
    text = f"{source.baudrate} baud carries {some} a {unit} at {source.rate:g} {unit}s/s; {need}"
    most = source.baudrate / bits / needed
    at.warn("baudrate", f"{text}: at most {most:.{0 if most >= 1 else 1}f} {unit}s/s (ignored by USB-native boards)")


def _frame_bytes(source: SerialSource) -> int | None:
    """Bytes of a frame with one sample, at a guess for text; None where that cannot be told."""
    frame, fields = source.frame, source.decode.fields
    kind = FORMATS[source.decode.format]
    if kind.sample_bytes is None or kind.is_binary is (frame.type == "line"):
        return None
    if frame.type == "line":
        return kind.sample_bytes.get()(fields) + 2
    if frame.type == "fixed":
        return frame.size
    from edged.decode.checksums import size_of

    around = len(frame.sync or b"") + np.dtype(frame.length).itemsize + size_of(source.checksum)
    return kind.sample_bytes.get()(fields) + around
