"""What a source has from its port and from the pace at which it is asked.

A source whose `port` is the name of a `[port.NAME]` says nothing of the line itself; `settled` makes it as if it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edged.config.parsers.paths import is_port_name
from edged.config.schema import AnySource, FieldSpec, ModbusSource, Port, Send, SerialSource
from edged.notation.units import S

OF_PORT = ("baudrate", "bytesize", "parity", "stopbits", "flow", "dtr", "rts", "rs485", "frame", "checksum", "max_bytes", "send")
"""Keys that stand in `[port.NAME]` where several sources share it."""
OF_BUS = ("baudrate", "parity", "stopbits", "rs485")
"""Those of them that a Modbus source has."""
CLOSE = 0.01
"""So close two rates are one: what is asked every 333 ms comes 3 times per second."""


def shared_port(source: AnySource) -> str:
    """The name of the `[port.NAME]` that it reads; empty where it has a port of its own, or none."""
    port = getattr(source, "port", None)
    return str(port) if is_port_name(port) else ""


def settled(source: AnySource, ports: Mapping[str, Port]) -> Any:
    """The source with what its port says, and with the rate that follows from what is asked."""
    changes: dict[str, Any] = {}
    name = shared_port(source)
    port = ports.get(name)
    if port is not None:
        keys = OF_BUS if isinstance(source, ModbusSource) else OF_PORT
        changes = {key: getattr(port, key) for key in ("port", *keys)}
    if source.rate is None:
        changes["rate"] = rate_of(source, changes.get("send"), bool(name))
    return msgspec.structs.replace(source, **changes) if changes else source


def rate_of(source: AnySource, send: Sequence[Send] | None = None, is_shared: bool = False) -> float | None:
    """Samples per second of one key, where edged sets the pace; None where the sensor does. `send` is that of its port."""
    if isinstance(source, ModbusSource):
        return S / source.every
    if not isinstance(source, SerialSource):
        return None
    paces = [S / one.every for one in (source.send if send is None else send) if one.every]
    if not paces:
        return None
    return min(paces) if is_shared or source.key else sum(paces)


def is_contradicted(source: AnySource, send: Sequence[Send] | None = None, is_shared: bool = False) -> bool:
    """Whether `rate` is another than what is asked for. What begins with an answer may be a stream at its own rate."""
    asked = rate_of(source, send, is_shared)
    if asked is None or source.rate is None or abs(source.rate / asked - 1) <= CLOSE:
        return False
    sends = (source.send if send is None else send) if isinstance(source, SerialSource) else ()
    return not any(one.every and one.answer for one in sends)


def sample_fields(source: AnySource, key_fields: Sequence[str]) -> Any:
    """`decode` with the address of the unit in front, which a sample of Modbus begins with."""
    decode = source.decode
    if decode is None or decode.format != "modbus":
        return decode
    name = "address" if "address" in key_fields else "_"
    return msgspec.structs.replace(decode, fields=(FieldSpec(name=name, dtype="uint8"), *decode.fields))
