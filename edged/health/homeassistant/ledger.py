"""What Home Assistant was told of, on disk before it is told: so that whatever is taken out of the configuration is taken back,
also if edged was not running meanwhile. Pure, but for `read` and `write`, which wait for the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from edged.system.durable import read_kept, write_kept

NAME = "homeassistant"
MAX_BYTES = 16 << 20
MAX_GONE = 64
"""Components of a device of which Home Assistant is told that they are gone: the newest, as long as the device is there."""


class Place(NamedTuple):
    """Where a device is announced."""

    broker: str
    topic: str


class Told(msgspec.Struct, frozen=True):
    """What was said of a device: its components, each with its platform, those that are gone; of which key it is, and which
    sources say whether that lives."""

    components: dict[str, str]
    gone: dict[str, str] = {}
    source: str = ""
    key: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()

    def now(self, components: Mapping[str, str], judged: tuple[str, ...]) -> Told:
        """The same device with these components, and judged so, from now on."""
        gone = {id: platform for id, platform in (self.gone | self.components).items() if id not in components}
        newest = list(gone.items())[-MAX_GONE:]
        return msgspec.structs.replace(self, components=dict(components), gone=dict(newest), judged=judged)


Ledger = dict[Place, Told]


class _Line(msgspec.Struct):
    broker: str
    topic: str
    told: Told


def encoded(ledger: Mapping[Place, Told]) -> bytes:
    return msgspec.json.encode([_Line(*place, told) for place, told in ledger.items()])


def decoded(data: bytes) -> Ledger:
    return {Place(one.broker, one.topic): one.told for one in msgspec.json.decode(data, type=list[_Line])}


def read(folder: Path) -> Ledger:
    """What an earlier run left."""
    return read_kept(folder / NAME, MAX_BYTES, decoded, lost="which entities to remove from Home Assistant") or {}


def write(folder: Path, data: bytes) -> None:
    """For the next run; what fails is logged."""
    lost = "what is removed while edged is not running stays in Home Assistant"
    write_kept(folder / NAME, data, "homeassistant_not_saved", lost)
