"""Plans what the numbers of a model mean: which tensor, how many numbers, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edged.config.schema import Output, Pipeline
from edged.config.words import did_you_mean, listed
from edged.decode.resize import View
from edged.model.fit import cannot_bind
from edged.model.inputs import InputPlan
from edged.model.manifest import Manifest
from edged.model.onnx_file import TensorInfo
from edged.plan.rows import Row
from edged.plan.scope import Scope
from edged.plan.steps import make_postprocess
from edged.records import Field
from edged.results.heads.boxes import classes_of, fitting_heads
from edged.results.heads.shape import OutputPlan, ValueField, result_fields


def plan_output(
    at: Scope,
    pipeline: Pipeline,
    manifest: Manifest | None,
    labels: tuple[str, ...] | None,
    row: Row,
    inputs: Sequence[InputPlan],
    max_keys: int,
    view: View | None = None,
) -> tuple[OutputPlan, Mapping[str, tuple[int, ...]]] | None:
    """The output's plan with the shapes of its tensors, as far as they are known; None after saying what is wrong."""
    if manifest is None:
        return OutputPlan("raw", tuple(f.name for f in row.fields), max_keys=max_keys), {f.name: f.shape for f in row.fields}
    tensors = _tensors(at, pipeline, manifest, inputs)
    if tensors is None:
        return None
    shapes = {t.name: shape for t in tensors if (shape := _row_shape(t)) is not None}
    plan = _Planner(at, pipeline, manifest, labels, inputs, max_keys, view).plan(tensors)
    return None if plan is None else (plan, shapes)


def chained_fields(output: OutputPlan, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[Field, tuple[str, ...]], ...]:
    """The fields of a result that are numbers, as columns of a stream, each with its path in the body of a result."""
    fields: list[tuple[Field, tuple[str, ...]]] = []
    start = 0
    for known in result_fields(output):
        shape: tuple[int, ...] | None = () if known.kind in ("number", "bool") else None
        if known.kind == "tensor":
            shape = shapes.get(known.path[-1])
        if known.path[0] == "scores" and output.top < max(output.size, 2):
            continue  # only the best few are in a result
        if shape is not None:
            stop = start + math.prod(shape)
            fields.append((Field(known.name, start, stop, shape, known.unit), known.path))
            start = stop
    return tuple(fields)


