"""A plan: what will run, what is wired to what, and what every byte is for.

Frozen values, so that two plans can be compared part by part: a unit whose plan is equal need not be touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from edged.behaviours.plan import BehaviourPlan
from edged.config.schema import AnySource, Port, Publish, Step
from edged.decode.plan import DecodePlan
from edged.decode.resize import View
from edged.decode.where import Condition as Where
from edged.model.gpu.gpu import Gpu
from edged.model.inputs import InputPlan
from edged.model.records import ModelPlan
from edged.model.recurrent import StatePlan
from edged.model.remote.records import AskPlan, RemotePlan
from edged.mqtt.settings import LinkSettings
from edged.notation.values import Function, Secret
from edged.pipeline.align import AlignPlan
from edged.pipeline.gate import GatePlan
from edged.records import Cap, Field, RejectsPlan
from edged.results.entities import Entity
from edged.results.fields import About
from edged.results.heads.head import OutputPlan
from edged.results.when import Condition, WhenPlan
from edged.spool.settings import SpoolSettings
from edged.topics import Template, TopicFilter


class Machine(msgspec.Struct, frozen=True):
    """What the plan must know of the machine: its name, its memory, and what this process already uses (bytes); the folder
    for what must outlive a restart, and the bytes that are free where the spool is to be; the limit of its control group, None
    where the kernel enforces none; its GPU, None where there is none or nobody asked; its processors."""

    host: str
    memory: int
    base: int
    state_dir: Path = Path("/var/lib/edged")
    disk_free: int = 0
    cgroup: int | None = None
    gpu: Gpu | None = None
    cores: int = 1


class SourcePlan(msgspec.Struct, frozen=True):
    """One source. `filters` are its subscriptions with their identifiers, `replies` where answers to requests may go; `key_parts`
    says where each part of a key comes from (a capture of the topic or a key field of the payload, by index).

    Sources that a pipeline joins by key share `key_group`: their key ids mean the same keys, and `max_keys` is that of the
    whole group. It is 1 without a key.
    """

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
    frozen_ns: int | None = None
    learns_pace: bool = False
    """Whether only its own regularity tells how long it may be silent."""
    replies: tuple[TopicFilter, ...] = ()
    every_ns: int | None = None
    """Of each key, the first sample of each such interval is taken."""
    capture_where: tuple[tuple[int, Where], ...] = ()
    """What captures of the topic must be, by index; what `where` says of the payload is in `decode`."""
    rejects: RejectsPlan | None = None
    lateness_ns: int = 0
    """So long samples wait to be put in order by their time; and how many may, at most."""
    most_waiting: int = 0
    port: str = ""
    """The name of the `[port.NAME]` that it shares; empty where it has one of its own, or none."""
    known_keys: tuple[tuple[str, ...], ...] = ()
    """Keys that the configuration names: they are expected, and offline until they are heard."""

    @property
    def width(self) -> int:
        return self.fields[-1].stop if self.fields else 0

    @property
    def has_own_time(self) -> bool:
        return self.decode is not None and self.decode.time_format is not None

    @property
    def thins_early(self) -> bool:
        """Whether the topic alone tells which messages to leave out."""
        is_of_topic = bool(self.filters) and all(kind == "capture" for kind, _ in self.key_parts)
        is_whole = self.decode is not None and not self.decode.where and not self.decode.is_named
        return self.every_ns is not None and not self.lateness_ns and is_of_topic and is_whole


class KeyTablePlan(msgspec.Struct, frozen=True):
    """The table of sensors of a source: the name of its file, and the keys that have a row."""

    name: str
    keys: frozenset[str]


class PortPlan(msgspec.Struct, frozen=True):
    """A port that several sources share."""

    name: str
    settings: Port
    members: tuple[SourcePlan, ...]


class Stream(msgspec.Struct, frozen=True):
    """What a pipeline reads: the samples of a source, or the results of a pipeline before it.

    `roots` are the sources behind it. `rate` samples per second of one key, said by the key `rate_key` of the file.
    `is_lossless`: it waits at its origin as long as it must. `unheld` names what cannot be made to wait at all and says what
    to do about it; empty if it can. `line` are the streams from its source to it, each of which sets the pace of the next; empty
    on a regular grid.
    """

    name: str
    roots: tuple[str, ...]
    fields: tuple[Field, ...]
    dtype: str
    rate: float | None
    rate_key: str
    has_own_time: bool
    on_bad: str
    stale_ns: int | None
    key_names: tuple[str, ...]
    max_keys: int
    key_group: str
    is_acknowledged: bool
    """Whether its broker is told of each sample that it has been dealt with."""
    is_lossless: bool
    unheld: str
    line: tuple[str, ...] = ()
    delay_ns: int = 0
    """So long its samples may wait to be put in order, before anybody has them."""

    @property
    def width(self) -> int:
        return self.fields[-1].stop if self.fields else 0


class WindowPlan(msgspec.Struct, frozen=True):
    size: int
    hop: int
    gap_ns: int | None


class PublishPlan(msgspec.Struct, frozen=True):
    """One `publish` entry, its topic parsed and its broker named; `settings` holds the rest as configured."""

    broker: str
    topic: Template
    when: WhenPlan | None
    settings: Publish


class RootPlan(msgspec.Struct, frozen=True):
    """A source whose inputs are kept for a while: its name and that of its port, if that is shared; the kind of recordings of it;
    how many of its samples a result is made of; `max_bytes` of what came lately. `key_at`: which captures of a topic name the
    sensor, each with the part of the key that it is; None where only the data do."""

    source: str
    port: str
    kind: str
    rows: int
    max_bytes: int
    key_at: tuple[tuple[int, int], ...] | None = ()


class SamplesPlan(msgspec.Struct, frozen=True):
    """Which inputs are worth a look, and where they go: published to `topic` (not empty), or kept in `folder`, of at most
    `max_bytes`. `labels` is what people say of those that are kept: a filter, with the identifier of the subscription."""

    when: Condition | None
    limits: tuple[Cap, ...]
    audit: Cap | None
    roots: tuple[RootPlan, ...]
    broker: str | None
    topic: str = ""
    folder: Path = Path()
    max_bytes: int = 0
    labels: tuple[int, TopicFilter] | None = None

    @property
    def recent_bytes(self) -> int:
        return sum(root.max_bytes for root in self.roots)


class PipelinePlan(msgspec.Struct, frozen=True):
    """One pipeline. `sources` are the streams that it reads, `roots` the sources behind them. `fields` and `width` describe a
    row after `align`; `steps` are what runs before the model, `inputs` how their result fills it. `keys` names the parts of a
    key, `max_keys` is 1 without one. `rate` results per second of one key are to be expected (None: nobody knows).

    `results` are the fields that the next pipeline of a chain sees, each with its path in the body of a result.
    `view` is what it sees of pictures, `columns` where that lies in the rows of its source.
    `step_bytes` is what the steps keep: their constants, and one row between two of them. `states` are what the model remembers
    of each key; without a window a silence of `state_gap_ns` ends that.
    """

    name: str
    sources: tuple[str, ...]
    roots: tuple[str, ...]
    align: AlignPlan | None
    window: WindowPlan | None
    rate: float | None
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
    results: tuple[tuple[Field, tuple[str, ...]], ...] = ()
    deadline_ns: int | None = None
    step_bytes: int = 0
    view: View | None = None
    columns: tuple[int, int] | None = None
    states: tuple[StatePlan, ...] = ()
    state_gap_ns: int | None = None
    gate: GatePlan | None = None
    priority: int = 0
    ask: AskPlan | None = None
    """What goes to a remote model; `model` is then the local one that answers for it, or none."""
    seen: Mapping[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Rows of outputs that the file of its model leaves open, as a trial saw them."""
    acks: tuple[tuple[int, TopicFilter], ...] = ()
    """Where alarms are acknowledged, with the identifiers of the subscriptions."""
    about: tuple[tuple[str, About], ...] = ()
    """What people call its keys."""
    samples: SamplesPlan | None = None
    code: tuple[str, ...] = ()
    """What tells the files of users' functions from another state of them."""

    @property
    def width(self) -> int:
        return self.fields[-1].stop

    @property
    def keeps_no_receipts(self) -> bool:
        """Whether samples are settled before the results that they are part of."""
        return self.window is not None or self.align is not None

    @property
    def has_slots(self) -> bool:
        """Whether rows and windows may have to wait: for the model, or for what the gate says of them."""
        return self.model is not None or self.gate is not None or self.ask is not None

    @property
    def slot_inputs(self) -> tuple[InputPlan, ...]:
        """What a slot holds: the inputs of the model that runs here, and what goes to one elsewhere."""
        return self.inputs if self.ask is None else (*self.inputs, *self.ask.inputs)

    @property
    def picture(self) -> tuple[int, ...]:
        """Height, width and colours of a row that is a picture, else ()."""
        return self.view.shape if self.view is not None else ()

    @property
    def window_shape(self) -> tuple[int, ...]:
        return (self.window.size, self.width) if self.window else (self.width,)


