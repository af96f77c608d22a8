"""When a pipeline has to be called next without an input: rows of a join, and results that `min_interval` holds back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edged.clock.clock import Clock
from edged.results.publish import Publish, next_due

if TYPE_CHECKING:
    from edged.pipeline.align.aligner import Aligner


class Timer:
    """`alarm` is set to the earliest (monotonic ns). After `retire` nobody is called any more."""

    def __init__(self, alarm: Callable[[int], None], publishes: Sequence[Publish], aligner: Aligner | None, clock: Clock) -> None:
        self.is_retired = False
        self._alarm = alarm
        self._publishes = publishes
        self._aligner = aligner
        self._clock = clock

    def set(self) -> None:
        if self.is_retired:
            return
        due = next_due(self._publishes)
        if self._aligner is not None and (joined := self._aligner.next_due) is not None:
            joined -= self._clock.offset()
            due = joined if due is None else min(due, joined)
        if due is not None:
            self._alarm(due)

    def retire(self) -> None:
        """No block comes any more, after a reload."""
        self.is_retired = True
        self._aligner = None
