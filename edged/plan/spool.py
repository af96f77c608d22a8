"""Plans the spool: where, how large, and how long an outage it covers."""

from __future__ import annotations

from collections.abc import Mapping

from edged.config.schema import Config
from edged.errors import Problem
from edged.mqtt.settings import LinkSettings
from edged.notation.units import KIB, MIB
from edged.plan.records import Machine, PipelinePlan, SourcePlan
from edged.plan.results import largest
from edged.plan.scope import Scope
from edged.spool.settings import SpoolSettings, default_max_bytes

MIN_BYTES = MIB
RECORD = 400
"""Bytes of a usual result on disk: JSON with a few scores, its topic, what stands around it."""


def plan_spool(
    config: Config,
    machine: Machine,
    links: Mapping[str, LinkSettings],
    pipelines: Mapping[str, PipelinePlan],
    problems: list[Problem],
) -> SpoolSettings | None:
    """The spool; None where it is off, or nothing is published at QoS 1."""
    spool, at = config.spool, Scope("spool", problems)
    if spool.mode == "off":
        _warn_of_held(pipelines, problems)
        return None
    speaks = any(b.publish or any(one.topic for one in b.on_end) for b in config.behaviour.values())
    if not speaks and not any(x.settings.qos for p in pipelines.values() for x in p.publishes):
        if spool != Config().spool and len(pipelines) == len(config.pipeline):
            at.warn("", "has no effect: nothing is published at QoS 1, and QoS 0 is never kept")
        return None
    max_bytes = spool.max_bytes
    if max_bytes is None:
        max_bytes = max(MIN_BYTES, default_max_bytes(machine.disk_free))
    elif max_bytes < MIN_BYTES:
        at.wrong("max_bytes", f"{max_bytes} bytes are too few: at least 1MiB")
    elif max_bytes > machine.disk_free:
        at.warn("max_bytes", f"{max_bytes // MIB} MiB, and {machine.disk_free // MIB} MiB are free on that disk")
    if MIN_BYTES <= max_bytes < (size := largest(pipelines.values())):
        at.warn("max_bytes", f"{max_bytes // KIB} KiB, and a result may have {size // KIB} KiB: such a one is not kept")
    return SpoolSettings(
        path=spool.path or machine.state_dir / "spool",
        max_bytes=max_bytes,
        is_always=spool.mode == "always",
        drops_newest=spool.overflow == "drop_newest",
        is_strict=spool.order == "strict",
        replay_rate=spool.replay_rate,
        receive_maximum=min((link.receive_maximum for link in links.values()), default=64),
    )


def _warn_of_held(pipelines: Mapping[str, PipelinePlan], problems: list[Problem]) -> None:
    """Results that are to be acknowledged, and wait in memory alone."""
    text = "what it holds back is in memory alone, and a crash loses it, though its input is acknowledged"
    for name, p in pipelines.items():
        for i, x in enumerate(p.publishes):
            if x.settings.qos and x.when is not None and x.when.min_interval is not None:
                here = Scope(f"pipeline.{name}.publish[{i}]", problems)
                here.warn("when.min_interval", f'{text}: spool.mode is "off"')


def results_a_second(pipelines: Mapping[str, PipelinePlan], sources: Mapping[str, SourcePlan]) -> float | None:
    """Results at QoS 1 that the spool would take, as far as sources state their rates and none is held back by `when`; None
    if a rate is unknown. Of a keyed source the rate is that of one key."""
    total = 0.0
    for p in pipelines.values():
        first = sources.get(p.sources[0])
        rate = first.rate if first is not None else None
        if p.align is not None and p.align.period_ns:
            rate = 1e9 / p.align.period_ns
        count = sum(x.settings.qos for x in p.publishes)
        if not count:
            continue
        if rate is None:
            return None
        total += count * rate * p.max_keys / (p.window.hop if p.window else 1)
    return total
