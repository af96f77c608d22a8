"""Plans a gate: which field of which stream opens it, for whom, and whether both have a stream in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from edged.config.schema import Align, Gate, Unsure
from edged.notation.words import did_you_mean, listed
from edged.pipeline.gate import GatePlan
from edged.plan.joins import Keys, pace_of
from edged.plan.records import Stream
from edged.plan.scope import Scope
from edged.results.fields import ENVELOPE, ResultField
from edged.results.heads.head import OutputPlan
from edged.results.when import Condition, WhenPlan, plan_condition, plan_when


def plan_gate(
    at: Scope,
    settings: Gate,
    stream: Stream,
    output: OutputPlan | None,
    streams: Sequence[Stream],
    align: Align | None,
    keys: Keys,
) -> GatePlan | None:
    """The gate of a pipeline that reads `streams`, or None after saying why there is none. `output` is what the results of
    `stream` hold, None for a sensor."""
    if text := _misfit(stream, keys):
        at.wrong("source", text)
        return None
    try:
        when = WhenPlan(_of_sensor(settings, stream)) if output is None else when_of(settings, output, settings.change)
    except ValueError as error:
        at.wrong("", str(error))
        return None
    condition = when.condition
    column = next((f.start for f in stream.fields if (f.name,) in (condition.of, condition.is_true)), None)
    pace = pace_of(streams, align)
    line = streams[pace].line if pace is not None else ()
    common = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(line, stream.line, strict=False))]
    return GatePlan(
        source=stream.name,
        condition=condition,
        column=column if output is None else None,
        hold_ns=settings.hold,
        stale_ns=stream.stale_ns,
        is_keyed=bool(stream.key_names),
        fork=common[-1] if common else None,
        leads=stream.line[len(common) :] if common else (),
        way=line[len(common) :] if common else (),
        change_of=when.change_of,
        dead_band=when.dead_band,
    )


def _misfit(stream: Stream, keys: Keys) -> str:
    """Why the stream cannot say anything of the pipeline's keys; empty if it can."""
    if not stream.key_names or stream.key_names == keys.names:
        return ""
    theirs = f"{stream.name} is keyed by {' '.join(stream.key_names)}"
    if not keys.names:
        return f"{theirs}, and this pipeline has no keys: which of them is to open it?"
    return f"{theirs}, this pipeline by {' '.join(keys.names)}: both must have the same parts in one order"


def _of_sensor(settings: Gate, stream: Stream) -> Condition:
    fields = [ResultField(f.name, (f.name,), "number") for f in stream.fields if f.stop - f.start == 1]
    if not fields:
        raise ValueError(f"{stream.name} has no field that is one number")
    if settings.change is not None:
        raise ValueError(f"change: {stream.name} is a sensor; only results of a pipeline are compared with those before")
    if settings.label is not None:
        raise ValueError(f"{stream.name} is a sensor with fields that are numbers ({_names(fields)}): use above and below")
    if settings.of is None:
        raise ValueError(f'which field of {stream.name}? set of = "...", one of: {_names(fields)}')
    return _condition(settings, fields, None)


def when_of(settings: Gate | Unsure, output: OutputPlan, change: float | None = None) -> WhenPlan:
    """What is asked of results. Raises ValueError, with a text for a person."""
    fields = output.result_fields()
    if settings.label is None and settings.above is None and settings.below is None and change is None:
        said = next((f for f in (*fields, *ENVELOPE) if f.name == settings.of), None)
        if said is not None and said.kind not in ("bool", "number", "tensor"):
            fitting = _names(f for f in fields if f.kind in ("bool", "number"))
            fix = "use label" if said.kind == "text" else f"name one of: {fitting}"
            raise ValueError(f'of: "{said.name}" is neither a number nor true or false; {fix}')
    known = output.judged_labels if settings.of in (None, "label") else None
    for label in settings.label or () if known else ():
        if label not in (known or ()):
            raise ValueError(f'label: "{label}" is none of its labels: {listed(known or ())}{did_you_mean(label, known or ())}')
    return plan_when(
        fields,
        output.default_of(),
        change=change,
        of=settings.of,
        above=settings.above,
        below=settings.below,
        label=settings.label or (),
        min_interval=None,
        max_interval=None,
    )


def _condition(settings: Gate, fields: Sequence[ResultField], default: str | None) -> Condition:
    return plan_condition(fields, default, of=settings.of, above=settings.above, below=settings.below, label=settings.label or ())


def _names(fields: Iterable[ResultField]) -> str:
    return listed(f.name for f in fields)
