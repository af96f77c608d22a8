"""Plans where alarms that latch are acknowledged: subscriptions of the links that their results go to."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from edged.config.schema import Config
from edged.errors import Problem
from edged.mqtt.settings import KEPT_NEVER, LinkSettings, Subscription
from edged.plan.records import PipelinePlan, SourcePlan
from edged.plan.sources import identifier_of
from edged.topics import TopicError, parse_filter


def plan_acks(
    config: Config,
    pipelines: Mapping[str, PipelinePlan],
    links: Mapping[str, LinkSettings],
    sources: Mapping[str, SourcePlan],
    known: Mapping[str, str],
    problems: list[Problem],
) -> tuple[dict[str, PipelinePlan], dict[str, LinkSettings]]:
    """The pipelines and links with them."""
    planned, subscribed = dict(pipelines), dict(links)
    taken = {identifier for source in sources.values() for identifier, _ in source.filters}
    for name, p in pipelines.items():
        latch = config.pipeline[name].output.latch
        if not isinstance(latch, str):
            continue
        try:
            topic = parse_filter(latch, known)
        except TopicError as error:
            problems.append(Problem(f"pipeline.{name}.output.latch", str(error)))
            continue
        identifier = identifier_of(f"{name}: acknowledged", topic, taken)
        planned[name] = replace(p, acks=((identifier, topic),))
        for broker in dict.fromkeys(x.broker for x in p.publishes):
            one = Subscription(topic.mqtt, qos=1, identifier=identifier, retain_handling=KEPT_NEVER)
            link = subscribed[broker]
            subscribed[broker] = replace(link, subscriptions=(*link.subscriptions, one))
    return planned, subscribed
