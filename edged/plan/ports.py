"""Plans the ports that several sources share, and what must hold between a port and its sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edged.config.checks.source import binary_frames
from edged.config.ports import is_contradicted, shared_port
from edged.config.schema import AnySource, Config, Frame, ModbusSource, SerialSource
from edged.config.words import rate_said
from edged.plan.records import PortPlan, SourcePlan
from edged.plan.scope import Scope


def plan_ports(config: Config, sources: Mapping[str, SourcePlan]) -> dict[str, PortPlan]:
    """Those that somebody reads."""
    plans = {}
    for name, settings in config.port.items():
        members = tuple(source for source in sources.values() if source.port == name)
        if members:
            plans[name] = PortPlan(name, settings, members)
    return plans


def check_shared(at: Scope, own: AnySource, source: Any, config: Config) -> None:
    """What is wrong with a source together with the port that it shares. `source` has what the port says."""
    name = shared_port(own)
    if not name:
        return
    port = config.port[name]
    if isinstance(source, ModbusSource):
        for key, usual in (("frame", Frame()), ("send", ()), ("bytesize", 8), ("flow", "none")):
            if getattr(port, key) != usual:
                text = f"[port.{name}] says {key}, and Modbus brings its own; remove it there"
                at.wrong("port", text)
        others = [n for n, s in config.source.items() if shared_port(s) == name and not isinstance(s, ModbusSource)]
        if others:
            at.wrong("port", f"[port.{name}] is read by source.{others[0]} too, which is of another type: a bus is asked by one")
    if not isinstance(source, SerialSource):
        return
    for _, text, *_ in binary_frames(source, {}):
        at.wrong("port", f'[port.{name}] has frames of type "{port.frame.type}": {text}')
    if source.decode.header:
        at.wrong("decode.header", f"has no effect: the lines of [port.{name}] are those of several sources; name the columns")
    if is_contradicted(own, port.send, True):
        assert own.rate is not None
        at.wrong("rate", f"{rate_said(own.rate)} contradicts every in send of [port.{name}]; remove rate")
