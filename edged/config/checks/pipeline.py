"""Checks of pipelines: what each part needs of the others."""

from __future__ import annotations

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import HardSamples, Pipeline, Table
from edged.results.heads.table import HEADS


def without_model(table: Pipeline, raw: Raw) -> Wrong:
    if table.model is not None:
        return
    if HEADS[table.output.type].needs_model:
        yield "output", f'"{table.output.type}" needs a model; without one the samples themselves are the result'
    for key in ("postprocess", "inputs", *(("slots", "overflow") if table.gate is None else ())):
        if key in raw:
            yield key, "has no effect without a model", "key"


def alignment(table: Pipeline, raw: Raw) -> Wrong:
    if table.align is None:
        return
    if len(table.source) == 1 and table.align.rate is None:
        yield "align", "has no effect on one source without align.rate", "key"
    elif table.align.rate is not None and table.align.to is not None:
        yield "align.to", "expected to or rate, found both: a row for each sample of a stream, or a regular grid", "key"


def worth_a_look(table: HardSamples, raw: Raw) -> Wrong:
    if table.when is None and table.audit is None:
        yield "when", 'required, such as when = { below = 0.6 }; or audit, such as "2/d"', "table"
    if table.when is None and "limit" in raw:
        yield "limit", "has no effect without when; audit is its own limit", "key"
    if table.topic is None and table.max_bytes is None:
        yield "max_bytes", 'required, such as "64MiB", to keep them on disk; or topic, to publish them', "table"
    if table.topic is not None and table.max_bytes is not None:
        yield "topic", "they are published (topic) or kept (max_bytes), not both; remove one", "key"
    if table.labels is not None and table.max_bytes is None:
        yield "labels", "has no effect where nothing is kept: a label is written into the recording; set max_bytes", "key"
    if table.broker is not None and table.topic is None and table.labels is None:
        yield "broker", "has no effect without topic or labels", "key"


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Pipeline: (
        Rule(("model", "output", "gate"), without_model),
        Rule(("align", "source"), alignment),
    ),
    HardSamples: (Rule(("when", "audit", "limit", "topic", "max_bytes", "labels", "broker"), worth_a_look),),
}
