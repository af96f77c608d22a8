"""Watches models after a swap, and says when one is to be left for the version before (`guard` of a model)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edged.clock.clock import Clock
from edged.config.schema import Guard
from edged.daemon.assembly import Assembly
from edged.model.guard import Pace, Tally, worse

LOOK_S = 0.25

Ended = Callable[[str, str], Awaitable[None]]


def tally(assembly: Assembly, name: str) -> Tally:
    """What a model and the pipelines that use it have counted."""
    model = assembly.models.get(name)
    if model is None:
        return Tally()
    pipelines = [p for n, p in assembly.pipelines.items() if assembly.plan.pipelines[n].model == name]
    not_finite = sum(p.counts.drops.by_reason.get("not_finite", 0) + p.counts.hollow for p in pipelines)
    counts = model.counts
    return Tally(counts.rows, counts.failed, not_finite, counts.time.sum, counts.runs, tuple(counts.time.counts))


class Guards:
    """`assembly` gives what runs; `on_end(model, why)` is told when a watch is over, with why it goes back, or an empty text."""

    def __init__(self, assembly: Callable[[], Assembly], clock: Clock, on_end: Ended) -> None:
        self._assembly = assembly
        self._clock = clock
        self._on_end = on_end
        self._watches: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._watches

    def begin(self, name: str, guard: Guard, before: Pace) -> None:
        """A model was swapped. `before`: the pace of the version before."""
        self.end(name)
        watch = self._watch(name, guard, before)
        self._watches[name] = asyncio.get_running_loop().create_task(watch, name=f"guard:{name}")

    def end(self, name: str) -> None:
        """Another version runs, or none: nothing is to be said of this one."""
        watch = self._watches.pop(name, None)
        if watch is not None:
            watch.cancel()

    async def close(self) -> None:
        watches = list(self._watches.values())
        for name in list(self._watches):
            self.end(name)
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, name: str, guard: Guard, before: Pace) -> None:
        start, until = tally(self._assembly(), name), self._clock.now() + guard.for_
        why = ""
        while not why and self._clock.now() < until:
            await asyncio.sleep(LOOK_S)
            why = worse(guard, before, tally(self._assembly(), name).since(start))
        del self._watches[name]  # what follows may begin another one
        await self._on_end(name, why)
