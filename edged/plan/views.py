"""Pictures in the plan: what each pipeline sees of those of its source, which are resized where they are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edged.config.schema import AnySource, Config, Pipeline, Step
from edged.decode.formats import FORMATS
from edged.decode.resize import View
from edged.model.inputs import fit_picture
from edged.model.manifest import Manifest
from edged.model.metadata import is_ultralytics, picture_size, stride
from edged.model.onnx_file import TensorInfo
from edged.model.sketch import WHOLE
from edged.plan.inputs import has_batch
from edged.plan.records import SourcePlan, Stream
from edged.plan.scope import Scope
from edged.records import Field

SCALED = ("float16", "float32", "float64", "int8")
"""Types of inputs whose numbers are not the colors themselves."""
EXAMPLE = 'preprocess = { step = "resize", size = [640, 640] }'


def source_views(config: Config, manifests: Mapping[str, Manifest]) -> dict[str, tuple[View, ...]]:
    """By name of the source, what its pipelines see of a picture, each once."""
    found: dict[str, dict[View, None]] = {name: {} for name, source in config.source.items() if _has_pictures(source)}
    for pipeline in config.pipeline.values():
        for name in pipeline.source:
            view = _view(pipeline, config.source[name], manifests.get(pipeline.model or "")) if name in found else None
            if view is not None:
                found[name][view] = None
    return {name: tuple(views) for name, views in found.items()}


def plan_view(
    at: Scope, config: Config, settings: Pipeline, sources: Mapping[str, SourcePlan], manifest: Manifest | None
) -> View | None:
    """What a pipeline sees of the pictures that it reads; None where it reads none, or after saying what is wrong."""
    pictures = [name for name in settings.source if name in sources and _has_pictures(sources[name].settings)]
    steps = settings.preprocess or ()
    if not pictures:
        for i, step in enumerate(steps):
            if step.step == "resize":
                at.wrong(f"preprocess[{i}]", 'is for pictures: a source with decode = { format = "image" }')
        return None
    if len(settings.source) > 1:
        at.wrong("source", f"the pictures of source.{pictures[0]} cannot be joined with other streams")
    elif settings.align is not None:
        at.wrong("align", "has no effect on pictures", "key")
    elif settings.model is None:
        at.wrong("source", f"source.{pictures[0]} has pictures, which are no result by themselves: give a model")
    elif not steps or steps[0].step != "resize":
        where = "value" if steps else "table"
        at.wrong("preprocess", f"pictures come in any size, and the model takes one: begin with {_example(manifest)}", where)
    elif any(step.step == "resize" for step in steps[1:]):
        at.wrong("preprocess", "pictures are resized once, by the first step")
    else:
        view = _view(settings, config.source[pictures[0]], manifest)
        if manifest is not None and (text := _off_grid(view, manifest)):
            at.wrong("preprocess", text)
            return None
        said = _color_said(settings, manifest) if manifest is not None else None
        if view is not None and said not in (None, view.color):
            at.warn("model", f'decode.color wins over model.toml, which says "{said}"')
        return view
    return None


def _off_grid(view: View | None, manifest: Manifest) -> str:
    """What is wrong with a size that the model's metadata do not allow; empty if nothing is."""
    every = stride(manifest.onnx.metadata)
    if view is None or all(n % every == 0 for n in view.size):
        return ""
    near = [max(every, round(n / every) * every) for n in view.size]
    return f"resize: size = {list(view.size)}: model.{manifest.name} says that both must be multiples of {every}; such as {near}"


def seen(stream: Stream, view: View) -> Stream:
    """A stream of pictures as one pipeline sees it."""
    name = stream.fields[0].name
    return replace(stream, fields=(Field(name, 0, view.nbytes, view.shape),))


def columns_of(source: SourcePlan, view: View) -> tuple[int, int]:
    """Where a view lies in the rows of its source."""
    assert source.decode is not None
    field = source.decode.fields[source.decode.views.index(view)]
    return field.start, field.stop


def picture_steps(at: Scope, settings: Pipeline, manifest: Manifest, view: View) -> tuple[Step, ...] | None:
    """The steps after `resize`: as configured, else the manifest's normalization, else what floats are most often: 0 to 1."""
    rest, normalize = (settings.preprocess or ())[1:], manifest.normalize
    if rest:
        if normalize is not None and not any(step.step == "normalize" for step in rest):
            at.warn(
                "preprocess", 'has steps of its own, so the normalization of model.toml is left out; to keep it, add "normalize"'
            )
        return rest
    if normalize is not None:
        channels = view.shape[2]
        if len(normalize.subtract) not in (1, channels):
            text = f"model.toml normalizes {len(normalize.subtract)} fields, a picture has {channels} colors ({view.color})"
            at.wrong("model", text)
            return None
        return (Step(step="normalize", mean=normalize.subtract, std=normalize.divide),)
    scaled = [i for i in _filled(settings, manifest) if i.dtype in SCALED]
    if not scaled:
        return ()
    if _largest_colour(scaled[0], manifest) == WHOLE:
        return ()
    return (Step(step="normalize", min=(0.0,), max=(WHOLE,)),)


