"""From a block of one source to rows that are due: keys that begin again, and the join of several sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edged.pipeline.counts import Guard, PipelineCounts
from edged.pipeline.due import DueRows, DueWindows
from edged.pipeline.timer import Timer
from edged.records import Block

if TYPE_CHECKING:
    from edged.pipeline.align.aligner import Aligner

UNJOINED = {
    "stale_join": "a joined value was older than its tolerance (align.tolerance, or stale_after of its source)",
    "no_value": "a joined source has no sample yet",
}


class Entry:
    """`forgets`: whoever remembers something of a key, and forgets it when the key means another sensor."""

    def __init__(
        self,
        due: DueRows | DueWindows,
        aligner: Aligner | None,
        forgets: Sequence[Callable[[int], object]],
        counts: PipelineCounts,
        guard: Guard,
        timer: Timer,
    ) -> None:
        self.due = due
        self.aligner = aligner
        self._forgets = forgets
        self._counts = counts
        self._guard = guard
        self._timer = timer

    def enter(self, source: int | None, block: Block, take: Callable[[Block], None]) -> None:
        """Hands to `take` what the block of the `source`-th source makes with the others; None: the rows of a join."""
        self.forget(block.restarts)
        if self.aligner is None or source is None:
            return take(block)
        try:
            joined = self._join(self.aligner, source, block)
        except Exception as error:
            return self._guard.one_by_one(block, error, lambda row: self.enter(source, row, take))
        if joined is not None:
            take(joined)
        self._timer.set()

    def forget(self, keys: Sequence[int]) -> None:
        """They mean other sensors from here on."""
        for key in keys:
            for forget in self._forgets:
                forget(key)

    def _join(self, aligner: Aligner, source: int, block: Block) -> Block | None:
        """Rows that never come to be have a ledger of their own; here they are only noted as lost."""
        before = aligner.dropped.copy()
        joined = aligner.push(source, block)
        if aligner.dropped != before:
            for reason, count in aligner.dropped.items():
                if lost := count - before[reason]:
                    self._counts.drops.note(reason, lost, UNJOINED.get(reason, ""))
        return joined

    def close(self) -> None:
        """Lets go of what is large."""
        self.aligner = None
        self._forgets = ()
        self.due.close()
