"""What health reads of the running parts, in words of its own: who runs them hands them in.

All of it is looked at and none of it is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from edged.model.records import LoadReport
from edged.model.runner import Model
from edged.mqtt.link import Link
from edged.pipeline.pipeline import Pipeline
from edged.plan.records import Plan
from edged.results.encode import Envelope
from edged.sources.counts import SourceCounts
from edged.sources.freshness import Freshness
from edged.sources.mqtt import MqttSource
from edged.sources.router import Router
from edged.stamp import KeyTable, Stamper
from edged.telemetry import PublishCounts

if TYPE_CHECKING:
    from edged.behaviours.actor import Actor
    from edged.health.homeassistant.births import Births
    from edged.model.remote.runner import RemoteModel
    from edged.spool.spool import Spool


class Reader(Protocol):
    """A source with a task of its own, and a state."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def counts(self) -> SourceCounts: ...


class Sampling(Protocol):
    """Who keeps inputs that are worth a look."""

    def facts(self) -> dict[str, Any]: ...


class Running(Protocol):
    """The running parts, by name. `freshness` has the sources of which it can be told that they are stale or frozen."""

    @property
    def plan(self) -> Plan: ...
    @property
    def run(self) -> str: ...
    @property
    def links(self) -> Mapping[str, Link]: ...
    @property
    def routers(self) -> Mapping[str, Router]: ...
    @property
    def models(self) -> Mapping[str, Model]: ...
    @property
    def remotes(self) -> Mapping[str, RemoteModel]: ...
    @property
    def reports(self) -> Mapping[str, LoadReport]: ...
    @property
    def pipelines(self) -> Mapping[str, Pipeline]: ...
    @property
    def publishes(self) -> Mapping[str, tuple[PublishCounts, ...]]: ...
    @property
    def sources(self) -> Mapping[str, Reader | MqttSource]: ...
    @property
    def stampers(self) -> Mapping[str, Stamper]: ...
    @property
    def ports(self) -> Mapping[str, Reader]: ...
    @property
    def keys(self) -> Mapping[str, KeyTable]: ...
    @property
    def freshness(self) -> Mapping[str, Freshness]: ...
    @property
    def envelopes(self) -> Mapping[str, Envelope]: ...
    @property
    def samples(self) -> Mapping[str, Sampling]: ...
    @property
    def behaviours(self) -> Mapping[str, Actor]: ...
    @property
    def births(self) -> Births: ...
    @property
    def spool(self) -> Spool | None: ...
    def waiting(self, name: str) -> int:
        """Rows and windows of a pipeline that wait for a run."""
        ...


class Memory(Protocol):
    """Who looks after this process's memory. `look` does what is to be done and returns what is news of it."""

    def look(self, now_s: float) -> dict[str, Any] | None: ...
    def read(self) -> int: ...
    def facts(self) -> dict[str, Any]: ...
