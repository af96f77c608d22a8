"""Keeps a source running: when what it reads from goes away, it is started again without an end, with back-off."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from edged.clock.backoff import Backoff
from edged.clock.clock import Clock
from edged.errors import Retryable

P_contra = TypeVar("P_contra", contravariant=True)
"""Who takes the blocks: of a port, by the name of the source."""
GOOD_SERVICE_S = 1.0
"""A source that ran so long starts its back-off over."""


class Source(Protocol[P_contra]):
    """A stream of blocks, or a port of several, with a task of its own. Its `state` and `reason` for health are its own."""

    name: str

    async def run(self, push: P_contra, /) -> None:
        """Reads for ever; returns only at the end of a recording. Raises `Retryable` when the outside is not there."""


async def supervise(source: Source[P_contra], push: P_contra, clock: Clock) -> None:
    """Runs `source` until it is cancelled or its recording ends. Other exceptions are bugs and travel on."""
    backoff = Backoff(first_s=0.5, cap_s=2.0, floor_s=0.1)
    while True:
        started = clock.now()
        try:
            await source.run(push)
        except Retryable:
            if clock.now() - started > GOOD_SERVICE_S * 1e9:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())
        else:
            return
