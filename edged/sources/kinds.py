"""The table of source types, a row each. A new kind is one file, with its settings, what runs it and its row, and a line here."""

from __future__ import annotations

from edged.config.schema import Source
from edged.sources import ask, modbus, mqtt, replay, serial, simulate
from edged.sources.kind import Kind

KINDS: dict[str, Kind] = {
    "serial": serial.KIND,
    "mqtt": mqtt.KIND,
    "replay": replay.KIND,
    "modbus": modbus.KIND,
    "simulate": simulate.KIND,
    "ask": ask.KIND,
}
"""In the order of the reference page."""


def kind_of(settings: Source) -> Kind:
    """The row of a source's settings."""
    return next(kind for kind in KINDS.values() if type(settings) is kind.settings)
