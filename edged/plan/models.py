"""Plans what goes into a model's inputs: fields by name, the newest rows, the layout that fits, constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edged.config.schema import Config, Input
from edged.errors import Problem
from edged.inputs import InputPlan, fit, make_constant, seen_as
from edged.model.fit import fit as fit_model
from edged.model.manifest import InputHints, Manifest
from edged.model.onnx_file import TensorInfo
from edged.model.records import ModelPlan
from edged.plan.records import PipelinePlan
from edged.plan.streams import WIDE
from edged.records import Field

if TYPE_CHECKING:
    from edged.plan.pipelines import PipelinePlanner


def wide_sources(config: Config, manifests: Mapping[str, Manifest]) -> frozenset[str]:
    """Sources that must be decoded as float64, since a model takes what float32 cannot carry."""
    wide: set[str] = set()
    for p in config.pipeline.values():
        manifest = manifests.get(p.model or "")
        if manifest is not None and any(i.dtype in WIDE for i in manifest.onnx.inputs):
            wide.update(p.source)
    return frozenset(wide)


def plan_inputs(
    p: PipelinePlanner, manifest: Manifest, fields: Sequence[Field], row_shape: tuple[int, ...]
) -> tuple[InputPlan, ...] | None:
    """One plan for each input of the model, or None after saying what does not fit."""
    known = {i.name: i for i in manifest.onnx.inputs}
    for name in p.settings.inputs:
        if name not in known:
            shown = ", ".join(f"{i.name}: {i}" for i in known.values())
            p.wrong(f"inputs.{name}", f"the model has no such input; it has {shown}", "key")
            return None
    planner = _InputPlanner(p, manifest, fields, row_shape)
    plans = [planner.plan(info) for info in known.values()]
    return None if any(plan is None for plan in plans) else tuple(plan for plan in plans if plan is not None)


class _InputPlanner:
    def __init__(self, p: PipelinePlanner, manifest: Manifest, fields: Sequence[Field], row_shape: tuple[int, ...]) -> None:
        self.p = p
        self.manifest = manifest
        self.fields = fields
        self.row_shape = row_shape
        # Steps that change the shape of a window end the choice of its fields.
        self.is_plain = row_shape == ((p.window_size, fields[-1].stop) if p.window_size else (fields[-1].stop,))

    def plan(self, info: TensorInfo) -> InputPlan | None:
        settings = self.p.settings.inputs.get(info.name, Input())
        if info.kind != "tensor" or info.dtype is None or info.dtype == "string" or info.shape is None:
            self.p.wrong("model", f"its input {info.name} is {info}, which no sensor can fill")
            return None
        if settings.value is not None:
            return self._constant(info, settings)
        hints = self.manifest.inputs.get(info.name, InputHints())
        chosen = self._chosen(info, settings, hints)
        if chosen is None:
            return None
        return self._fitted(info, settings, hints, chosen)

    def _constant(self, info: TensorInfo, settings: Input) -> InputPlan | None:
        """A constant; where the first axis counts rows, it is the constant of every row."""
        axes = info.shape or ()
        is_row = bool(axes) and not isinstance(axes[0], int)
        shape = tuple(a if isinstance(a, int) else 1 for a in (axes[1:] if is_row else axes))
        try:
            make_constant(settings.value, shape, info.dtype)
        except ValueError as error:
            self.p.wrong(f"inputs.{info.name}.value", f"{error}: {info.name} is {info}")
            return None
        return InputPlan(info.name, shape, info.dtype or "", value=settings.value, is_row=is_row)

    def _chosen(self, info: TensorInfo, settings: Input, hints: InputHints) -> Sequence[Field] | None:
        p, key = self.p, f"inputs.{info.name}"
        if settings.size is not None and settings.size > (p.window_size or 0):
            limit = f"the window's {p.window_size} rows" if p.window_size else "no size without a window"
            p.wrong(f"{key}.size", f"expected at most {limit}, found {settings.size}")
            return None
        wanted = settings.fields if settings.fields is not None else hints.fields
        if wanted is None:
            return self.fields
        if not self.is_plain:
            p.wrong(key, f"fields cannot be chosen after a step that makes {list(self.row_shape)} of the window")
            return None
        where = f"{key}.fields" if settings.fields is not None else "model"
        found = [p.find(where, name, self.fields) for name in wanted]
        if any(f is None for f in found):
            return None
        chosen = [f for f in found if f is not None]
        for f in chosen:
            unit = hints.units.get(f.name)
            if unit is not None and f.unit is not None and f.unit != unit:
                cure = f'scale it in decode.fields and say unit = "{unit}"'
                p.wrong("model", f"it takes {f.name} in {unit}, the source gives it in {f.unit}; {cure}")
        return chosen

    def _fitted(self, info: TensorInfo, settings: Input, hints: InputHints, chosen: Sequence[Field]) -> InputPlan | None:
        p = self.p
        columns = tuple(c for f in chosen for c in range(f.start, f.stop))
        rows = settings.size or p.window_size
        if self.is_plain:
            window: tuple[int | None, int] = (rows, len(columns))
            field_shape = chosen[0].shape if len(chosen) == 1 else ()
        else:
            window, field_shape = seen_as(self.row_shape)
        fits = fit(window, info.shape or (), field_shape, settings.layout or hints.layout)
        key = f"inputs.{info.name}" if info.name in p.settings.inputs else "model"
        if not fits:
            p.wrong(key, self._misfit(info, window, chosen))
            return None
        if len(fits) > 1:
            cure = f'say which axis is time: inputs = {{ {info.name} = {{ layout = "time,field" }} }}'
            p.wrong(key, f"{window[0]} samples of {window[1]} fields fit {info.name}: {info} both ways; {cure}")
            return None
        is_all = columns == tuple(range(self.fields[-1].stop)) or not self.is_plain
        return InputPlan(
            info.name,
            fits[0].shape,
            info.dtype or "",
            columns=None if is_all else columns,
            rows=None if rows == p.window_size or not self.is_plain else rows,
            layout=fits[0].layout,
        )

    def _misfit(self, info: TensorInfo, window: tuple[int | None, int], chosen: Sequence[Field]) -> str:
        model = self.p.config.model[self.p.settings.model or ""].path.name
        shape = [n for n in window if n is not None] if self.is_plain else list(self.row_shape)
        what = "the window gives" if window[0] is not None else "a sample gives"
        named = ", ".join(f.name for f in chosen[:12]) if self.is_plain else "after preprocess"
        known = {f.name for f in self.fields}
        missing = [n for hints in self.manifest.inputs.values() for n in hints.fields or () if n not in known]
        more = f"; the manifest also names: {', '.join(missing)}" if missing else ""
        return f"{model} takes {info.name}: {info}; {what} [{','.join(map(str, shape))}]: {named}{more}"


def plan_models(
    config: Config, manifests: Mapping[str, Manifest], pipelines: Mapping[str, PipelinePlan], problems: list[Problem]
) -> dict[str, ModelPlan]:
    """One plan for each model that a pipeline uses; all its pipelines must fill it alike."""
    plans: dict[str, ModelPlan] = {}
    for name, settings in config.model.items():
        users = [p for p in pipelines.values() if p.model == name]
        if not users:
            continue
        first = users[0]
        problems.extend(
            Problem(
                f"pipeline.{other.name}.model",
                f"pipelines that share a model must fill it alike: {other.name} gives {_shapes(other)}, "
                f"{first.name} {_shapes(first)}; load it twice under two names",
            )
            for other in users[1:]
            if _shapes(other) != _shapes(first)
        )
        outputs: tuple[str, ...] | None = None
        if not any(p.postprocess for p in users):
            outputs = tuple(dict.fromkeys(t for p in users for t in p.output.tensors))
        plan = ModelPlan(
            manifest=manifests[name],
            rows={i.name: i.shape for i in first.inputs if i.is_row},
            constants={i.name: make_constant(i.value, i.shape, i.dtype) for i in first.inputs if not i.is_row},
            outputs=outputs,
            providers=settings.providers or "auto",
            threads=settings.threads,
            batch_max=settings.batch.max,
            run=settings.run,
        )
        problems += fit_model(plan)[1]
        plans[name] = plan
    return plans


def _shapes(p: PipelinePlan) -> dict[str, list[int]]:
    return {i.name: list(i.shape) for i in p.inputs}
