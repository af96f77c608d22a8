"""Plans one pipeline, stage by stage: row, join, window, steps, model, results, topics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edged.config.schema import AskSource, Config, Input, Model, Pipeline, Step
from edged.model.fit import fit
from edged.model.inputs import InputPlan
from edged.model.known import lacks_context
from edged.model.manifest import Manifest, contradiction, with_outputs
from edged.model.records import ModelPlan
from edged.model.remote.records import AskPlan
from edged.notation.words import listed
from edged.pipeline.align import AlignPlan
from edged.pipeline.gate import SAMPLES
from edged.pipeline.preprocess import Preprocess
from edged.plan.gates import plan_gate
from edged.plan.inputs import chosen_fields, plan_inputs
from edged.plan.joins import Keys, plan_align, plan_keys, rate_of
from edged.plan.memory import window_misfit
from edged.plan.models import plan_model
from edged.plan.outputs import chained_fields, plan_output
from edged.plan.publishes import plan_publishes
from edged.plan.records import PipelinePlan, SourcePlan, Stream
from edged.plan.remotes import local_model, pictured, plan_ask, remote_of, stand_in, unshaped
from edged.plan.rows import Row, plan_row
from edged.plan.scope import Scope
from edged.plan.steps import code_of, make_preprocess, with_rate
from edged.plan.views import check_colours, columns_of, picture_steps, plan_view, seen
from edged.plan.windows import plan_window, usual_gap
from edged.results.heads.by import with_by
from edged.results.heads.head import OutputPlan, row_shape

SLOT_BYTES = 1024 * 1024
MAX_SLOTS = 256

SeenBy = Callable[[ModelPlan], Mapping[str, tuple[int, ...]]]
"""What a trial of a model saw come out, where the file leaves the rows of an output open."""


def plan_pipeline(
    at: Scope,
    name: str,
    config: Config,
    sources: Mapping[str, SourcePlan],
    streams: Sequence[Stream],
    manifest: Manifest | None,
    known: Mapping[str, str],
    budget: int,
    gate_stream: tuple[Stream, OutputPlan | None] | None = None,
    others: Mapping[str, PipelinePlan] | None = None,
    seen_by: SeenBy = lambda plan: {},
) -> PipelinePlan | None:
    """The plan of one pipeline that reads `streams`, or None after saying why there is none. `gate_stream` is its gate's, with
    what the results of that hold, if it is a pipeline; `others` are the pipelines planned so far.

    `manifest` is that of its model, if it has one that runs here. `known` has what topics may name everywhere: device,
    base_topic. What does not fit into `budget` by itself is refused before anything is made of its size.
    """
    before = len(at.problems)
    settings = config.pipeline[name]
    remote = remote_of(config, settings)
    view = plan_view(at, config, settings, sources, manifest)
    if view is None and any(not p.is_warning for p in at.problems[before:]):
        return None
    streams = [seen(s, view) for s in streams] if view is not None else streams
    if not _are_numbers(at, streams):
        return None
    row = plan_row(streams)
    if not _keeps_texts(at, settings, row):
        return None
    keys = plan_keys(at, streams)
    align = plan_align(at, streams, settings.align, keys, row.dtype)
    window = plan_window(at.below("window"), streams, settings.align, settings.window)
    if settings.window is not None and window is None:
        return None
    if window is not None and (text := window_misfit(window.size, row.width, row.dtype, keys.most, budget)):
        at.wrong("window.size", text)
        return None
    rate = rate_of(streams, settings.align)
    picture = view.shape if view is not None else ()
    if view is not None and manifest is not None:
        steps = picture_steps(at, settings, manifest, view)
    elif view is not None:
        steps = (settings.preprocess or ())[1:]
    else:
        steps = _steps(at, settings, manifest, row)
    steps = with_rate(steps, rate if window else None) if steps is not None else None
    shape = (window.size, row.width) if window else (row.width,)
    made = _preprocess(at, settings, steps, shape, row, picture) if steps is not None else None
    if steps is None or made is None:
        return None
    inputs = (
        plan_inputs(at, _numbers(settings.inputs), manifest, row, window, made.output_shape, picture, bool(steps))
        if manifest is not None
        else ()
    )
    if inputs is None:
        return None
    if view is not None and manifest is not None:
        check_colours(at, settings, manifest)
    if manifest is not None and window is not None and (text := lacks_context(manifest, window.size)):
        at.wrong("window.size", text)
    labels = _labels(at, config, settings, manifest)
    is_answered = any(s.name in sources and sources[s.name].replies for s in streams)
    said = manifest if manifest is not None or remote is None else stand_in(settings.model or "", remote, settings)
    said_labels = labels or (said.labels or None if said else None)
    shown = inputs or pictured(view)
    asked_at = len(at.problems)
    planned = plan_output(at, settings, said, said_labels, row, shown, keys.most, view, is_answered)
    rows_seen: Mapping[str, tuple[int, ...]] = {}
    if manifest is not None and _needs_shapes(config, name, manifest, planned):
        rows_seen = _seen(config.model[settings.model or ""], manifest, inputs, seen_by)
    if manifest is not None and rows_seen:
        del at.problems[asked_at:]
        said = with_outputs(manifest, rows_seen)
        planned = plan_output(at, settings, said, said_labels, row, shown, keys.most, view, is_answered)
    if planned is None:
        if remote is not None and (text := unshaped(settings.model or "", remote, settings)):
            del at.problems[asked_at:]
            at.wrong("output", text)
        return None
    output, shapes = planned
    ask = None
    if remote is not None:
        is_asked = all(isinstance(config.source.get(s.name), AskSource) for s in streams)
        wanted = tuple((tensor, shapes.get(tensor)) for tensor in output.wanted)
        made_shape = picture if picture and math.prod(picture) == math.prod(made.output_shape) else made.output_shape
        ask = plan_ask(at, settings, remote, row, shape, made_shape, steps, view, keys.names, others or {}, wanted, is_asked)
        if ask is None:
            return None
        output = with_by(output, remote.schema is not None)
    if said is None and window is not None:
        shapes = {n: (window.size, *s) for n, s in shapes.items()}
    _check_fractions(at, settings, sources, streams, align, inputs, steps)
    publishes = plan_publishes(at, name, settings.publish, config, sources, known, keys, output)
    gate = None
    if settings.gate is not None and gate_stream is not None:
        gate = plan_gate(at.below("gate"), settings.gate, *gate_stream, streams, settings.align, keys)
    if said is None and gate is not None:  # what waits to be judged
        inputs = (InputPlan(SAMPLES, shape, row.dtype),)
    _check_deadline(at, config, settings, align)
    _check_carry(at, config, streams)
    plan = PipelinePlan(
        name=name,
        sources=tuple(s.name for s in streams),
        roots=tuple(dict.fromkeys(root for s in streams for root in s.roots)),
        align=align,
        window=window,
        rate=None if rate is None else rate / (window.hop if window is not None else 1),
        fields=row.fields,
        dtype=row.dtype,
        keys=keys.names,
        max_keys=keys.most,
        key_group=keys.group,
        steps=steps,
        postprocess=settings.postprocess,
        model=local_model(config, settings),
        inputs=inputs,
        output=output,
        publishes=publishes,
        slots=settings.slots or _slots(_batch(config, settings, manifest, inputs, output), inputs, ask, keys),
        overflow=_overflow(at, settings, streams, remote is not None),
        results=chained_fields(output, shapes),
        deadline_ns=settings.deadline,
        step_bytes=made.nbytes,
        view=view,
        columns=columns_of(sources[streams[0].name], view) if view is not None else None,
        states=manifest.states if manifest is not None else (),
        state_gap_ns=usual_gap(streams, settings.align) if manifest is not None and manifest.states and window is None else None,
        gate=gate,
        priority=settings.priority,
        ask=ask,
        seen=rows_seen,
        code=code_of(settings.functions.values()),
    )
    return plan if all(p.is_warning for p in at.problems[before:]) else None


def _needs_shapes(
    config: Config, name: str, manifest: Manifest, planned: tuple[OutputPlan, Mapping[str, tuple[int, ...]]] | None
) -> bool:
    """Whether a shape that the file leaves open keeps it from being planned, or from being read by another pipeline."""
    if all(row_shape(o) is not None for o in manifest.onnx.outputs):
        return False
    if planned is None:
        return True
    output, shapes = planned
    is_read = any(name in other.source for other in config.pipeline.values())
    return is_read and any(t not in shapes for t in output.wanted)


def _seen(model: Model, manifest: Manifest, inputs: Sequence[InputPlan], seen_by: SeenBy) -> dict[str, tuple[int, ...]]:
    """The rows of outputs that the file leaves open, as they come out. Nothing where it cannot be tried."""
    plan = plan_model(model, manifest, inputs, None)
    if fit(plan)[0] is None:
        return {}
    is_open = {o.name: o for o in manifest.onnx.outputs if row_shape(o) is None}
    return {n: s for n, s in seen_by(plan).items() if n in is_open and len(is_open[n].shape or (0, *s)) in (len(s), len(s) + 1)}


def _check_carry(at: Scope, config: Config, streams: Sequence[Stream]) -> None:
    carrying = [s for stream in streams for s in stream.roots if config.source[s].carry]
    if carrying and len(streams) > 1:
        at.warn("source", f"a row joined from several streams carries nothing: no result has what source.{carrying[0]} carries")


def _check_fractions(
    at: Scope,
    settings: Pipeline,
    sources: Mapping[str, SourcePlan],
    streams: Sequence[Stream],
    align: AlignPlan | None,
    inputs: Sequence[InputPlan],
    steps: Sequence[Step],
) -> None:
    """Inputs of whole numbers that are filled from values that may have fractions."""
    is_made = bool(steps)
    if all(s.dtype == "uint8" for s in streams) and not is_made:
        return  # colours of pictures are whole numbers
    are_whole = [i for i in inputs if i.value is None and np.dtype(i.dtype).kind in "iu"]
    if not are_whole:
        return  # a row may have millions of columns
    is_between = align is not None and align.method == "linear"
    names = [f.name for s in streams for f in s.fields for _ in range(f.stop - f.start)]
    whole = [w for s in streams for w in _whole_columns(s, sources)]
    for i in are_whole:
        columns = range(len(names)) if i.columns is None else i.columns
        cut = dict.fromkeys(names[c] for c in columns if not whole[c]) if not is_made and not is_between else {}
        if cut or is_made or is_between:
            of = f" of {listed(cut)}" if cut else ""
            fix = "use a model with a float input, or set scale in decode.fields so that whole numbers are fine enough"
            what = "rounded (2.9 becomes 3)" if i.is_rounded else "cut off (2.9 becomes 2)"
            at.warn("model", f"model.{settings.model} takes {i.name} as {i.dtype}: fractions{of} are {what}; {fix}")


def _whole_columns(stream: Stream, sources: Mapping[str, SourcePlan]) -> list[bool]:
    """Of each column of a stream, whether its values are sure to be whole numbers."""
    source = sources.get(stream.name)
    if source is None or source.decode is None:
        return [False] * stream.width
    return [
        field.dtype is not None and field.dtype.kind in "iub" and field.scale.is_integer() and field.offset.is_integer()
        for field in source.decode.value_fields
        for _ in range(field.count)
    ]


def _are_numbers(at: Scope, streams: Sequence[Stream]) -> bool:
    empty = [s.name for s in streams if not s.fields]
    if empty:
        text = f"the results of pipeline.{empty[0]} hold no numbers of a known shape, so they cannot be an input; if the model "
        at.wrong("source", text + "numbers whose shape the file leaves open, say it in model.toml: [outputs.NAME] shape = [...]")
    return not empty


def _keeps_texts(at: Scope, settings: Pipeline, row: Row) -> bool:
    """Whether nothing calculates with the characters of texts."""
    texts = [f.name for f in row.fields if f.is_text]
    if texts and settings.preprocess:
        at.wrong("preprocess", f"works on numbers, and {listed(texts)} is a text; give such a model its steps in the graph")
    elif texts and settings.align is not None and settings.align.method == "linear":
        at.wrong("align.method", f'"linear" lies between two values, and {listed(texts)} is a text; write "previous"')
    else:
        return True
    return False


def _steps(at: Scope, settings: Pipeline, manifest: Manifest | None, row: Row) -> tuple[Step, ...] | None:
    """The steps before the model: as configured, else the manifest's normalization, number by number for the fields that the
    model's one input takes."""
    normalize = manifest.normalize if manifest is not None else None
    if settings.preprocess is not None or manifest is None or normalize is None:
        if normalize is not None and not any(s.step == "normalize" for s in settings.preprocess or ()):
            step = f'{{ step = "normalize", mean = {_toml(normalize.subtract)}, std = {_toml(normalize.divide)} }}'
            at.warn("preprocess", f"wins over the normalization of model.toml, which is left out; to keep it, add {step}")
        return settings.preprocess or ()
    if len(normalize.subtract) == 1 and not any(f.is_text for f in row.fields):
        return (Step(step="normalize", mean=normalize.subtract, std=normalize.divide),)
    others = {n for n, one in settings.inputs.items() if one.value is not None} | {s.input for s in manifest.states}
    filled = [i.name for i in manifest.onnx.inputs if i.name not in others]
    if len(filled) != 1:
        text = "model.toml normalizes by field, and the model has several inputs: say it in preprocess"
        at.wrong("model", text)
        return None
    try:
        chosen = chosen_fields(settings.inputs.get(filled[0]), manifest.inputs.get(filled[0]), row)
    except ValueError:
        return ()  # said where the inputs are planned
    columns = [c for f in chosen if not f.is_text for c in range(f.start, f.stop)]
    subtract, divide = normalize.subtract, normalize.divide
    if len(subtract) == 1:
        subtract, divide = subtract * len(columns), divide * len(columns)
    if len(columns) != len(subtract):
        text = f"model.toml normalizes {len(normalize.subtract)} fields, {filled[0]} takes {len(columns)}: "
        at.wrong("model", text + listed(f.name for f in chosen))
        return None
    mean, std = [0.0] * row.width, [1.0] * row.width
    for column, a, b in zip(columns, subtract, divide, strict=True):
        mean[column], std[column] = a, b
    return (Step(step="normalize", mean=tuple(mean), std=tuple(std)),)