class _Planner:
    def __init__(
        self,
        at: Scope,
        pipeline: Pipeline,
        manifest: Manifest,
        labels: tuple[str, ...] | None,
        inputs: Sequence[InputPlan],
        max_keys: int,
        view: View | None,
    ) -> None:
        self.at = at
        self.pipeline = pipeline
        self.settings: Output = pipeline.output
        self.manifest = manifest
        self.labels = labels
        self.inputs = inputs
        self.max_keys = max_keys
        self.view = view

    def plan(self, tensors: Sequence[TensorInfo]) -> OutputPlan | None:
        if self.settings.type == "raw":
            only_raw = bool(self.pipeline.publish) and all(x.format == "raw" and x.when.of is None for x in self.pipeline.publish)
            names, dtypes = tuple(t.name for t in tensors), tuple(t.dtype or "object" for t in tensors)
            return OutputPlan("raw", names, max_keys=self.max_keys, keeps_arrays=only_raw, dtypes=dtypes)
        numbers = [t for t in tensors if (t.dtype or "").startswith("float")]
        if self.settings.type == "classify" and not numbers and len(tensors) == 1 and _size(tensors[0]) == 1:
            for key in ("softmax", "top", "smooth"):
                if getattr(self.settings, key) != getattr(Output(), key):
                    text = f"has no effect: {tensors[0].name} is {tensors[0]}, the class itself without probabilities"
                    self.at.wrong(f"output.{key}", text, "key")
            return OutputPlan("classify", (), 1, self.max_keys, self.labels, label_tensor=tensors[0].name)
        tensor = self._one(tensors, numbers)
        if tensor is None:
            return None
        match self.settings.type:
            case "classify":
                return self._classify(tensor)
            case "regress":
                return self._regress(tensor)
            case "anomaly":
                return self._anomaly(tensor)
            case "detect":
                return self._detect(tensor)
        raise ValueError(f"no such output: {self.settings.type}")

    def _one(self, tensors: Sequence[TensorInfo], numbers: Sequence[TensorInfo]) -> TensorInfo | None:
        """The one tensor that the output is about: the only one, or the only one of floating-point numbers."""
        if len(tensors) == 1:
            if tensors[0].dtype in (None, "string"):
                self.at.wrong("output", f'{tensors[0].name} is {tensors[0]}; "{self.settings.type}" needs numbers')
                return None
            return tensors[0]
        if len(numbers) == 1:
            return numbers[0]
        listed_all = ", ".join(f"{t.name}: {t}" for t in tensors)
        cure = f'output = {{ type = "{self.settings.type}", tensor = "{(numbers or tensors)[0].name}" }}'
        self.at.wrong("output", f"the model has {len(tensors)} outputs ({listed_all}); say which one: {cure}")
        return None

    def _classify(self, tensor: TensorInfo) -> OutputPlan | None:
        labels = self.labels
        size = _size(tensor) or (len(labels) if labels else 0)
        if not size:
            cure = f"give model.{self.pipeline.model}.labels"
            self.at.wrong("output", f"{tensor.name} is {tensor}: how many classes that are is not said; {cure}")
            return None
        classes = max(size, 2)  # one number is the probability of the second of two
        if labels and len(labels) != classes:
            text = f"{len(labels)} labels ({listed(labels)}) for {classes} classes: {tensor.name} is {tensor}"
            self.at.wrong("output", text)
            return None
        s = self.settings
        return OutputPlan("classify", (tensor.name,), size, self.max_keys, labels, softmax=s.softmax, top=s.top, smooth=s.smooth)

    def _regress(self, tensor: TensorInfo) -> OutputPlan | None:
        named = tuple(ValueField(f.name, f.scale, f.offset, f.unit) for f in self.settings.fields or ())
        size = _size(tensor) or len(named) or 1
        if named and len(named) != size:
            self.at.wrong("output.fields", f"expected {size} names, found {len(named)}: {tensor.name} is {tensor}")
            return None
        labels = self.labels if self.labels and len(self.labels) == size else None
        return OutputPlan("regress", (tensor.name,), size, self.max_keys, labels, smooth=self.settings.smooth, fields=named)

    def _anomaly(self, tensor: TensorInfo) -> OutputPlan | None:
        s, size = self.settings, _size(tensor)
        of: InputPlan | None = None
        if s.error is None:
            if size not in (None, 1):
                cure = 'if the model reconstructs its input: error = "mae"'
                self.at.wrong("output", f"{tensor.name} is {tensor}, not one score; {cure}")
                return None
        else:
            of = self._reconstructed()
            if of is None:
                return None
            if size is not None and size != math.prod(of.shape):
                text = f'"{s.error}" compares {tensor.name}: {tensor} with {of.name}, whose rows are {list(of.shape)}'
                self.at.wrong("output.error", f"{text}: both must hold equally many numbers")
                return None
        return OutputPlan(
            "anomaly",
            (tensor.name,),
            size or 1,
            self.max_keys,
            smooth=s.smooth,
            error=s.error,
            input=of.name if of is not None else None,
            above=s.above,
            below=s.below,
            release=s.release,
        )

    def _detect(self, tensor: TensorInfo) -> OutputPlan | None:
        picture = next((i.picture_size for i in self.inputs if i.value is None and all(i.picture_size)), None)
        if picture is None:
            self.at.wrong("output", '"detect" needs a model that takes a picture: [N,3,height,width] or [N,height,width,3]')
            return None
        shape = tuple(a if isinstance(a, int) else None for a in (tensor.shape or ())[1:])
        labels, given = self.labels, self.manifest.head
        heads = fitting_heads(shape, len(labels) if labels else None, picture)
        if given is not None and len(shape) == 2:
            heads = [given]
        if len(heads) != 1:
            self._say_heads(tensor, heads)
            return None
        classes = classes_of(heads[0], shape)
        if labels is not None and classes is not None and len(labels) != classes:
            text = f"{len(labels)} labels ({listed(labels)}) for {classes} classes: {tensor.name} is {tensor}, read as {heads[0]}"
            self.at.wrong("output", text)
            return None
        wanted = self._classes(labels or tuple(map(str, range(classes or 0))))
        if wanted is None and self.settings.label is not None:
            return None
        s = self.settings
        return OutputPlan(
            "detect",
            (tensor.name,),
            _size(tensor) or 1,
            self.max_keys,
            labels,
            above=s.above,
            head=heads[0],
            view=self.view,
            picture=picture,
            iou=s.iou,
            most=s.max,
            classes=wanted,
        )

    def _say_heads(self, tensor: TensorInfo, heads: Sequence[str]) -> None:
        n = len(self.labels) if self.labels else 0
        if heads:
            cure = f'say in model.toml: [detect] head = "{heads[0]}"'
            text = f"{tensor.name} is {tensor}, which may be {' or '.join(heads)}; {cure}"
        else:
            v8, v5 = (n + 4, n + 5) if n else ("4 + classes", "5 + classes")
            known = f" of {n} labels" if n else ""
            text = f"expected boxes{known} as [N,{v8},boxes], [N,boxes,{v5}] or, with NMS in the graph, [N,boxes,6]; "
            text += f"{tensor.name} is {tensor}"
        self.at.wrong("output", text)

    def _classes(self, labels: Sequence[str]) -> tuple[int, ...] | None:
        """The classes that `label` names; None for all, or after saying that one is not there."""
        for name in self.settings.label or ():
            if name not in labels:
                there = f"the model has {listed(labels)}" if labels else "the model has no labels: set model.NAME.labels"
                cure = there.replace("NAME", self.pipeline.model or "")
                self.at.wrong("output.label", f'there is no label "{name}"; {cure}{did_you_mean(name, labels)}')
                return None
        return None if self.settings.label is None else tuple(labels.index(name) for name in self.settings.label)

    def _reconstructed(self) -> InputPlan | None:
        filled = [i for i in self.inputs if i.value is None]
        if len(filled) == 1:
            return filled[0]
        names = ", ".join(i.name for i in filled)
        self.at.wrong("output.error", f"the error is that of one input, and the model has {len(filled)}: {names}")
        return None


