"""What the spool needs to know. Pure, so that a plan can hold it and compare it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edged.notation.units import MIB

MEMORY_BYTES = 3 * MIB
"""Held at worst: messages waiting to be written, the same on their way to disk, and a file being replayed."""
LARGEST_DEFAULT = 256 * MIB
HOLDING = ".held"
"""Ends the name of the log that holds results back; no broker's name has a dot."""


class SpoolSettings(msgspec.Struct, frozen=True):
    """`[spool]`, resolved. `replay_rate`: results per second and broker, None for what live results leave free.
    `receive_maximum`: the smallest of the links', since inputs wait for their results to be on disk."""

    path: Path
    max_bytes: int
    is_always: bool = False
    drops_newest: bool = False
    is_strict: bool = False
    replay_rate: float | None = None
    receive_maximum: int = 64


def default_max_bytes(free: int) -> int:
    """A tenth of the free disk, at most 256 MiB."""
    return min(free // 10, LARGEST_DEFAULT)
