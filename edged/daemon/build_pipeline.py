"""One pipeline of a plan as its parts: steps, windows, slots, head, what is published. What `Old` has equal is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.clock.alarm import Alarm
from edged.clock.clock import Clock
from edged.clock.tail import Tail
from edged.daemon.assembly import Assembly
from edged.errors import ConfigError
from edged.model.inputs import make_constant, make_filler
from edged.model.runner import Loaded, Model
from edged.mqtt.link import Link
from edged.pipeline.counts import PipelineCounts
from edged.pipeline.gate import Gate
from edged.pipeline.make import Order, make_pipeline
from edged.pipeline.pipeline import Pipeline
from edged.pipeline.preprocess import Postprocess, Preprocess
from edged.pipeline.recurrent import States
from edged.pipeline.slots import Slots
from edged.pipeline.window import WindowStage
from edged.plan.change import is_same_head, is_same_rows, is_same_window
from edged.plan.records import PipelinePlan, Plan, PublishPlan
from edged.plan.results import message_bytes
from edged.plan.steps import make_postprocess, make_preprocess
from edged.results.encode import Encoder, Envelope, envelope_fields, make_encoder
from edged.results.publish import Publish
from edged.results.when import When
from edged.stamp import KeyTable
from edged.system.hang_recorder import Stages
from edged.telemetry import PublishCounts

if TYPE_CHECKING:
    from edged.model.remote.compose import Composer
    from edged.model.remote.runner import RemoteModel
    from edged.pipeline.align.aligner import Aligner


class Steps(NamedTuple):
    """What runs before the model of a pipeline, and behind it."""

    before: Preprocess | None
    behind: Postprocess | None


def make_steps(plan: Plan, loaded: Mapping[str, Loaded], old: Assembly | None = None) -> dict[str, Steps]:
    """The steps of all pipelines but those that `old` has as they are. Runs the files of users. Raises ConfigError."""
    found = {}
    for name, p in plan.pipelines.items():
        model = loaded.get(p.model or "")
        if old is not None and p == old.plan.pipelines.get(name) and model is old.loaded.get(p.model or ""):
            continue
        try:
            found[name] = steps_of(p, model)
        except ValueError as error:  # a file that has changed since the plan was made
            raise ConfigError([f"pipeline.{name}: {error}"]) from error
    return found


class Old(NamedTuple):
    """A pipeline of the plan before, whose keys are the same numbers."""

    plan: PipelinePlan
    pipeline: Pipeline


def number_type(p: PipelinePlan, loaded: Mapping[str, Loaded]) -> str:
    """The element type of results in format "raw": that of the model's output, whatever its sources are decoded as."""
    if p.ask is not None:
        return "float32"
    if p.model is None:
        return p.dtype
    own = {o.name: o.dtype for o in loaded[p.model].report.outputs}
    return "float64" if any(own.get(name) == "float64" for name in p.output.tensors) else "float32"


def build_publish(
    p: PublishPlan,
    pipeline: PipelinePlan,
    dtype: str,
    envelope: Envelope,
    keys: KeyTable | None,
    link: Link,
    counts: PublishCounts,
) -> Publish:
    def topic(key: int) -> bytes:
        parts = keys.names(key) if keys is not None else ()
        return p.topic.fill({**dict(zip(pipeline.keys, parts, strict=True)), "key": "/".join(parts)}).encode()

    settings = p.settings
    return Publish(
        encoder=make_encoder(envelope, pipeline.output.result_fields(), settings.format, settings.fields or (), dtype),
        when=When(p.when, pipeline.max_keys, envelope_fields(envelope)) if p.when is not None else None,
        topic=topic,
        outlet=link,
        counts=counts,
        qos=settings.qos,
        retain=settings.retain,
        deadline=pipeline.deadline_ns or 0,
        size=message_bytes(pipeline, p),
    )


