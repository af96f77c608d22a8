"""Plans request/response: where a source's answers may go, and that exactly one pipeline has one for every request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from edged.config.schema import AnySource, Config, MqttSource
from edged.errors import Problem
from edged.notation.words import listed
from edged.plan.publishes import OWN_TOPICS
from edged.plan.records import SourcePlan
from edged.plan.scope import Scope
from edged.topics import TopicError, TopicFilter, matches, overlaps, parse_filter, parse_template


def plan_replies(at: Scope, source: AnySource, known: Mapping[str, str]) -> tuple[TopicFilter, ...]:
    """The filters of a source's `reply`. `known` has what is filled in everywhere: device, base_topic."""
    filters: list[TopicFilter] = []
    for i, text in enumerate(source.reply if isinstance(source, MqttSource) else ()):
        try:
            filters.append(parse_filter(text, known))
        except TopicError as error:
            at.wrong(f"reply[{i}]", str(error))
    return tuple(filters)


def check_replies(config: Config, sources: Mapping[str, SourcePlan], base_topic: str, problems: list[Problem]) -> None:
    """What keeps requests from having one answer each, and answers from going where they do harm."""
    asked = {name: source for name, source in sources.items() if source.replies}
    for name, source in asked.items():
        at = Scope(f"source.{name}", problems)
        broker = config.broker[source.broker or ""]
        if broker.version == "3.1.1":
            text = f'needs MQTT 5, where a request says where its answer goes; broker.{source.broker} has version = "3.1.1"'
            at.wrong("reply", text)
        for text in _misfits(config, name):
            at.wrong("reply", f"{text}; give requests a source of their own, with a pipeline of its own")
        others = [s for s in sources.values() if s.broker is not None and config.broker[s.broker].url == broker.url]
        for i, one in enumerate(source.replies):
            if text := _why_not(one, others, base_topic):
                at.wrong(f"reply[{i}]", text)
    for (a, first), (b, second) in combinations(asked.items(), 2):
        is_there = config.broker[first.broker or ""].url == config.broker[second.broker or ""].url
        if is_there and any(overlaps(x, y) for _, x in first.filters for _, y in second.filters):
            Scope(f"source.{b}", problems).wrong(
                "topic", f"overlaps the topic of source.{a}: a request would be answered by both"
            )


def _misfits(config: Config, name: str) -> Iterator[str]:
    readers = [n for n, p in config.pipeline.items() if name in p.source]
    if len(readers) != 1:  # none is said where streams are that nobody reads
        if readers:
            yield f"expected one pipeline that reads this source, the one that answers, found {len(readers)}: {listed(readers)}"
        return
    pipeline = config.pipeline[readers[0]]
    if len(pipeline.source) > 1 or pipeline.align is not None:
        yield f"pipeline.{readers[0]} joins its samples with others, so that a request has no result of its own"
    elif pipeline.window is not None:
        yield f"pipeline.{readers[0]} has a window, so that most requests would have no result"


def _why_not(reply: TopicFilter, sources: list[SourcePlan], base_topic: str) -> str:
    """Why answers must not go where a filter allows them to; empty if they may."""
    if reply.captures:
        return f"nothing is captured here: write {reply.mqtt}"
    if reply.text.startswith("$"):
        return f'"{reply.text}": topics that begin with $ belong to the broker'
    for source in sources:
        for _, topic in source.filters:
            if overlaps(reply, topic):
                return f"overlaps {topic.text}, which source.{source.name} reads: an answer would come back as an input"
    for own in OWN_TOPICS:
        if matches(reply, parse_template(f"{base_topic}/{own}", {}, ("name",)), {"name"}):
            return f"matches {base_topic}/{own.replace('{name}', '...')}, where edged speaks of itself: leave it to that"
    return ""
