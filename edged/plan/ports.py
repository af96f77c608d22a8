"""Plans the ports that several sources share, and what must hold between a port and its sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edged.config.checks.source import binary_frames
from edged.config.ports import is_contradicted, shared_port
from edged.config.schema import AnySource, Config, Frame, ModbusSource, SerialSource
from edged.notation.units import S
from edged.notation.words import duration, rate_said
from edged.plan.records import PortPlan, SourcePlan
from edged.plan.scope import Scope


def plan_ports(config: Config, sources: Mapping[str, SourcePlan]) -> dict[str, PortPlan]:
    """Those that somebody reads, or writes to."""
    plans = {}
    written = {name for b in config.behaviour.values() for name in (*b.write, *(one.write for one in b.on_end))}
    for name, settings in config.port.items():
        members = tuple(source for source in sources.values() if source.port == name)
        if members or name in written:
            plans[name] = PortPlan(name, settings, members)
    return plans


def check_bus(at: Scope, source: ModbusSource) -> None:
    """Whether the line can carry a round in the time that is given to it."""
    from edged.sources.rtu import character_s, poll_of

    poll = poll_of(source.decode.fields)
    needed_ns = poll.bus_bytes() * character_s(source) * len(source.address) * S
    if needed_ns <= source.every:
        return
    registers = sum(request.count for request in poll.requests)
    units = f"{len(source.address)} unit{'s' if len(source.address) > 1 else ''}"
    text = f"{registers} registers of {units} at {source.baudrate} baud take about {_rounded(needed_ns)} a round"
    enough = _rounded(1.2 * needed_ns)
    at.wrong("every", f'{text}, found "{duration(source.every)}"; write "{enough}" or a higher baudrate')


def _rounded(ns: float) -> str:
    """Two digits of it."""
    digits = 10 ** (len(str(int(ns))) - 2)
    return duration(math.ceil(ns / digits - 0.4) * digits)


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