def build_pipeline(
    plan: Plan,
    stages: Stages,
    tail: Tail,
    p: PipelinePlan,
    model: Model | None,
    remote: RemoteModel | None,
    composer: Composer | None,
    steps: Steps,
    publishes: list[Publish],
    answer: Encoder,
    counts: PipelineCounts,
    hold_sources: Callable[[bool], None],
    clock: Clock,
    was: Old | None,
    names: Callable[[int], tuple[str, ...]] | None,
) -> Pipeline:
    """A pipeline, with those parts of the one that `was` whose plans are equal."""
    if was is not None and is_same_window(was.plan, p):
        aligner, window = was.pipeline.aligner, was.pipeline.window
    else:
        aligner = _aligner(p)
        window = WindowStage(p.window.size, p.window.hop, p.window.gap_ns, p.width, p.max_keys, p.dtype) if p.window else None
    wake = remote.wake if remote is not None else _wake(model)
    if was is not None and is_same_rows(was.plan, p) and was.plan.gate == p.gate and was.pipeline.wake == wake:
        slots, states = was.pipeline.slots, was.pipeline.states
    else:
        slots, states = _slots(p, counts), _states(p, names)

    def ring() -> None:
        pipeline.tick()

    alarm = Alarm(stages.wrap(f"pipeline.{p.name}: timer", ring), clock)
    order = Order(
        aligner=aligner,
        window=window,
        preprocess=steps.before,
        fillers={i.name: make_filler(i) for i in p.slot_inputs if i.value is None},
        slots=slots,
        states=states,
        wake=wake,
        postprocess=steps.behind,
        head=was.pipeline.head if was is not None and is_same_head(was.plan, p) else p.output.make_head_of(names),
        fields=p.fields,
        publishes=publishes,
        overflow=p.overflow,
        hold_sources=hold_sources,
        counts=counts,
        clock=clock,
        alarm=alarm.set,
        results=p.results,
        deadline=p.deadline_ns or 0,
        tells_again=all(s in plan.sources and plan.sources[s].has_own_time for s in p.sources),
        answer=answer,
        gate=_gate(p, was),
        priority=p.priority,
        solo=model if remote is None else None,
        settles=remote is not None,
        forgets=(composer.forget,) if composer is not None else (),
        tail=tail,
        stage=partial(stages.wrap, f"model.{p.model}"),
    )
    pipeline = make_pipeline(p.name, order)
    return pipeline


def _aligner(p: PipelinePlan) -> Aligner | None:
    if p.align is None:
        return None
    from edged.pipeline.align.aligner import Aligner

    return Aligner(p.align)


def _gate(p: PipelinePlan, was: Old | None) -> Gate | None:
    """The gate, with what it knows if it is as before."""
    if p.gate is None:
        return None
    return was.pipeline.gate if was is not None and was.plan.gate == p.gate else Gate(p.gate)


def _wake(model: Model | None) -> Callable[[], None] | None:
    return model.wake if model is not None else None


def _slots(p: PipelinePlan, counts: PipelineCounts) -> Slots:
    rows = {i.name: (i.shape, i.dtype) for i in p.slot_inputs if i.is_row}
    slots = Slots(p.slots if p.has_slots else 1, rows, p.overflow, counts.drops, is_by_key=bool(p.states))
    for i in p.inputs:
        if i.is_row and i.value is not None:
            slots.rows[i.name][:] = make_constant(i.value, i.shape, i.dtype)
    return slots


def _states(p: PipelinePlan, names: Callable[[int], tuple[str, ...]] | None) -> States | None:
    ends = [(s.input, s.output, s.shape, s.dtype) for s in p.states]
    starts = {s.input: {key: np.array(row, s.dtype).reshape(s.shape) for key, row in s.starts} for s in p.states if s.starts}

    def start(name: str, key: int) -> NDArray[Any] | None:
        return starts[name].get("/".join(names(key)) if names is not None else "") if name in starts else None

    return States(ends, p.max_keys, p.state_gap_ns, start if starts else None) if ends else None


def steps_of(p: PipelinePlan, loaded: Loaded | None) -> Steps:
    """Raises ValueError."""
    before = make_preprocess(p.steps, p.window_shape, p.dtype, p.picture) if p.steps else None
    return Steps(before, _postprocess(p, loaded))


def _postprocess(p: PipelinePlan, loaded: Loaded | None) -> Postprocess | None:
    if loaded is None or not p.postprocess:
        return None
    own = {s.output for s in p.states}
    outputs = {o.name: (o.shape or (), o.dtype) for o in loaded.report.outputs if o.name not in own}
    return make_postprocess(p.postprocess, outputs)
