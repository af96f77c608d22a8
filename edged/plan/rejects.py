"""Plans where what a source refuses is published."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from edged.config.schema import Config, DecodedSource
from edged.errors import Problem
from edged.notation.units import KIB
from edged.plan.records import SourcePlan
from edged.plan.scope import Scope
from edged.records import EXCERPT, RejectsPlan
from edged.topics import TopicError, matches, parse_template


def plan_rejects(
    config: Config, sources: Mapping[str, SourcePlan], known: Mapping[str, str], problems: list[Problem]
) -> dict[str, SourcePlan]:
    """The sources with it."""
    return {name: replace(plan, rejects=_plan(config, plan, sources, known, problems)) for name, plan in sources.items()}


def _plan(
    config: Config, source: SourcePlan, sources: Mapping[str, SourcePlan], known: Mapping[str, str], problems: list[Problem]
) -> RejectsPlan | None:
    settings = source.settings.rejects if isinstance(source.settings, DecodedSource) else None
    if settings is None:
        return None
    at = Scope(f"source.{source.name}.rejects", problems)
    broker = settings.broker or next(iter(config.broker), None)
    try:
        topic = parse_template(settings.topic, {**known, "source": source.name}, ())
    except TopicError as error:
        at.wrong("topic", str(error))
        return None
    if settings.max_bytes > EXCERPT:
        at.wrong("max_bytes", f'expected at most "{EXCERPT // KIB}KiB", found {settings.max_bytes} bytes')
    for other in sources.values():
        if other.broker == broker and any(matches(one, topic) for _, one in other.filters):
            at.wrong("topic", f"{topic.text} is read by source.{other.name}: what was refused would come back as inputs")
    if broker is None:
        return None
    return RejectsPlan(broker, topic.fill({}), settings.limit, settings.max_bytes)