def _tensors(at: Scope, pipeline: Pipeline, manifest: Manifest, inputs: Sequence[InputPlan]) -> tuple[TensorInfo, ...] | None:
    """The tensors that the output may use: the model's, or what `postprocess` makes of them. Open axes that an input of the
    same name settles are settled."""
    found = tuple(_settled(o, manifest, inputs) for o in manifest.onnx.outputs)
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
    return TensorInfo(output.name, output.dtype, axes, output.kind, output.element)


def _after_postprocess(at: Scope, pipeline: Pipeline, found: Sequence[TensorInfo]) -> tuple[TensorInfo, ...] | None:
    rows = {}
    for o in found:
        shape = _row_shape(o)
        if o.dtype in (None, "string") or shape is None:
            at.wrong("postprocess", f"output {o.name} is {o}: its shape must be known to be handed to a function")
            return None
        rows[o.name] = (shape, o.dtype)
    try:
        made = make_postprocess(pipeline.postprocess, rows)
    except ValueError as error:
        at.wrong("postprocess", str(error))
        return None
    assert made is not None
    return tuple(TensorInfo(name, dtype.name, (None, *shape)) for name, (shape, dtype) in made.outputs.items())


def _row_shape(tensor: TensorInfo) -> tuple[int, ...] | None:
    """The shape of one row, None where the file leaves that open."""
    if tensor.shape is None:
        return None
    axes = tensor.shape
    if len(axes) > 1 or (axes and not isinstance(axes[0], int)):
        axes = axes[1:]
    sizes = tuple(a for a in axes if isinstance(a, int))
    return sizes if len(sizes) == len(axes) else None


def _size(tensor: TensorInfo) -> int | None:
    """Numbers in one row."""
    shape = _row_shape(tensor)
    return None if shape is None else math.prod(shape)
