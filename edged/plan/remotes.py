"""Plans remote models, and what a pipeline sends of its rows to one."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from edged.config.asked import PLACEHOLDER
from edged.config.schema import Config, Model, Pipeline, Step
from edged.decode.resize import View
from edged.errors import Problem
from edged.model.inputs import HWC, InputPlan
from edged.model.manifest import Manifest
from edged.model.onnx_file import OnnxFile, TensorInfo
from edged.model.remote.protocols import PROTOCOLS
from edged.model.remote.records import FIELDS, PICTURE, PREFIX, AskPlan, RemotePlan
from edged.notation.words import did_you_mean, listed
from edged.plan.inputs import chosen_fields
from edged.plan.records import PipelinePlan
from edged.plan.rows import Row
from edged.plan.scope import Scope
from edged.results.heads.by import BY

DEFAULT = "input"
"""What the only input is called where nobody says."""


def remote_of(config: Config, pipeline: Pipeline) -> Model | None:
    """The settings of its model, if that runs elsewhere."""
    model = config.model.get(pipeline.model or "")
    return model if model is not None and model.url is not None else None


def local_model(config: Config, pipeline: Pipeline) -> str | None:
    """The model of a pipeline that runs here: its own, or the one that answers for a remote one."""
    remote = remote_of(config, pipeline)
    return pipeline.model if remote is None else remote.fallback


def plan_remotes(config: Config, pipelines: Mapping[str, PipelinePlan]) -> dict[str, RemotePlan]:
    """One plan for each remote model that a pipeline uses."""
    used = {p.ask.remote for p in pipelines.values() if p.ask is not None}
    return {name: _plan(name, model) for name, model in config.model.items() if name in used}


def _plan(name: str, m: Model) -> RemotePlan:
    assert m.url is not None
    assert m.protocol is not None
    return RemotePlan(
        name=name,
        url=m.url,
        protocol=m.protocol,
        peer_name=m.name or "",
        token=m.token,
        headers=tuple((m.headers or {}).items()),
        ca=m.ca,
        body=m.body,
        outputs=tuple((n, o.path or (n,)) for n, o in (m.outputs or {}).items()),
        schema=m.schema or "",
        stream=m.stream,
        concurrency=m.concurrency,
        timeout_ns=m.timeout,
        retries=m.retries,
        cooldown_ns=m.cooldown,
        limits=m.limit,
        fallback=m.fallback,
        max_bytes=m.max_bytes or PROTOCOLS[m.protocol].max_bytes,
    )


def stand_in(name: str, m: Model, pipeline: Pipeline) -> Manifest:
    """What is known of the outputs of a model that runs elsewhere, where no local one answers for it."""
    dtype = "string" if pipeline.output.type == "text" else "float64" if m.protocol == "http" else "float32"
    names = ("text",) if m.protocol == "openai" else tuple(m.outputs or {}) or pipeline.output.tensor or ("output",)
    shape = (None, len(m.labels)) if m.labels and pipeline.output.type == "classify" else (None,) if dtype == "string" else None
    outputs = tuple(TensorInfo(n, "string" if m.protocol == "openai" else dtype, _shape(m, n) or shape) for n in names)
    return Manifest(name, Path(str(m.url)), "", OnnxFile(0, {}, (), outputs, 0, {}, {}), labels=m.labels or ())


def pictured(view: View | None) -> tuple[InputPlan, ...]:
    """How large the pictures are that go to a model elsewhere, for heads that find something in them."""
    return (InputPlan(PREFIX + DEFAULT, view.shape, "uint8", layout=HWC, picture=view.shape),) if view is not None else ()


def _shape(m: Model, output: str) -> tuple[int | str | None, ...] | None:
    """Of all rows, where somebody says that of one."""
    said = (m.outputs or {}).get(output)
    if said is None or said.shape is None:
        return None
    return (None, *(n if n > 0 else f"any{i or ''}" for i, n in enumerate(said.shape)))


def unshaped(name: str, m: Model, pipeline: Pipeline) -> str:
    """What could be done where results cannot be planned: the shapes of its outputs are known to nobody. Empty if they are."""
    if m.protocol == "openai" or m.fallback is not None:
        return ""
    tensors = [o.name for o in stand_in(name, m, pipeline).onnx.outputs if o.shape is None]
    if not tensors:
        return ""
    fix = f"[model.{name}.outputs.{tensors[0]}] shape = [...], of one row"
    return f"model.{name} runs elsewhere, and nothing says what its output {tensors[0]} looks like: {fix}; or name a fallback"


def plan_ask(
    at: Scope,
    settings: Pipeline,
    remote: Model,
    row: Row,
    shape: tuple[int, ...],
    made: tuple[int, ...],
    steps: Sequence[Step],
    view: View | None,
    keys: Sequence[str],
    others: Mapping[str, PipelinePlan],
    outputs: tuple[tuple[str, tuple[int, ...] | None], ...],
    is_asked: bool,
) -> AskPlan | None:
    """What a pipeline sends of a row, or None after saying what is wrong. `shape` is that of a window or sample, `made` what
    steps make of it; `others` are the pipelines that were planned before. `is_asked`: its rows are questions of behaviours."""
    before = len(at.problems)
    name, protocol = settings.model or "", remote.protocol or ""
    if settings.postprocess:
        at.wrong("postprocess", f"has no effect: model.{name} runs elsewhere, and its answers are results as they come", "key")
    for tensor, _ in outputs:
        if tensor == BY:
            at.wrong("output.tensor", f'an output may not be called "{BY}": that says who answered')
    if protocol == "openai" and settings.output.type not in ("text", "raw"):
        at.wrong("output", f'model.{name} writes text: write output = "text", found "{settings.output.type}"')
    photo = _photo(at, settings, remote) if is_asked else ""
    if protocol == "openai":
        _check_inputs(at, settings, name, is_asked)
    sends_picture = view is not None and (protocol == "openai" or remote.body == "image")
    if remote.body == "image" and view is None and not photo:
        fix = 'and the question has none: inputs.image.fields = ["photo"]'
        fix = fix if is_asked else 'and no source of this pipeline has pictures (format = "image")'
        at.wrong("source", f'model.{name} has body = "image", {fix}')
    if sends_picture and importlib.util.find_spec("PIL") is None:
        at.wrong("model", 'pictures go out as JPEG, for which Pillow is needed; pip install "edged[image]"')
    inputs: list[InputPlan] = []
    fields: tuple[tuple[str, int, int, tuple[int, ...]], ...] = ()
    colours = None
    prompt, names, told = "", tuple[str, ...](), tuple[str, ...]()
    if protocol == "openai":
        found = _prompt(at, settings, name, row, keys, others)
        if found is None:
            return None
        prompt, names, told = found
    if sends_picture:
        dtype = "float32" if steps else "uint8"
        colours = _colours(at, steps, made, view.shape if view is not None else ())
        inputs.append(InputPlan(PREFIX + PICTURE, made, dtype, layout=HWC, picture=view.shape if view is not None else ()))
    elif protocol == "openai" or (protocol == "http" and not steps and not settings.inputs and view is None):
        inputs.append(InputPlan(PREFIX + FIELDS, shape, row.dtype))
        fields = tuple((f.name, f.start, f.stop, f.shape) for f in row.fields)
    else:
        inputs += _named(at, settings, row, shape, made, view, bool(steps), "float64" if protocol == "http" else "float32")
    if any(not p.is_warning for p in at.problems[before:]):
        return None
    is_bgr = view is not None and view.color == "bgr"
    free = _free(remote, names, fields, photo) if is_asked and not steps else ()
    return AskPlan(name, tuple(inputs), fields, prompt, names, told, colours, is_bgr, outputs, free, photo)


def _check_inputs(at: Scope, settings: Pipeline, model: str, is_asked: bool) -> None:
    """What a prompt has no place for."""
    for name, one in settings.inputs.items():
        if name == PICTURE and not is_asked:
            text = "has no effect: only the picture of a question has a name; that of a source goes out by itself"
            at.wrong(f"inputs.{name}", text, "key")
        elif name not in ("prompt", PICTURE) and one.template is None:
            at.wrong(f"inputs.{name}", f"has no effect: model.{model} takes a prompt and an {PICTURE}", "key")


def _free(
    remote: Model, names: Sequence[str], fields: Sequence[tuple[str, int, int, tuple[int, ...]]], photo: str
) -> tuple[str, ...]:
    """The fields of a question that leave by their own names, so that they need be no numbers: in a prompt or as JSON. A model
    that runs here and answers for it takes numbers."""
    if remote.fallback is not None or remote.body != "json":
        return ()
    return tuple(name for name, *_ in fields if name != photo and (remote.protocol == "http" or name in names))


def _photo(at: Scope, settings: Pipeline, remote: Model) -> str:
    """The field of a question that is a picture; empty if none is."""
    given = settings.inputs.get(PICTURE)
    if given is None or given.fields is None or not (remote.protocol == "openai" or remote.body == "image"):
        return ""
    if len(given.fields) != 1:
        at.wrong(f"inputs.{PICTURE}.fields", f"expected one field, which is the picture, found {len(given.fields)}")
    if remote.fallback is not None:
        at.wrong(f"inputs.{PICTURE}", f"model.{remote.fallback} answers for it, and cannot take the picture of a question", "key")
    return given.fields[0]


def _named(
    at: Scope,
    settings: Pipeline,
    row: Row,
    shape: tuple[int, ...],
    made: tuple[int, ...],
    view: View | None,
    is_made: bool,
    dtype: str,
) -> list[InputPlan]:
    """Tensors by the names of the peer's inputs; one, of whatever name, where nothing is said."""
    if not settings.inputs:
        picture = view.shape if view is not None else ()
        return [
            InputPlan(PREFIX + DEFAULT, made, dtype, layout=HWC, picture=picture) if picture else _plain(DEFAULT, made, dtype)
        ]
    found = []
    for name, one in settings.inputs.items():
        here = at.below(f"inputs.{name}")
        for key in ("value", "size", "layout", "template"):
            if getattr(one, key) is not None:
                here.wrong(key, "has no effect with url: the model runs elsewhere", "key")
        if one.fields is None or is_made or view is not None:
            if len(settings.inputs) > 1:
                here.wrong("fields", "required: which fields go into which input?", "table")
            found.append(_plain(name, made, dtype))
            continue
        try:
            chosen = chosen_fields(one, None, row)
        except ValueError as error:
            here.wrong("fields", str(error))
            continue
        columns = tuple(c for f in chosen for c in range(f.start, f.stop))
        found.append(InputPlan(PREFIX + name, (*shape[:-1], len(columns)), dtype, columns=columns))
    return found