class MemoryLine(msgspec.Struct, frozen=True):
    """One consumer of memory: `what`, its bytes, and how they were reckoned. `key` is the setting that changes it;
    `is_of_models` marks what is there once all models are loaded."""

    what: str
    bytes: int
    how: str
    key: str = ""
    is_of_models: bool = False


class GpuPlan(msgspec.Struct, frozen=True):
    """What the models may take of a GPU's memory. `is_shared`: it is the machine's own."""

    name: str
    lines: tuple[MemoryLine, ...]
    budget: int
    is_shared: bool

    @property
    def planned_bytes(self) -> int:
        return sum(line.bytes for line in self.lines)


class HttpPlan(msgspec.Struct, frozen=True):
    """Where to listen (host, port), and what a request must bring."""

    address: tuple[str, int]
    token: Secret | None = None


class FleetPlan(msgspec.Struct, frozen=True):
    """How models come over MQTT: a connection of their own to the broker, the group's `topic`, and what may be fetched from
    where. `configuration`: whether configurations come too, whose health is watched for `guard_ns`."""

    link: LinkSettings
    topic: str
    keys: Path
    sources: tuple[str, ...]
    ca: Path | None
    bandwidth: int
    max_bytes: int
    configuration: bool = False
    guard_ns: int = 0


