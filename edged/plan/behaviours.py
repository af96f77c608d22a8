"""Plans behaviours: what each reads, may publish, write and ask, how many instances there may be. Loads the user's file once, so
that what is wrong with it is known before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from edged.behaviours.plan import KEY_PART, BehaviourPlan, Heard, OnEnd
from edged.config import schema
from edged.config.schema import Config
from edged.errors import Problem
from edged.notation.files import read_small
from edged.plan.records import PipelinePlan, SourcePlan
from edged.plan.results import making_bytes
from edged.plan.scope import Scope
from edged.topics import Template, TopicError, TopicFilter, parse_filter, parse_template

ROW = 600
"""Bytes of a row that waits beside its numbers: objects, its place in the inbox."""
NUMBER = 100
"""Bytes of a number with its name, as Python has it."""


def plan_behaviours(
    config: Config,
    sources: Mapping[str, SourcePlan],
    pipelines: Mapping[str, PipelinePlan],
    known: Mapping[str, str],
    problems: list[Problem],
) -> dict[str, BehaviourPlan]:
    """One plan for each behaviour without a problem. `known` has what is filled in everywhere: device, base_topic."""
    plans = {}
    for name, settings in config.behaviour.items():
        at = Scope(f"behaviour.{name}", problems)
        if all(stream in sources or stream in pipelines for stream in settings.source) and all(
            p in pipelines for p in settings.ask
        ):
            before = len(problems)
            plan = _plan(at, name, settings, config, sources, pipelines, known)
            if plan is not None and len(problems) == before:
                plans[name] = plan
    return plans


def _plan(
    at: Scope,
    name: str,
    settings: schema.Behaviour,
    config: Config,
    sources: Mapping[str, SourcePlan],
    pipelines: Mapping[str, PipelinePlan],
    known: Mapping[str, str],
) -> BehaviourPlan | None:
    from edged.behaviours.code import digest, load

    try:
        work = load(settings.run)
        mark = digest(read_small(settings.run.path).decode(), settings.run.name)
    except ValueError as error:
        at.wrong("run", str(error))
        return None
    keys: tuple[str, ...] = ()
    most = 1
    for i, stream in enumerate(settings.source):
        mine = sources[stream].key_names if stream in sources else pipelines[stream].keys
        if settings.per == "key" and not mine:
            at.wrong(f"source[{i}]", f'{stream} has no keys, and per = "key" makes an instance of each; remove per')
        if stream in sources and not sources[stream].fields:
            fix = 'preprocess = { step = "resize", size = [640, 480] }'
            at.wrong(
                f"source[{i}]",
                f"no pipeline reads the pictures of {stream}, so nothing says how large they are; add one with {fix}",
            )
        keys, most = mine, max(most, (sources[stream] if stream in sources else pipelines[stream]).max_keys)
    for i, asked in enumerate(settings.ask):
        if why := _why_not_asked(pipelines[asked]):
            at.wrong(f"ask[{i}]", f"pipeline.{asked} {why}, so that one row has no result of its own")
    is_keyed = settings.per == "key"
    return BehaviourPlan(
        name=name,
        function=settings.run,
        digest=mark,
        per_key=is_keyed,
        hears=tuple(_heard(stream, sources, pipelines) for stream in settings.source),
        ask=settings.ask,
        publish=tuple(_filters(at, settings, keys if is_keyed else (), known)),
        broker=settings.broker or next(iter(config.broker), ""),
        write=settings.write,
        limits=settings.limit,
        inbox=settings.inbox,
        overflow=settings.overflow,
        on_end=tuple(_ends(at, settings, is_keyed, known)),
        instances=most if is_keyed else 1,
        work=work,
    )


def _why_not_asked(p: PipelinePlan) -> str:
    if p.window is not None:
        return "has a window"
    if p.align is not None:
        return "joins several streams"
    return "remembers the rows before" if p.states else ""


def _heard(stream: str, sources: Mapping[str, SourcePlan], pipelines: Mapping[str, PipelinePlan]) -> Heard:
    if stream in sources:
        fields = sources[stream].fields
        if len({f.name for f in fields}) < len(fields):  # a picture as several pipelines see it
            fields = (max(fields, key=lambda f: f.stop - f.start),)
        numbers = sum(NUMBER if not f.shape else (f.stop - f.start) * 8 for f in fields)
        return Heard(stream, True, fields, ROW + numbers)
    return Heard(stream, False, (), ROW + making_bytes(pipelines[stream], 1))


def _filters(at: Scope, settings: schema.Behaviour, keys: tuple[str, ...], known: Mapping[str, str]) -> Iterator[TopicFilter]:
    """Each topic that it may publish to; `{key}` stands for the parts of its key."""
    parts = "/".join(f"{{{KEY_PART}{i}}}" for i in range(len(keys)))
    for i, text in enumerate(settings.publish):
        if "{key}" in text and not keys:
            at.wrong(
                f"publish[{i}]", 'there is one instance for all keys, so {key} is nobody; write + for any key, or per = "key"'
            )
            continue
        try:
            yield replace(parse_filter(text.replace("{key}", parts), known), text=text)
        except TopicError as error:
            at.wrong(f"publish[{i}]", str(error))


def _ends(at: Scope, settings: schema.Behaviour, is_keyed: bool, known: Mapping[str, str]) -> Iterator[OnEnd]:
    for i, one in enumerate(settings.on_end):
        topic: Template | None = None
        if one.topic is not None:
            try:
                topic = parse_template(one.topic, known, ("key",) if is_keyed else ())
            except TopicError as error:
                at.wrong(f"on_end[{i}].topic", str(error))
                continue
        value: Any = one.value
        yield OnEnd(topic, value, one.retain, one.write or "", one.data or b"")
