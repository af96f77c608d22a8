"""The table of source types: where the row of each is. A new kind is one file, with its settings, what runs it and its row, and
a line here."""

from __future__ import annotations

from typing import Any

from edged.late import Late
from edged.sources.kind import Kind

KINDS: dict[str, Late[Kind]] = {
    "serial": Late("edged.sources.serial:KIND"),
    "mqtt": Late("edged.sources.mqtt:KIND"),
    "replay": Late("edged.sources.replay:KIND"),
    "modbus": Late("edged.sources.modbus:KIND"),
    "simulate": Late("edged.sources.simulate:KIND"),
    "ask": Late("edged.sources.ask:KIND"),
}
"""In the order of the reference page."""


def kind_of(settings: Any) -> Kind:
    """The row of a source's settings."""
    return KINDS[settings.type].get()
