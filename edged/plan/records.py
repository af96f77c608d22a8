"""A plan: what will run, what is wired to what, and what every byte is for.

Frozen values, so that two plans can be compared part by part: a unit whose plan is equal need not be touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edged.align import AlignPlan
from edged.config.schema import AnySource, Publish, Step
from edged.config.values import Function
from edged.decode.plan import DecodePlan
from edged.inputs import InputPlan
from edged.model.records import ModelPlan
from edged.records import Field
from edged.shape import OutputPlan
from edged.topics import Template, TopicFilter
from edged.transport.mqtt_settings import LinkSettings
from edged.when import WhenPlan


@dataclass(frozen=True, slots=True)
class Machine:
    """What the plan must know of the machine: its name, its memory, and what this process already uses (bytes)."""

    host: str
    memory: int
    base: int


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """One source. `filters` are its subscriptions with their identifiers; `key_parts` says where each part of a key comes
    from (a capture of the topic or a key field of the payload, by index). Sources that are joined by key share `key_group`."""

    name: str
    settings: AnySource
    decode: DecodePlan | None
    fields: tuple[Field, ...]
    dtype: str
    rate: float | None
    broker: str | None
    filters: tuple[tuple[int, TopicFilter], ...]
    key_names: tuple[str, ...]
    key_parts: tuple[tuple[str, int], ...]
    max_keys: int
    key_group: str
    stale_ns: int | None

    @property
    def width(self) -> int:
        return self.fields[-1].stop if self.fields else 0

    @property
    def has_own_time(self) -> bool:
        return self.decode is not None and self.decode.time_format is not None

    @property
    def is_mqtt(self) -> bool:
        return self.broker is not None


@dataclass(frozen=True, slots=True)
class WindowPlan:
    size: int
    hop: int
    gap_ns: int | None


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """One `publish` entry, its topic parsed and its broker named; `settings` holds the rest as configured."""

    broker: str
    topic: Template
    when: WhenPlan | None
    settings: Publish


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """One pipeline. `fields` and `width` describe a row after `align`; `steps` are what runs before the model.

    `row_shape` is the shape of one window (or row) after `steps`; `inputs` how it fills the model's inputs; `slot_shapes`
    the arrays of a slot by input. `keys` names what a key is made of, `max_keys` is 1 without one.
    """

    name: str
    sources: tuple[str, ...]
    align: AlignPlan | None
    window: WindowPlan | None
    fields: tuple[Field, ...]
    dtype: str
    keys: tuple[str, ...]
    max_keys: int
    key_group: str
    steps: tuple[Step, ...]
    postprocess: tuple[Function, ...]
    model: str | None
    inputs: tuple[InputPlan, ...]
    output: OutputPlan
    publishes: tuple[PublishPlan, ...]
    slots: int
    overflow: str

    @property
    def width(self) -> int:
        return self.fields[-1].stop

    @property
    def window_shape(self) -> tuple[int, ...]:
        return (self.window.size, self.width) if self.window else (self.width,)


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """One consumer of memory: `what`, its bytes, and how they were reckoned. `key` is the setting that changes it."""

    what: str
    bytes: int
    how: str
    key: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The whole. `memory` lists every consumer; `peak_reserve` is what a start or swap needs on top for a while."""

    device: str
    base_topic: str
    health_interval_ns: int
    health_brokers: tuple[str, ...]
    links: Mapping[str, LinkSettings]
    sources: Mapping[str, SourcePlan]
    models: Mapping[str, ModelPlan]
    pipelines: Mapping[str, PipelinePlan]
    memory: tuple[MemoryLine, ...]
    budget: int

    @property
    def planned_bytes(self) -> int:
        return sum(line.bytes for line in self.memory)


Shapes = Mapping[str, tuple[tuple[int, ...], Any]]
