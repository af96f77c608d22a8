"""Sources and pipelines as streams: what the planner of a pipeline needs to know of what it reads."""

from __future__ import annotations

from collections.abc import Mapping

from edged.plan.records import PipelinePlan, SourcePlan, Stream
from edged.plan.sources import stale_ns
from edged.sources.kinds import kind_of


def source_stream(source: SourcePlan) -> Stream:
    settings = source.settings
    kind = kind_of(settings)
    unheld = kind.unheld(settings)
    if not unheld and source.lateness_ns and kind.is_acknowledged(settings):
        unheld = "whose samples are acknowledged while they wait to be put in order (lateness)"
    return Stream(
        name=source.name,
        roots=(source.name,),
        fields=source.fields,
        dtype=source.dtype,
        rate=_rate(source),
        rate_key=f"source.{source.name}.rate",
        has_own_time=source.has_own_time,
        on_bad=settings.on_bad,
        stale_ns=source.stale_ns,
        key_names=source.key_names,
        max_keys=source.max_keys,
        key_group=source.key_group,
        is_acknowledged=kind.is_acknowledged(settings),
        is_lossless=kind.is_lossless(settings),
        unheld=f"source.{source.name}, {unheld}" if unheld else "",
        line=(source.name,),
        delay_ns=source.lateness_ns,
    )


def _rate(source: SourcePlan) -> float | None:
    """Samples a second of one key: as many as the sensor has, or as are taken."""
    if source.every_ns is None:
        return source.rate
    taken = 1e9 / source.every_ns
    return taken if source.rate is None else min(taken, source.rate)


def pipeline_stream(plan: PipelinePlan, sources: Mapping[str, Stream]) -> Stream:
    """The results of a pipeline that reads `sources`."""
    pace = plan.align.to if plan.align is not None else 0
    rate_key = f"pipeline.{plan.name}.align.rate" if pace is None else sources[plan.sources[pace]].rate_key
    mine = [sources[name] for name in plan.sources]
    unheld = next((s.unheld for s in mine if s.unheld), "")
    if not unheld and plan.ask is not None:
        unheld = f"the answers to pipeline.{plan.name}, whose samples are acknowledged by then"
    elif not unheld and plan.keeps_no_receipts and any(s.is_acknowledged for s in mine):
        unheld = f"the windows of pipeline.{plan.name}, whose samples are acknowledged by then"
    return Stream(
        name=plan.name,
        roots=plan.roots,
        fields=tuple(field for field, _ in plan.results),
        dtype="float64",
        rate=plan.rate,
        rate_key=rate_key,
        has_own_time=True,
        on_bad="drop",
        stale_ns=stale_ns(plan.rate),
        key_names=plan.keys,
        max_keys=plan.max_keys,
        key_group=plan.key_group,
        is_acknowledged=any(s.is_acknowledged for s in mine),
        is_lossless=all(s.is_lossless for s in mine) and not unheld,
        unheld=unheld,
        line=_line(plan, sources, pace),
        delay_ns=0 if pace is None else mine[pace].delay_ns,
    )


def _line(plan: PipelinePlan, sources: Mapping[str, Stream], pace: int | None) -> tuple[str, ...]:
    """Nobody waits for what a remote model will say of a sample: who is gated by it goes by what it said last."""
    if pace is None or plan.ask is not None or not sources[plan.sources[pace]].line:
        return ()
    return (*sources[plan.sources[pace]].line, plan.name)