def _plain(name: str, shape: tuple[int, ...], dtype: str) -> InputPlan:
    return InputPlan(PREFIX + name, shape, dtype)


def _prompt(
    at: Scope, settings: Pipeline, model: str, row: Row, keys: Sequence[str], others: Mapping[str, PipelinePlan]
) -> tuple[str, tuple[str, ...], tuple[str, ...]] | None:
    """The template, the names in it, and the pipelines whose results it names."""
    for name in settings.inputs:
        if name != "prompt" and settings.inputs[name].value is None and settings.inputs[name].template is not None:
            at.wrong(f"inputs.{name}.template", f"model.{model} takes a prompt: inputs.prompt.template", "key")
    given = settings.inputs.get("prompt")
    if given is None or given.template is None:
        fix = 'inputs = { prompt = { template = "What is {field}?" } }'
        at.wrong("inputs", f"model.{model} needs a prompt: {fix}", "table")
        return None
    known = [*keys, "key", *(f.name for f in row.fields)]
    names: list[str] = []
    told: list[str] = []
    for name in PLACEHOLDER.findall(given.template):
        pipeline, dot, path = name.partition(".")
        if name in known:
            names.append(name)
        elif dot and pipeline in others:
            every = [f.name for f in others[pipeline].output.result_fields()]
            if path not in every:
                at.wrong("inputs.prompt.template", f"{{{name}}}: the results of {pipeline} have {listed(every)}")
            names.append(name)
            told.append(pipeline)
        else:
            text = f"{{{name}}} is no capture and no field here; there is {listed(known)}, and PIPELINE.FIELD"
            at.wrong("inputs.prompt.template", text + did_you_mean(name, known))
    return given.template, tuple(dict.fromkeys(names)), tuple(dict.fromkeys(told))


