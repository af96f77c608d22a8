"""What cannot be done with the part of the samples that one member of a group gets (`share` of an MQTT source)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edged.config.schema import Config, MqttSource, Pipeline
from edged.errors import Problem
from edged.model.manifest import Manifest
from edged.notation.units import S
from edged.notation.words import duration, listed
from edged.plan.scope import Scope

RESTART_NS = 30 * S
"""How long a daemon is away that ended by itself: systemd waits 2 s, and models take their time to load."""


def check_shares(config: Config, manifests: Mapping[str, Manifest], problems: list[Problem]) -> None:
    """Says of each shared source what would have holes, and what its broker would lose."""
    for name, source in config.source.items():
        if not isinstance(source, MqttSource) or source.share is None:
            continue
        at = Scope(f"source.{name}", problems)
        broken = [*_of_source(name, source), *_of_pipelines(name, config, manifests)]
        if broken:
            places, keys = [f"{key} of {place}" for key, place in broken], dict.fromkeys(key for key, _ in broken)
            text = f"the broker deals the samples of one key out to all members, so {listed(places)} would have holes"
            at.wrong("share", f"{text}; remove share or {listed(keys)}", "key")
        broker = config.broker.get(source.broker or next(iter(config.broker), ""))
        if broker is None:
            continue
        if broker.version == "3.1.1":
            at.wrong("share", 'MQTT 3.1.1 has no shared subscriptions; remove version = "3.1.1" of its broker, or share')
        elif not source.qos:
            at.warn("share", "at QoS 0 the broker sends what it dealt to a member once: what a member had when it died is lost")
        elif broker.session_expiry < RESTART_NS:
            kept = duration(broker.session_expiry) if broker.session_expiry else "0s"
            text = f"session_expiry of its broker is {kept}, and a daemon that died is back within {duration(RESTART_NS)}"
            at.warn("share", f"{text}: what was in flight to it is lost; set session_expiry to that or more")


def _of_source(name: str, source: MqttSource) -> Iterator[tuple[str, str]]:
    place = f"source.{name}"
    if source.every is not None:
        yield "every", place
    if source.on_bad == "hold":
        yield 'on_bad = "hold"', place
    if "hold" in (source.decode.absent, *(field.absent for field in source.decode.fields)):
        yield 'absent = "hold"', place
    if source.decode.named_by is not None:
        yield "named_by", place
    if any(level in ("{field}", "{field...}") for topic in source.topic for level in topic.split("/")):
        yield "{field}", place
    if source.retained:
        yield "retained", place
    if source.frozen_after is not None:
        yield "frozen_after", place


def _of_pipelines(name: str, config: Config, manifests: Mapping[str, Manifest]) -> Iterator[tuple[str, str]]:
    for pipeline, settings in config.pipeline.items():
        if name in _roots(pipeline, config.pipeline):
            for key in _needs_all(settings, manifests):
                yield key, f"pipeline.{pipeline}"


def _roots(stream: str, pipelines: Mapping[str, Pipeline]) -> set[str]:
    """All streams behind one: what it runs on, and what gates it."""
    found: set[str] = set()
    left = [stream]
    while left:
        if (pipeline := pipelines.get(left.pop())) is not None:
            behind = {*pipeline.source, *([pipeline.gate.source] if pipeline.gate is not None else [])} - found
            found |= behind
            left += behind
    return found


def _needs_all(pipeline: Pipeline, manifests: Mapping[str, Manifest]) -> Iterator[str]:
    """The keys of a pipeline that count on all samples of a key."""
    manifest = manifests.get(pipeline.model or "")
    if pipeline.window is not None:
        yield "window"
    if pipeline.align is not None or len(pipeline.source) > 1:
        yield "align"
    if manifest is not None and manifest.states:
        yield "state"
    if pipeline.output.smooth > 1:
        yield "smooth"
    if pipeline.output.release is not None:
        yield "release"
    if pipeline.output.latch:
        yield "latch"
    if pipeline.gate is not None:
        yield "gate"
    for key in ("change", "min_interval"):
        if any(getattr(entry.when, key) is not None for entry in pipeline.publish):
            yield f"when.{key}"
