"""Plans what the numbers of a model mean: which tensor, how many numbers, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edged.config.schema import Pipeline
from edged.decode.resize import View
from edged.model.fit import cannot_bind
from edged.model.inputs import InputPlan
from edged.model.manifest import Manifest
from edged.model.metadata import characters, decoder, keypoints, task
from edged.model.onnx_file import TensorInfo
from edged.notation.words import did_you_mean
from edged.plan.rows import Row
from edged.plan.scope import Scope
from edged.plan.steps import make_postprocess
from edged.records import Field
from edged.results.heads.head import Asked, OutputPlan, row_shape
from edged.results.heads.raw import RawPlan
from edged.results.heads.table import HEADS


def plan_output(
    at: Scope,
    pipeline: Pipeline,
    manifest: Manifest | None,
    labels: tuple[str, ...] | None,
    row: Row,
    inputs: Sequence[InputPlan],
    max_keys: int,
    view: View | None = None,
    is_answered: bool = False,
) -> tuple[OutputPlan, Mapping[str, tuple[int, ...]]] | None:
    """The output's plan with the shapes of its tensors, as far as they are known; None after saying what is wrong.

    `is_answered`: results answer requests, and answers are JSON."""
    if manifest is None:
        readings = (
            tuple((f.name, f.unit) for f in row.fields if not f.shape and not f.is_text)
            if pipeline.window is None and not pipeline.preprocess
            else ()
        )
        names = tuple(f.name for f in row.fields)
        texts = frozenset(f.name for f in row.fields if f.is_text)
        return RawPlan(names, max_keys=max_keys, readings=readings, texts=texts), {f.name: f.shape for f in row.fields}
    tensors = _tensors(at, pipeline, manifest, inputs)
    if tensors is None:
        return None
    shapes = {t.name: shape for t in tensors if (shape := row_shape(t)) is not None}

    here = at

    def wrong(key: str, text: str, at: str = "value") -> None:
        """What is wrong with labels is said at the model's."""
        if key == "labels":
            Scope(f"model.{pipeline.model}", here.problems).wrong(
                key, f"{text}, and {here.path} classifies; name each class once"
            )
        else:
            here.wrong(key, text, at)

    is_sent_raw = bool(pipeline.publish) and all(x.format == "raw" and x.when.of is None for x in pipeline.publish)
    asked = Asked(
        pipeline.output,
        tensors,
        inputs,
        labels,
        max_keys,
        pipeline.model or "",
        view,
        manifest.boxes,
        is_sent_raw and not is_answered,
        wrong,
        {t.name: manifest.onnx.sketch.is_of_largest(t.name) for t in tensors},
        tuple(map(str, manifest.onnx.classes)),
        characters(manifest.onnx.metadata),
        task(manifest.onnx.metadata),
        keypoints(manifest.onnx.metadata),
        decoder(manifest.onnx.metadata),
    )
    plan = HEADS[pipeline.output.type].plan.get()(asked)
    return None if plan is None else (plan, shapes)


def chained_fields(output: OutputPlan, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[Field, tuple[str, ...]], ...]:
    """The fields of a result that are numbers, as columns of a stream, each with its path in the body of a result."""
    fields: list[tuple[Field, tuple[str, ...]]] = []
    start = 0
    for known in output.lasting_fields():
        shape: tuple[int, ...] | None = () if known.kind in ("number", "bool") else None
        if known.kind == "tensor":
            shape = shapes.get(known.path[-1])
        if shape is not None:
            stop = start + math.prod(shape)
            fields.append((Field(known.name, start, stop, shape, known.unit), known.path))
            start = stop
    return tuple(fields)


def _tensors(at: Scope, pipeline: Pipeline, manifest: Manifest, inputs: Sequence[InputPlan]) -> tuple[TensorInfo, ...] | None:
    """The tensors that the output may use: the model's, or what `postprocess` makes of them. Open axes that an input of the
    same name settles are settled."""
    every = tuple(_settled(o, manifest, inputs) for o in manifest.onnx.outputs)
    # What no array can hold, as the maps of scikit-learn, is not missed where another output serves.
    found = every if pipeline.output.tensor is not None else tuple(o for o in every if not cannot_bind(o)) or every
    states = {s.output for s in manifest.states}
    if pipeline.postprocess:
        found = tuple(o for o in found if o.name not in states)
        made = _after_postprocess(at, pipeline, found)
        if made is None:
            return None
        found = made
    wanted = pipeline.output.tensor
    by_name = {o.name: o for o in found}
    for name in wanted or ():
        if name not in by_name:
            there = ", ".join(f"{o.name}: {o}" for o in found)
            at.wrong("output.tensor", f'there is no output "{name}"; there is {there}{did_you_mean(name, [*by_name])}')
            return None
    chosen = (tuple(o for o in found if o.name not in states) or found) if wanted is None else tuple(by_name[n] for n in wanted)
    for o in chosen:
        if text := cannot_bind(o):
            Scope(f"model.{pipeline.model}", at.problems).wrong("path", text)
            return None
    return chosen


def _settled(output: TensorInfo, manifest: Manifest, inputs: Sequence[InputPlan]) -> TensorInfo:
    shapes = {i.name: i.shape for i in inputs}
    sizes: dict[str, int] = {}
    for info in manifest.onnx.inputs:
        row = shapes.get(info.name, ())  # a state has no open axes to settle
        axes = (info.shape or ())[-len(row) :] if row else ()
        sizes |= {a: n for a, n in zip(axes, row, strict=False) if isinstance(a, str)}
    own = next((s for s in manifest.states if s.output == output.name), None)
    if own is not None:
        return TensorInfo(output.name, own.dtype, (None, *own.shape))
    if output.shape is None:
        return output
    axes = (*output.shape[:1], *(sizes.get(a, a) if isinstance(a, str) else a for a in output.shape[1:]))
    if len(axes) > 1 and _has_no_batch(manifest, inputs):  # all of it is one row
        axes = (None, *output.shape)
    return replace(output, shape=axes)


def _has_no_batch(manifest: Manifest, inputs: Sequence[InputPlan]) -> bool:
    """Whether every input that is filled takes one row as its whole tensor."""
    ranks = {i.name: len(i.shape or ()) for i in manifest.onnx.inputs}
    filled = [i for i in inputs if i.value is None and i.name in ranks]
    return bool(filled) and all(len(i.shape) == ranks[i.name] for i in filled)


def _after_postprocess(at: Scope, pipeline: Pipeline, found: Sequence[TensorInfo]) -> tuple[TensorInfo, ...] | None:
    rows = {}
    for o in found:
        shape = row_shape(o)
        if o.dtype is None or shape is None:
            fix = f"say it in model.toml: [outputs.{o.name}] shape = [...]"
            at.wrong("postprocess", f"output {o.name} is {o}: its shape must be known to be handed to a function; {fix}")
            return None
        rows[o.name] = (shape, o.dtype)
    try:
        made = make_postprocess(pipeline.postprocess, rows)
    except ValueError as error:
        at.wrong("postprocess", str(error))
        return None
    assert made is not None
    made_of = {name: (shape, "string" if dtype.kind == "O" else dtype.name) for name, (shape, dtype) in made.outputs.items()}
    return tuple(TensorInfo(name, dtype, (None, *shape)) for name, (shape, dtype) in made_of.items())