def _toml(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{n:g}' for n in numbers)}]" if len(numbers) > 1 else f"{numbers[0]:g}"


def _preprocess(
    at: Scope, settings: Pipeline, steps: Sequence[Step], shape: tuple[int, ...], row: Row, picture: tuple[int, ...]
) -> Preprocess | None:
    try:
        made = make_preprocess(steps, shape, row.dtype, picture)
    except ValueError as error:
        at.wrong("preprocess" if settings.preprocess is not None else "model", str(error))
        return None
    if settings.model is None and made.output_shape != shape:
        text = f"makes {list(made.output_shape)} of {list(shape)}; without a model the fields are the result, and must stay apart"
        at.wrong("preprocess", text)
        return None
    return made


def _labels(at: Scope, config: Config, settings: Pipeline, manifest: Manifest | None) -> tuple[str, ...] | None:
    if manifest is None or settings.model is None:
        return None
    given = config.model[settings.model].labels
    if given is not None and (text := contradiction(manifest.onnx, given)):
        Scope(f"model.{settings.model}", at.problems).wrong("labels", text)
        return given
    if given is not None and manifest.labels and given != manifest.labels:
        text = f"wins over the model's own: {listed(manifest.labels)}"
        Scope(f"model.{settings.model}", at.problems).warn("labels", text)
    return given or manifest.labels or None


def _batch(config: Config, settings: Pipeline, manifest: Manifest | None, inputs: Sequence[InputPlan], output: OutputPlan) -> int:
    """Rows that the model takes at once, as far as the file tells."""
    if manifest is None or settings.model is None:
        return 1
    outputs = None if settings.postprocess else output.wanted
    fitted, _ = fit(plan_model(config.model[settings.model], manifest, inputs, outputs))
    return fitted.batch_max if fitted is not None else 1


def _slots(batch: int, inputs: Sequence[InputPlan], ask: AskPlan | None, keys: Keys) -> int:
    """One batch that waits while another runs, one slot a key; beyond that what little memory allows."""
    every = (*inputs, *ask.inputs) if ask is not None else inputs
    slot_bytes = sum(math.prod(i.shape) * np.dtype(i.dtype).itemsize for i in every if i.is_row)
    slot_bytes += ask.given_bytes if ask is not None else 0
    return max(2 * batch, keys.most if keys.names else 0, min(MAX_SLOTS, SLOT_BYTES // max(1, slot_bytes)))


def _check_deadline(at: Scope, config: Config, settings: Pipeline, align: AlignPlan | None) -> None:
    """Waits that are configured and alone use up the deadline."""
    if settings.deadline is None:
        return
    if settings.model is not None and config.model[settings.model].batch.delay >= settings.deadline:
        at.warn("deadline", f"expires while model.{settings.model}.batch.delay waits for more windows")
    wait = max((s.tolerance_ns or 0 for s in align.sources), default=0) if align is not None else 0
    if align is not None and align.method != "previous" and wait >= settings.deadline:
        at.warn("deadline", f'expires while align.method = "{align.method}" waits for the next sample, up to align.tolerance')
    for i, entry in enumerate(settings.publish):
        if (entry.when.min_interval or 0) >= settings.deadline:
            text = "is not shorter than the deadline: what it holds back will have expired and is never sent"
            at.below(f"publish[{i}]").warn("when.min_interval", text)


def _numbers(inputs: Mapping[str, Input]) -> dict[str, Input]:
    """Those that a model here can have."""
    return {name: one for name, one in inputs.items() if one.template is None}


def _overflow(at: Scope, settings: Pipeline, streams: Sequence[Stream], is_remote: bool) -> str:
    if is_remote and settings.overflow == "block":
        others = '"drop_oldest", "drop_newest" or "latest_only"'
        at.wrong(
            "overflow", f'"block" would make its sources wait for model.{settings.model}, which runs elsewhere; use {others}'
        )
    if is_remote:
        return settings.overflow or "drop_oldest"
    unheld = next((s.unheld for s in streams if s.unheld), "")
    if settings.overflow == "block" and unheld:
        others = '"drop_oldest", "drop_newest" or "latest_only"'
        at.wrong("overflow", f'"block" cannot hold back {unheld}{", or" if ":" in unheld else ";"} use {others}')
    return settings.overflow or ("block" if all(s.is_lossless for s in streams) else "drop_oldest")
