"""Plans the models: how each is filled, and that all pipelines that share one fill it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edged.config.schema import Config, Model, Pipeline
from edged.errors import Problem
from edged.inputs import InputPlan, make_constant
from edged.model.fit import fit
from edged.model.manifest import Manifest
from edged.model.records import ModelPlan
from edged.plan.records import PipelinePlan
from edged.plan.scope import Scope
from edged.shape import OutputPlan

EXACT_IN_FLOAT32 = ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32")
"""Element types that float32 carries without loss; sources of others are decoded as float64."""


def wide_sources(config: Config, manifests: Mapping[str, Manifest]) -> frozenset[str]:
    """Sources that must be decoded as float64: for a model input that float32 cannot fill exactly, and for pipelines without
    a model, whose results are the values as they came (0.1 is to stay 0.1)."""
    return frozenset(s for p in config.pipeline.values() if _is_wide(p, manifests.get(p.model or "")) for s in p.source)


def _is_wide(pipeline: Pipeline, manifest: Manifest | None) -> bool:
    if pipeline.model is None:
        return True
    constants = {name for name, one in pipeline.inputs.items() if one.value is not None}
    inputs = manifest.onnx.inputs if manifest is not None else ()
    return any(i.dtype not in EXACT_IN_FLOAT32 for i in inputs if i.name not in constants)


def plan_model(settings: Model, manifest: Manifest, inputs: Sequence[InputPlan], outputs: tuple[str, ...] | None) -> ModelPlan:
    """One model as `inputs` fill it. `outputs` are those wanted, None for all."""
    return ModelPlan(
        manifest=manifest,
        rows={i.name: i.shape for i in inputs if i.is_row},
        constants={i.name: make_constant(i.value, i.shape, i.dtype) for i in inputs if not i.is_row},
        outputs=outputs,
        providers=settings.providers or "auto",
        threads=settings.threads,
        batch_max=settings.batch.max,
        run=settings.run,
    )


def plan_models(
    config: Config, manifests: Mapping[str, Manifest], pipelines: Mapping[str, PipelinePlan], problems: list[Problem]
) -> dict[str, ModelPlan]:
    """One plan for each model that a pipeline uses."""
    plans: dict[str, ModelPlan] = {}
    for name, settings in config.model.items():
        users = [p for p in pipelines.values() if p.model == name]
        if not users:
            continue
        first = users[0]
        for other in users[1:]:
            if _filling(other) != _filling(first):
                text = f"pipelines that share a model must fill it alike: {other.name} gives {_said(other)}, "
                cure = f"{first.name} {_said(first)}; load it twice under two names"
                Scope(f"pipeline.{other.name}", problems).wrong("model", text + cure)
        outputs: tuple[str, ...] | None = None
        if not any(p.postprocess for p in users):
            outputs = tuple(dict.fromkeys(t for p in users for t in wanted_outputs(p.output)))
        if settings.labels is not None and all(p.output.type != "classify" for p in users):
            Scope(f"model.{name}", problems).warn(
                "labels", 'no pipeline of this model has output = "classify", so nothing shows them'
            )
        plans[name] = plan_model(settings, manifests[name], first.inputs, outputs)
        problems += fit(plans[name])[1]
    return plans


def wanted_outputs(output: OutputPlan) -> tuple[str, ...]:
    """The model's outputs that the results are made of."""
    return output.tensors or ((output.label_tensor,) if output.label_tensor is not None else ())


def _filling(p: PipelinePlan) -> dict[str, object]:
    return {i.name: (i.shape, None if i.is_row else i.value) for i in p.inputs}


def _said(p: PipelinePlan) -> str:
    return ", ".join(
        f"{i.name} {'x'.join(map(str, i.shape)) or 'one number'}" if i.is_row else f"{i.name} = {i.value}" for i in p.inputs
    )
