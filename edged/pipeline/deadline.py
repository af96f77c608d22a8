"""The deadline of a pipeline: what is older when it would be published is dropped, and counted as `expired`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edged.pipeline.counts import PipelineCounts
from edged.pipeline.slots import TOO_OLD, Slots
from edged.records import Slot

MAX_RUN = 7 / 8
"""Share of the deadline that a run is assumed to take at most, so that what has just come is always tried,"""
SENDING = 1 / 32
"""and the share that is left for the way from the run to the socket."""

Bodies = Sequence[dict[str, Any] | None]


class Deadline:
    """`deadline_ns` counts from arrival. Learns how long a run takes, if a model `runs` the rows."""

    def __init__(self, deadline_ns: int, counts: PipelineCounts, runs: bool) -> None:
        self._deadline_ns = deadline_ns
        self._counts = counts
        self._runs = runs
        self._taken_at = 0
        self._run_ns = 0

    def begin(self, now: int) -> None:
        """A run begins, of what has just come."""
        self._taken_at = now

    def take(self, slots: Slots, limit: int, now: int) -> list[Slot]:
        """Leaves out what would be too old after a run: else, under overload, every run would be spent on such rows."""
        self.begin(now)
        ahead = min(self._run_ns, int(self._deadline_ns * MAX_RUN)) + int(self._deadline_ns * SENDING)
        return slots.take_fresh(limit, now - self._deadline_ns + ahead)

    def in_time(self, slots: list[Slot], bodies: Bodies, now: int) -> tuple[list[Slot], Bodies]:
        """What may still be published; the rest is dropped and counted."""
        if self._runs:
            self._run_ns = max(now - self._taken_at, self._run_ns * 7 // 8)
        since = now - self._deadline_ns
        late = [slot for slot in slots if slot.arrival < since]
        if not late:
            return slots, bodies
        self._counts.running -= len(late)
        self._counts.drops.add("expired", len(late))
        for slot in late:
            slot.receipt.fail("expired", TOO_OLD)
            slot.receipt.done()
        kept = [i for i, slot in enumerate(slots) if slot.arrival >= since]
        return [slots[i] for i in kept], [bodies[i] for i in kept]

    def take_over(self, old: Deadline) -> None:
        """Goes on with what the `old` one has learnt."""
        self._run_ns = old._run_ns
