"""A row on its way to a remote model, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from edged.model.records import Feeder
from edged.model.remote.compose import Composer
from edged.model.remote.records import Answer
from edged.records import Slot

Rows = dict[str, NDArray[Any]]


class Asks(Feeder, Protocol):
    """A pipeline with a remote model."""

    name: str

    def blank(self, count: int) -> Rows:
        """Arrays for so many rows, to `gather` into."""

    def partial(self, slot: Slot, text: str) -> None:
        """The text so far."""


class Taker(msgspec.Struct, frozen=True, eq=False):
    """A pipeline with what makes requests of its rows."""

    feeder: Asks
    composer: Composer


class Row(msgspec.Struct, eq=False):
    """A row under way. `outcome`: what its answer is, or why there is none; None while it is asked for. `is_spilt`: the fallback
    has it now."""

    taker: Taker
    slot: Slot
    rows: Rows
    began: int
    outcome: Answer | Exception | None = None
    is_spilt: bool = False

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """By name, without the axis of rows."""
        return {name: x[0] for name, x in self.rows.items()}