def check_colours(at: Scope, settings: Pipeline, manifest: Manifest) -> None:
    """Refuses a model that fits, where nothing says what numbers it wants for colors: any guess would give answers."""
    if manifest.normalize is not None or len(settings.preprocess or ()) > 1:
        return
    scaled = [i for i in _filled(settings, manifest) if i.dtype in SCALED]
    if scaled and _largest_colour(scaled[0], manifest) is None:
        at.wrong("preprocess", _colours_unsaid(scaled[0], settings, manifest), "value" if settings.preprocess else "table")


def _largest_colour(info: TensorInfo, manifest: Manifest) -> float | None:
    """What a full colour is for the model: as the graph's first operations divide, else as its metadata say."""
    if info.dtype == "int8":
        return None
    found = manifest.onnx.sketch.largest_colour(info.name)
    return 1.0 if found is None and is_ultralytics(manifest.onnx.metadata) else found


def _colours_unsaid(info: TensorInfo, settings: Pipeline, manifest: Manifest) -> str:
    """Why nobody knows, and the lines to choose from."""
    resize = next((s.size for s in settings.preprocess or () if s.step == "resize"), None)
    size = f"[{resize[0]}, {resize[1]}]" if resize else "[640, 640]"
    before = f'preprocess = [{{ step = "resize", size = {size} }}, {{ step = "normalize"'
    text = f"nothing says how model.{manifest.name} wants colors in {info.name}: {info}; choose "
    if info.dtype == "int8":
        text += f"{before}, mean = 128, std = 1 }}] for -128 to 127, or {before}, mean = 0, std = 2 }}] for 0 to 127"
    else:
        text += f"{before}, min = 0, max = 255 }}] for 0 to 1, or {before}, mean = 0, std = 1 }}] for 0 to 255"
    return f"{text} (in model.toml: [normalize], with the same keys)"


def _has_pictures(source: AnySource) -> bool:
    return source.decode is not None and FORMATS[source.decode.format].is_of_pictures


def _view(pipeline: Pipeline, source: AnySource, manifest: Manifest | None) -> View | None:
    step = (pipeline.preprocess or (None,))[0]
    if step is None or step.step != "resize" or step.size is None or source.decode is None:
        return None
    color = source.decode.color or (_color(pipeline, step.size, manifest) if manifest is not None else "rgb")
    return View(step.size, step.fit, color)


def _color(pipeline: Pipeline, size: tuple[int, int], manifest: Manifest) -> str:
    """The order of colors that the model wants: as its manifest says, else gray if it takes one colour only."""
    said = _color_said(pipeline, manifest)
    if said is not None:
        return said
    samples = pipeline.window.size.samples if pipeline.window is not None else None
    for info in _filled(pipeline, manifest):
        axes = info.shape or ()
        fits = [fit_picture(samples, (size[1], size[0], n), axes, None, has_batch(manifest, axes)) for n in (3, 1)]
        if fits[1] and not fits[0]:
            return "gray"
    return "rgb"


def _color_said(pipeline: Pipeline, manifest: Manifest) -> str | None:
    hints = [manifest.inputs[i.name] for i in _filled(pipeline, manifest) if i.name in manifest.inputs]
    return next((h.color for h in hints if h.color is not None), None)


def _filled(pipeline: Pipeline, manifest: Manifest) -> Sequence[TensorInfo]:
    """The inputs of the model that pictures may go into."""
    others = {name for name, one in pipeline.inputs.items() if one.value is not None} | {s.input for s in manifest.states}
    return [i for i in manifest.onnx.inputs if i.name not in others]


def _example(manifest: Manifest | None) -> str:
    """The step that brings pictures to the size of the model's only input, where its file says it."""
    shapes = [i.shape for i in manifest.onnx.inputs if i.shape is not None] if manifest is not None else []
    said = picture_size(manifest.onnx.metadata) if manifest is not None else None
    sizes = [a for a in shapes[0][1:] if isinstance(a, int) and a > 4] if len(shapes) == 1 else []
    if len(sizes) != 2 and said is not None:
        sizes = [said[1], said[0]]
    if len(sizes) != 2:
        return EXAMPLE
    return EXAMPLE.replace("[640, 640]", f"[{sizes[1]}, {sizes[0]}]")
