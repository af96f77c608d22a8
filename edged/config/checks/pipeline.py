"""Checks of pipelines: what each part needs of the others."""

from __future__ import annotations

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import (
    Pipeline,
    Table,
)
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


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Pipeline: (
        Rule(("model", "output", "gate"), without_model),
        Rule(("align", "source"), alignment),
    ),
}
