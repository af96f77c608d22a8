"""Plans what the numbers of a model mean, and checks what is asked of a result."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from edged.config.schema import Publish, When
from edged.encode import Envelope, make_encoder
from edged.model.manifest import Manifest
from edged.model.onnx_file import TensorInfo
from edged.plan.steps import make_postprocess
from edged.records import Field
from edged.shape import OutputPlan, ValueField, default_of, result_fields
from edged.when import WhenPlan, plan_when

if TYPE_CHECKING:
    from edged.plan.pipelines import PipelinePlanner


def plan_output(p: PipelinePlanner, manifest: Manifest | None, fields: Sequence[Field], max_keys: int) -> OutputPlan | None:
    """The output's plan, or None after saying what is wrong."""
    settings = p.settings.output
    if manifest is None:
        if settings.type != "raw":
            p.wrong("output", f'"{settings.type}" needs a model; without one the fields themselves are the result ("raw")')
            return None
        return OutputPlan("raw", tuple(f.name for f in fields), max_keys=max_keys)
    tensors = _tensors(p, manifest)
    if tensors is None:
        return None
    only_raw = bool(p.settings.publish) and all(x.format == "raw" and x.when.of is None for x in p.settings.publish)
    if settings.type == "raw":
        return OutputPlan("raw", tuple(t.name for t in tensors), max_keys=max_keys, keeps_arrays=only_raw)
    tensor = _one(p, tensors)
    if tensor is None:
        return None
    size = _size(tensor)
    labels = _labels(p, manifest)
    if settings.type == "classify":
        size = size or (len(labels) if labels else 0)
        classes = 2 if size == 1 else size
        if not size:
            p.wrong(
                "output.tensor",
                f"{tensor.name} is {tensor}: how many classes that is, is not said; give model.{p.settings.model}.labels",
            )
            return None
        if labels and len(labels) != classes:
            p.wrong("output", f"{len(labels)} labels ({', '.join(labels[:6])}) for {classes} classes: {tensor.name} is {tensor}")
            return None
        return OutputPlan(
            "classify", (tensor.name,), size, max_keys, labels, softmax=settings.softmax, top=settings.top, smooth=settings.smooth
        )
    if settings.type == "regress":
        named = tuple(ValueField(f.name, f.scale, f.offset, f.unit) for f in settings.fields or ())
        size = size or len(named) or 1
        if named and len(named) != size:
            p.wrong("output.fields", f"expected {size} names, found {len(named)}: {tensor.name} is {tensor}")
            return None
        return OutputPlan("regress", (tensor.name,), size, max_keys, labels, smooth=settings.smooth, fields=named)
    if settings.error is None and size not in (None, 1):
        p.wrong("output", f'{tensor.name} is {tensor}, not one score; if the model reconstructs its input: error = "mae"')
        return None
    return OutputPlan(
        "anomaly",
        (tensor.name,),
        size or 1,
        max_keys,
        smooth=settings.smooth,
        error=settings.error,
        input=_reconstructed(p, manifest) if settings.error else None,
        above=settings.above,
        below=settings.below,
        release=settings.release,
    )


def _tensors(p: PipelinePlanner, manifest: Manifest) -> tuple[TensorInfo, ...] | None:
    """The tensors that the output may use: the model's, or what `postprocess` makes of them."""
    found = manifest.onnx.outputs
    if p.settings.postprocess:
        made = _after_postprocess(p, manifest)
        if made is None:
            return None
        found = made
    by_name = {o.name: o for o in found}
    if p.settings.output.tensor is None:
        odd = next((o for o in found if o.kind != "tensor"), None)
        if odd is not None:
            cure = '; export with options={"zipmap": False}' if "map" in odd.kind else "; name the outputs wanted: output.tensor"
            p.problem(f"model.{p.settings.model}.path", f"output {odd.name} is a {odd.kind}, which cannot be bound{cure}")
            return None
        return found
    for name in p.settings.output.tensor:
        if name not in by_name:
            p.wrong("output.tensor", f'there is no output "{name}"; there is {", ".join(f"{o.name}: {o}" for o in found)}')
            return None
    return tuple(by_name[n] for n in p.settings.output.tensor)