class ShownPlan(msgspec.Struct, frozen=True):
    """What Home Assistant shows of a pipeline: `entities` of the messages of one entry. `source` is the keyed source whose keys
    are devices, empty where there are none; `roots` are those whose silence makes it unavailable, and so do `expire_after_s`
    seconds without a message."""

    publish: PublishPlan
    keys: tuple[str, ...]
    key_group: str
    source: str
    roots: tuple[str, ...]
    entities: tuple[Entity, ...]
    name: str
    icon: str | None
    expire_after_s: int | None
    about: tuple[tuple[str, About], ...]

    def called(self, entity: Entity) -> str:
        """The name of an entity."""
        return " ".join(filter(None, (self.name, entity.name)))


class HomeAssistantPlan(msgspec.Struct, frozen=True):
    """What is announced, below `prefix`: by pipeline what is shown of it. `births` say when Home Assistant starts;
    `most_devices` of keys are announced."""

    broker: str
    prefix: str
    births: tuple[tuple[int, TopicFilter], ...]
    shown: Mapping[str, ShownPlan]
    most_devices: int


class Plan(msgspec.Struct, frozen=True, eq=False):
    """The whole. `memory` lists every consumer of at most `budget` bytes; `cgroup` is what the kernel enforces, if anything.
    `workers` threads run models on the CPU, of which there are `cores`."""

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
    spool: SpoolSettings | None = None
    cgroup: int | None = None
    state_dir: Path = Path("/var/lib/edged")
    gpu: GpuPlan | None = None
    ports: Mapping[str, PortPlan] = msgspec.field(default_factory=dict)
    key_tables: Mapping[str, KeyTablePlan] = msgspec.field(default_factory=dict)
    """By source."""
    http: HttpPlan | None = None
    remotes: Mapping[str, RemotePlan] = msgspec.field(default_factory=dict)
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    fleet: FleetPlan | None = None
    homeassistant: HomeAssistantPlan | None = None
    behaviours: Mapping[str, BehaviourPlan] = msgspec.field(default_factory=dict)
    workers: int = 1
    cores: int = 1

    @property
    def planned_bytes(self) -> int:
        return sum(line.bytes for line in self.memory)
