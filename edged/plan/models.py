"""Plans the models: how each is filled, and that all pipelines that share one fill it alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edged.config.provider_options import KNOWN
from edged.config.schema import Config, Model, Pipeline, ProviderOptions
from edged.errors import Problem
from edged.model.axes import as_filed
from edged.model.fit import fit
from edged.model.inputs import InputPlan, make_constant
from edged.model.manifest import Manifest, with_outputs
from edged.model.records import ModelPlan
from edged.model.recurrent import plan_states
from edged.plan.records import PipelinePlan
from edged.plan.scope import Scope
from edged.results.heads.table import with_labels

EXACT_IN_FLOAT32 = ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32", "string")
"""Element types that float32 carries without loss; sources of others are decoded as float64."""


def with_states(config: Config, manifests: Mapping[str, Manifest], problems: list[Problem]) -> dict[str, Manifest]:
    """The manifests with the states that the configuration names; without those whose states are wrong."""
    found: dict[str, Manifest] = {}
    for name, manifest in manifests.items():
        at, given = Scope(f"model.{name}", problems), config.model[name].state
        if given is None or given == manifest.state:
            found[name] = manifest
            continue
        if manifest.state:
            at.warn("state", f"wins over model.toml, which says {_toml(manifest.state)}", "key")
        states, wrong = plan_states(manifest.onnx, given, manifest.batch_axis)
        for text in wrong:
            at.wrong("state", text, "key")
        if not wrong:
            ends = [*given, *given.values()]
            filed = [
                tuple(as_filed(x) if x.name in ends else x for x in xs) for xs in (manifest.onnx.inputs, manifest.onnx.outputs)
            ]
            found[name] = replace(
                manifest, states=states, onnx=dataclasses.replace(manifest.onnx, inputs=filed[0], outputs=filed[1])
            )
    return found


def _toml(pairs: Mapping[str, str]) -> str:
    return f"{{ {', '.join(f'{a} = {b!r}' for a, b in pairs.items())} }}".replace("'", '"')


def wide_sources(config: Config, manifests: Mapping[str, Manifest]) -> frozenset[str]:
    """Sources that must be decoded as float64: for a model input that float32 cannot fill exactly, and for pipelines without
    a model, whose results are the values as they came (0.1 is to stay 0.1)."""
    remote = {name for name, model in config.model.items() if model.url is not None}
    wide = (p for p in config.pipeline.values() if p.model in remote or _is_wide(p, manifests.get(p.model or "")))
    return frozenset(s for p in wide for s in p.source)


def _is_wide(pipeline: Pipeline, manifest: Manifest | None) -> bool:
    if pipeline.model is None:
        return True
    if manifest is None:
        return False
    others = {name for name, one in pipeline.inputs.items() if one.value is not None} | {s.input for s in manifest.states}
    return any(i.dtype not in EXACT_IN_FLOAT32 for i in manifest.onnx.inputs if i.name not in others)


def plan_model(settings: Model, manifest: Manifest, inputs: Sequence[InputPlan], outputs: tuple[str, ...] | None) -> ModelPlan:
    """One model as `inputs` fill it. `outputs` are those wanted, None for all."""
    states = manifest.states
    if outputs is not None:
        outputs = tuple(dict.fromkeys((*outputs, *(s.output for s in states))))
    return ModelPlan(
        manifest=manifest,
        rows={i.name: i.shape for i in inputs if i.is_row} | {s.input: s.shape for s in states},
        texts={i.name: i.dtype for i in inputs if i.texts},
        constants={i.name: make_constant(i.value, i.shape, i.dtype) for i in inputs if not i.is_row},
        outputs=outputs,
        providers=settings.providers or "auto",
        threads=settings.threads,
        batch_max=settings.batch.max,
        delay_ns=settings.batch.delay,
        run=settings.run,
        provider_options=_options(settings.provider_options),
    )


def _options(given: ProviderOptions | None) -> dict[str, dict[str, bool | int | float | str]]:
    if given is None:
        return {}
    return {name: own for name in KNOWN if (own := getattr(given, name)) is not None}


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
                fix = f"{first.name} {_said(first)}; load it twice under two names"
                Scope(f"pipeline.{other.name}", problems).wrong("model", text + fix)
        outputs: tuple[str, ...] | None = None
        if not any(p.postprocess for p in users):
            outputs = tuple(dict.fromkeys(t for p in users for t in p.output.wanted))
        if settings.labels is not None and all(p.output.type not in with_labels() for p in users):
            Scope(f"model.{name}", problems).warn(
                "labels", 'no pipeline of this model has output = "classify", so nothing shows them'
            )
        seen = {output: shape for p in users for output, shape in p.seen.items()}
        plan = plan_model(settings, with_outputs(manifests[name], seen), first.inputs, outputs)
        fitted, wrong = fit(plan)
        problems += wrong
        keys = sum(p.max_keys for p in users)
        if plan.manifest.states and fitted is not None and fitted.batch_max > keys:
            if settings.batch.max is not None:
                text = f"has no effect beyond {keys}: a model with state takes one row of each key at once"
                Scope(f"model.{name}", problems).warn("batch.max", text)
            plan = replace(plan, batch_max=keys)
        plans[name] = plan
    return plans


def _filling(p: PipelinePlan) -> dict[str, object]:
    return {i.name: (i.shape, None if i.is_row else i.value) for i in p.inputs}


def _said(p: PipelinePlan) -> str:
    return ", ".join(
        f"{i.name} {'x'.join(map(str, i.shape)) or 'one number'}" if i.is_row else f"{i.name} = {i.value}" for i in p.inputs
    )
