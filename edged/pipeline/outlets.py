"""Where the results of a pipeline go, as far as there is room: the outboxes of its brokers, and the next pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edged.pipeline.chain import Chain
from edged.results.publish import Publish


class Outlets:
    """`most` results find room where nothing is published. `on_room` is called, once, when there is room again after `room` said
    that there is none; a next pipeline calls those that it reads by itself."""

    def __init__(self, publishes: Sequence[Publish], chain: Chain, most: int, on_room: Callable[[], None]) -> None:
        self._publishes = publishes
        self._chain = chain
        self._most = most
        self._on_room = on_room

    def room(self) -> int:
        if self._chain.after and self._chain.is_full:
            return 0
        room = min((publish.room() for publish in self._publishes), default=self._most)
        if room <= 0:
            for publish in self._publishes:
                publish.outlet.when_room(self._on_room)
            return 0
        return room

    @property
    def is_stalled(self) -> bool:
        """Whether there is no room since a broker is away."""
        return any(p.outlet.is_stalled and p.room() <= 0 for p in self._publishes)
