"""The whole file."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edged.config.schema.behaviour import Behaviour
from edged.config.schema.broker import Broker
from edged.config.schema.device import Device, Fleet, Health, HomeAssistant, Http, Log, Memory, Spool
from edged.config.schema.keys import Key, Table
from edged.config.schema.model import Model
from edged.config.schema.pipeline import Pipeline
from edged.config.schema.source import AnySource, Port


class Config(Table, frozen=True, kw_only=True):
    """The whole file."""

    device: Annotated[Device, Key("who this device is")] = Device()
    memory: Annotated[Memory, Key("how much memory edged may use")] = Memory()
    log: Annotated[Log, Key("what is written, and how")] = Log()
    spool: Annotated[Spool, Key("results on disk while their broker is away")] = Spool()
    health: Annotated[Health, Key("what edged says about itself")] = Health()
    http: Annotated[Http, Key("what edged shows over HTTP")] = Http()
    homeassistant: Annotated[HomeAssistant, Key("results in Home Assistant")] = HomeAssistant()
    fleet: Annotated[Fleet | None, Key("models that come over MQTT", default="off")] = None
    broker: Annotated[dict[str, Broker], Key("connections")] = msgspec.field(default_factory=dict)
    port: Annotated[dict[str, Port], Key("serial ports that several sources share")] = msgspec.field(default_factory=dict)
    source: Annotated[dict[str, AnySource], Key("streams of samples")] = msgspec.field(default_factory=dict)
    model: Annotated[dict[str, Model], Key("models")] = msgspec.field(default_factory=dict)
    pipeline: Annotated[dict[str, Pipeline], Key("streams to a model to topics")] = msgspec.field(default_factory=dict)
    behaviour: Annotated[dict[str, Behaviour], Key("coroutines of your own")] = msgspec.field(default_factory=dict)
