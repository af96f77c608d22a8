"""The chain: results of one pipeline are the samples of the next ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from edged.pipeline.counts import Guard
from edged.pipeline.fan_out import fan_out
from edged.pipeline.wiring import Next, Wiring
from edged.records import Block, Field, Slot
from edged.results.fields import value_at


class Chain:
    """`results`: which values of a body are the numbers of a row. While a next pipeline is full it takes none."""

    def __init__(self, results: Sequence[tuple[Field, tuple[str, ...]]], guard: Guard) -> None:
        self.after: Sequence[Next] = ()
        self.followers: Sequence[Callable[[Block], object]] = ()
        self._results = results
        self._guard = guard
        self._restarts: set[int] = set()

    def connect(self, wiring: Wiring) -> None:
        self.followers, self.after = wiring.followers, wiring.after

    def restart(self, key: int) -> None:
        """The key means another sensor from here on, and for those who take what is made of its samples too."""
        if self.followers:
            self._restarts.add(key)

    def take_over(self, old: Chain) -> None:
        self._restarts |= old._restarts

    @property
    def is_full(self) -> bool:
        """Whether a next pipeline can take no results now."""
        return any(pipeline.is_full for pipeline in self.after)

    @property
    def is_stalled(self) -> bool:
        return any(pipeline.is_full and pipeline.is_stalled for pipeline in self.after)

    def pass_on(self, slots: Sequence[Slot], bodies: Sequence[dict[str, Any] | None]) -> None:
        """Results as samples, each with the receipt of its own input. Answers are for who asked."""
        made = [(s, body) for s, body in zip(slots, bodies, strict=True) if body is not None and not s.receipt.is_request]
        for arrival, group in groupby(made, lambda one: one[0].arrival):
            self._pass_on_block(list(group), arrival)

    def _pass_on_block(self, made: Sequence[tuple[Slot, dict[str, Any]]], arrival: int) -> None:
        values = np.empty((len(made), self._results[-1][0].stop))
        for row, (_, body) in zip(values, made, strict=True):
            for field, path in self._results:
                row[field.start : field.stop] = np.ravel(value_at(body, path))
        block = Block(
            values,
            np.array([slot.time for slot, _ in made], np.int64),
            0,
            arrival,
            np.array([slot.key for slot, _ in made], np.int32),
            [slot.receipt for slot, _ in made],
            np.array([slot.degraded for slot, _ in made], np.bool_),
            tuple(self._restarts),
            [slot.carried for slot, _ in made] if any(slot.carried is not None for slot, _ in made) else None,
        )
        self._restarts.clear()
        fan_out(self.followers, self._guard.lose, block)
