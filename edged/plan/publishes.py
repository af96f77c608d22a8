"""Plans where results go: topics and their placeholders, fields, conditions, and that nothing comes back as an input."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from edged.config.schema import Broker, Config, Publish, When
from edged.errors import Problem
from edged.notation.words import did_you_mean, listed
from edged.plan.joins import Keys
from edged.plan.records import PipelinePlan, PublishPlan, SourcePlan
from edged.plan.scope import Scope
from edged.results.encode import Envelope, make_encoder
from edged.results.fields import ENVELOPE
from edged.results.heads.head import OutputPlan
from edged.results.when import WhenPlan, plan_when
from edged.topics import Template, TopicError, matches, parse_template

OWN_TOPICS = ("status", "health", "event", "model/{name}", "source/{name}")
"""What edged says of itself, below `base_topic`."""


def plan_publishes(
    at: Scope,
    pipeline: str,
    entries: Sequence[Publish],
    config: Config,
    sources: Mapping[str, SourcePlan],
    known: Mapping[str, str],
    keys: Keys,
    output: OutputPlan,
) -> tuple[PublishPlan, ...]:
    """One plan for each `publish` entry without a problem. `known` has what is filled in everywhere: device, base_topic."""
    plans = []
    for i, entry in enumerate(entries):
        here = at.below("publish" if entry == Publish() else f"publish[{i}]")
        broker = entry.broker or next(iter(config.broker), None)
        topic = _topic(here, entry, {**known, "pipeline": pipeline}, keys, sources)
        wrongs = list(_wrongs(entry, output))
        for key, text in wrongs:
            here.wrong(key, text)
        if topic is not None and broker is not None and not wrongs:
            parts = "/".join(f"{{{name}}}" for name in keys.names)
            spread = parse_template(topic.text.replace("{key}", parts), {}, keys.names)
            reader = reader_of(config.broker, sources, broker, spread, set(_rest(sources, keys)))
            if reader is not None:
                here.wrong("topic", f"{topic.text} is read by source.{reader}: results would come back as inputs")
            plans.append(PublishPlan(broker, topic, plan_of_when(entry.when, output), entry))
    return tuple(plans)


def check_own_topics(config: Config, sources: Mapping[str, SourcePlan], base_topic: str, problems: list[Problem]) -> None:
    """A source that reads what edged says of itself."""
    deep = {"name"} if any(s.key_names for s in sources.values()) else set[str]()
    for own in OWN_TOPICS:
        topic = parse_template(f"{base_topic}/{own}", {}, ("name",))
        on = tuple(config.broker) if own == "status" or config.health.broker is None else config.health.broker
        for broker in (b for b in on if b in config.broker):
            reader = reader_of(config.broker, sources, broker, topic, deep)
            if reader is not None:
                where = topic.text.replace("{name}", "...")
                text = (
                    f"matches {where}, which edged publishes itself: it would read what it says; choose another device.base_topic"
                )
                Scope(f"source.{reader}", problems).wrong("topic", text)
                return


def shared_topics(
    pipelines: Mapping[str, PipelinePlan], brokers: Mapping[str, Broker], line_of: Callable[[str], int]
) -> list[Problem]:
    """Warnings of pipelines that publish to one topic. `line_of` tells the line of a key path."""
    first: dict[tuple[object, str], tuple[str, str, bool]] = {}
    problems = []
    for name, pipeline in pipelines.items():
        for i, x in enumerate(pipeline.publishes):
            is_default = x.settings.topic is None
            at = f"pipeline.{name}.publish" if is_default and not i else f"pipeline.{name}.publish[{i}].topic"
            place, retained = (brokers[x.broker].url, x.topic.text), x.settings.retain
            other, where, was_retained = first.setdefault(place, (name, at, retained))
            if other == name:
                continue
            why = (
                "each overwrites what the broker keeps of the other"
                if retained or was_retained
                else "who reads it knows them apart by the field pipeline alone"
            )
            text = (
                f"pipeline.{other} publishes to {x.topic.text} too (line {line_of(where)}): {why}; give one of them another topic"
            )
            problems.append(Problem(at, text, is_warning=True))
    return problems


def plan_of_when(when: When, output: OutputPlan) -> WhenPlan | None:
    """The plan of a `when` table, None where it lets everything through. Raises ValueError."""
    if when == When():
        return None
    return plan_when(
        output.result_fields(),
        output.default_of(),
        change=True if when.change == 0 else when.change,  # `change = true` is kept as 0.0
        of=when.of,
        above=when.above,
        below=when.below,
        label=when.label or (),
        min_interval=when.min_interval,
        max_interval=when.max_interval,
    )


def _key_of_when(when: When, text: str) -> str:
    """The key of `when` that is to blame: the field that is not there, else the condition that the text begins with."""
    if when.of is not None and f'found "{when.of}"' in text:
        return "when.of"
    first = text.partition(" ")[0].rstrip(":")
    return f"when.{first}" if first in When.__struct_fields__ else "when"


def _topic(at: Scope, entry: Publish, fixed: Mapping[str, str], keys: Keys, sources: Mapping[str, SourcePlan]) -> Template | None:
    text = entry.topic or "{base_topic}/{pipeline}" + ("/{key}" if keys.names else "")
    try:
        template = parse_template(text, fixed, (*keys.names, *(("key",) if keys.names else ())))
    except TopicError as error:
        unkeyed = [c for s in sources.values() for _, f in s.filters for c in f.captures if f"{{{c}}}" in text]
        if unkeyed and unkeyed[0] not in keys.names and str(error).startswith(f"{{{unkeyed[0]}}}"):
            said = f"{{{unkeyed[0]}}} is captured, but no part of the key ({', '.join(keys.names) or 'none'})"
            at.wrong("topic", f"{said}, and a result knows no more than its key; add it to key of the source")
        else:
            at.wrong("topic", str(error))
        return None
    if keys.names and "key" not in template.names and not set(keys.names) <= set(template.names):
        parts = "/".join(f"{{{k}}}" for k in keys.names)
        text = f'"{template.text}" is one topic for up to {keys.most} keys: each would overwrite the last; add {parts} or {{key}}'
        at.wrong("topic", text)
        return None
    return template


def _rest(sources: Mapping[str, SourcePlan], keys: Keys) -> Iterator[str]:
    """Captures that may hold several levels."""
    for source in sources.values():
        for _, topic in source.filters:
            if topic.captures and topic.text.endswith("...}") and topic.captures[-1] in keys.names:
                yield topic.captures[-1]


def reader_of(
    brokers: Mapping[str, Broker],
    sources: Mapping[str, SourcePlan],
    broker: str,
    topic: Template,
    deep: AbstractSet[str] = frozenset(),
) -> str | None:
    """The source that would read what is published there. Two connections to one address are one broker."""
    for name, source in sources.items():
        is_there = source.broker is not None and brokers[source.broker].url == brokers[broker].url
        if is_there and any(matches(f, topic, deep) for _, f in source.filters):
            return name
    return None


def _wrongs(entry: Publish, output: OutputPlan) -> Iterator[tuple[str, str]]:
    """Key and text of everything that the results cannot give to this entry."""
    fields = output.result_fields()
    names = [f.name for f in (*ENVELOPE, *fields)]
    unknown = [(i, name) for i, name in enumerate(entry.fields or ()) if name not in names]
    for i, name in unknown:
        text = f'a result has no field "{name}"; it has {listed(f.name for f in fields)}, and {listed(f.name for f in ENVELOPE)}'
        yield f"fields[{i}]", text + did_you_mean(name, names)
    if entry.format == "cbor" and importlib.util.find_spec("cbor2") is None:
        yield "format", '"cbor" needs the package cbor2: pip install "edged[cbor]"'
    elif not unknown:
        try:
            make_encoder(Envelope("", "", None, ""), fields, entry.format, entry.fields or ())
        except ValueError as error:
            yield ("fields" if entry.fields else "format"), str(error)
    try:
        plan_of_when(entry.when, output)
    except ValueError as error:
        yield _key_of_when(entry.when, str(error)), str(error)
    labels = output.judged_labels
    if labels is not None and entry.when.of is None:
        for label in entry.when.label or ():
            if label not in labels:
                text = f'no label "{label}"; the labels are {listed(labels)}{did_you_mean(label, labels)}'
                yield "when.label", text