def _after_postprocess(p: PipelinePlanner, manifest: Manifest) -> tuple[TensorInfo, ...] | None:
    rows = {}
    for o in manifest.onnx.outputs:
        axes = o.shape[1:] if o.shape else ()
        if o.dtype in (None, "string") or o.shape is None or not all(isinstance(a, int) for a in axes):
            p.wrong("postprocess", f"output {o.name} is {o}: its shape must be known to be handed to a function")
            return None
        rows[o.name] = (tuple(a for a in axes if isinstance(a, int)), o.dtype)
    try:
        made = make_postprocess(p.settings.postprocess, rows)
    except ValueError as error:
        p.wrong("postprocess", str(error))
        return None
    assert made is not None
    return tuple(TensorInfo(name, dtype.name, (None, *shape)) for name, (shape, dtype) in made.outputs.items())


def _one(p: PipelinePlanner, tensors: Sequence[TensorInfo]) -> TensorInfo | None:
    """The one tensor that the output type is about: the only one, or the only one of floats."""
    if len(tensors) > 1:
        numbers = [t for t in tensors if t.dtype is not None and t.dtype.startswith("float")]
        if len(numbers) == 1:
            return numbers[0]
        p.wrong(
            "output",
            f"tensor: required, since the model has {len(tensors)} outputs: {', '.join(f'{t.name}: {t}' for t in tensors)}",
        )
        return None
    if tensors[0].dtype in (None, "string"):
        p.wrong("output", f'{tensors[0].name} is {tensors[0]}; "{p.settings.output.type}" needs numbers')
        return None
    return tensors[0]


def _size(tensor: TensorInfo) -> int | None:
    """Numbers in one row, None where the file leaves that open."""
    if tensor.shape is None:
        return None
    axes = (
        tensor.shape[1:] if len(tensor.shape) > 1 or not isinstance(tensor.shape[0] if tensor.shape else 1, int) else tensor.shape
    )
    if not all(isinstance(a, int) for a in axes):
        return None
    return math.prod(a for a in axes if isinstance(a, int))


def _labels(p: PipelinePlanner, manifest: Manifest) -> tuple[str, ...] | None:
    given = p.config.model[p.settings.model or ""].labels
    if isinstance(given, Path):
        try:
            return tuple(line.strip() for line in given.read_text("utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            p.problem(f"model.{p.settings.model}.labels", f"{given}: {error}")
            return None
    return given or manifest.labels or None


def _reconstructed(p: PipelinePlanner, manifest: Manifest) -> str | None:
    inputs = [
        i.name for i in manifest.onnx.inputs if p.settings.inputs.get(i.name) is None or p.settings.inputs[i.name].value is None
    ]
    if len(inputs) != 1:
        p.wrong("output.error", f"the error is that of one input, and the model has {len(inputs)}: {', '.join(inputs)}")
        return None
    return inputs[0]


def check_publish(settings: Publish, output: OutputPlan) -> Iterator[tuple[str, str]]:
    """Key and text of everything that the results cannot give to this `publish`."""
    fields = result_fields(output)
    if settings.format == "cbor" and importlib.util.find_spec("cbor2") is None:
        yield "format", '"cbor" needs the package cbor2: pip install edged[cbor]'
        return
    try:
        make_encoder(Envelope("", "", None, ""), fields, settings.format, settings.fields or ())
    except ValueError as error:
        yield ("fields" if settings.fields else "format"), str(error)
    try:
        plan_of_when(settings.when, output)
    except ValueError as error:
        yield "when", str(error)
    labels = settings.when.label if settings.when.of is None else None
    if output.labels is not None and output.type == "classify":
        for label in labels or ():
            if label not in output.labels:
                close = get_close_matches(label, output.labels, 1)
                hint = f'; did you mean "{close[0]}"?' if close else ""
                yield "when.label", f'no label "{label}"; the labels are {", ".join(output.labels)}{hint}'


def plan_of_when(when: When, output: OutputPlan) -> WhenPlan | None:
    """The plan of a `when` table, None where it lets everything through. Raises ValueError."""
    if when == When():
        return None
    return plan_when(
        result_fields(output),
        default_of(output),
        change=True if when.change == 0 else when.change,  # `change = true` is kept as 0.0
        of=when.of,
        above=when.above,
        below=when.below,
        label=when.label or (),
        min_interval=when.min_interval,
        max_interval=when.max_interval,
    )
