"""The running parts of one plan, by name: a record. `build` makes them, `connect` wires them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from edged.behaviours.kept import Kept
from edged.clock.clock import Clock
from edged.clock.tail import Tail
from edged.health.homeassistant.births import Births
from edged.model.records import LoadReport
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.mqtt.link import Link
from edged.mqtt.suspects import Suspects
from edged.pipeline.pipeline import Pipeline
from edged.plan.records import Plan
from edged.records import Block
from edged.results.encode import Envelope
from edged.sources.flow import Flow
from edged.sources.freshness import Freshness
from edged.sources.in_order import let_out
from edged.sources.kind import PortReader, Reader
from edged.sources.kinds import kind_of
from edged.sources.mqtt import MqttSource
from edged.sources.replies import Replies
from edged.sources.router import Router
from edged.stamp import KeyTable, Stamper
from edged.system.hang_recorder import Stages
from edged.telemetry import PublishCounts

if TYPE_CHECKING:
    from edged.behaviours.actor import Actor
    from edged.daemon.hard_samples import HardSamples
    from edged.model.remote.compose import Composer
    from edged.model.remote.runner import RemoteModel
    from edged.spool.spool import Spool

Consumers = list[Callable[[Block], None]]
"""Who takes the blocks of a source. The list stays as long as the source; a reload changes what is in it."""


class Assembly(msgspec.Struct, frozen=True, eq=False):
    """The running parts, by name. `freshness` has the sources of which it can be told that they are stale or frozen."""

    plan: Plan
    run: str
    links: Mapping[str, Link]
    routers: Mapping[str, Router]
    models: Mapping[str, Model]
    loaded: dict[str, Loaded]
    pipelines: Mapping[str, Pipeline]
    publishes: Mapping[str, tuple[PublishCounts, ...]]
    sources: Mapping[str, Reader | MqttSource]
    flows: Mapping[str, Flow]
    keys: Mapping[str, KeyTable]
    freshness: Mapping[str, Freshness]
    consumers: Mapping[str, Consumers]
    envelopes: Mapping[str, Envelope]
    workers: Workers
    stages: Stages
    suspects: Suspects
    tail: Tail
    spool: Spool | None
    ports: Mapping[str, PortReader] = msgspec.field(default_factory=dict)
    remotes: Mapping[str, RemoteModel] = msgspec.field(default_factory=dict)
    composers: Mapping[str, Composer] = msgspec.field(default_factory=dict)
    """By pipeline: what makes requests of its rows."""
    clock: Clock = msgspec.field(default_factory=Clock)
    stampers: Mapping[str, Stamper] = msgspec.field(default_factory=dict)
    leaving: list[Pipeline] = msgspec.field(default_factory=list)
    """Pipelines of an earlier plan that still run out what they had; `release` takes out those that are done."""
    samples: Mapping[str, HardSamples] = msgspec.field(default_factory=dict)
    """By pipeline: who keeps inputs that are worth a look."""
    behaviours: Mapping[str, Actor] = msgspec.field(default_factory=dict)
    kept: Kept = msgspec.field(default_factory=Kept)
    """What of them outlives a restart."""
    births: Births = msgspec.field(default_factory=Births)

    @property
    def reports(self) -> dict[str, LoadReport]:
        return {name: one.report for name, one in self.loaded.items()}

    @property
    def readers(self) -> dict[str, Reader]:
        """The sources that have a task: neither those of a broker nor those that share a port."""
        return {n: s for n, s in self.sources.items() if not isinstance(s, MqttSource) and not self.plan.sources[n].port}

    def let_out(self, name: str) -> None:
        """Hands on what waits to be put in order by its time: nothing more will come, or not to this source."""
        if self.stampers[name].lateness is not None:
            let_out(self.stampers[name], self.sources[name].counts, self.consumers[name], None)

    def amend(self, name: str, report: LoadReport) -> None:
        """Something else is to be said of a model that stays as it is."""
        self.loaded[name] = self.loaded[name]._replace(report=report)
        self.models[name].amend(self.loaded[name])

    def waiting(self, name: str) -> int:
        """Rows and windows of a pipeline that wait for a run."""
        mine = self.pipelines[name]
        return len(mine.slots) + sum(len(p.slots) for p in self.leaving if p.counts is mine.counts)

    @property
    def mqtt_sources(self) -> list[MqttSource]:
        return [s for s in self.sources.values() if isinstance(s, MqttSource)]

    @property
    def replies(self) -> list[Replies]:
        """The requests of all sources that answer some."""
        return [s.replies for s in self.sources.values() if isinstance(s, MqttSource) and s.replies is not None]

    @property
    def has_live_sources(self) -> bool:
        """Whether some source can go on for ever; recordings end."""
        return any(not kind_of(p.settings).ends for p in self.plan.sources.values())

    def drop_caches(self) -> None:
        """Gives up what only saves time and fills again by itself."""
        for link in self.links.values():
            link.drop_caches()
        for router in self.routers.values():
            router.drop_caches()
        for pipeline in self.pipelines.values():
            for publish in pipeline.publishes:
                publish.drop_caches()

    def close(self) -> None:
        """Ends what has a thread or a session."""
        for model in self.models.values():
            model.close()
        for remote in self.remotes.values():
            remote.close()
        self.workers.close(timeout_s=1.0)