def _colours(
    at: Scope, steps: Sequence[Step], made: tuple[int, ...], picture: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """How what steps have made is turned back into colours."""
    if not steps:
        return None
    step = steps[0]
    if len(steps) > 1 or step.step != "normalize" or made != picture:
        text = "a picture goes out as it is: after resize only one normalize is possible here, which is undone for the peer"
        at.wrong("preprocess", text)
        return None
    if step.mean is not None and step.std is not None:
        return step.std, step.mean
    low, high = step.min or (0.0,), step.max or (1.0,)
    size = max(len(low), len(high))
    low, high = low * (size // len(low)), high * (size // len(high))
    return tuple(b - a for a, b in zip(low, high, strict=True)), low


def picture_warnings(pipelines: Mapping[str, PipelinePlan], remotes: Mapping[str, RemotePlan]) -> list[Problem]:
    """Of pipelines that send pictures off this device: they may show people."""
    return [
        Problem(
            f"pipeline.{p.name}.model",
            f"the pictures of source.{p.sources[0]} leave this device, for {remotes[p.ask.remote].url}",
            is_warning=True,
        )
        for p in pipelines.values()
        if p.ask is not None and p.view is not None
    ] + [
        Problem(
            f"pipeline.{p.name}.model",
            f"pictures that behaviours give (`{p.ask.photo}`) leave this device, for {remotes[p.ask.remote].url}",
            is_warning=True,
        )
        for p in pipelines.values()
        if p.ask is not None and p.ask.photo
    ]
