"""What is due: rows, or windows of them, on their way past the gate and through `preprocess` to where they wait for a run.

Which of the two a pipeline has is chosen where it is built: nobody else knows whether there is a window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.pipeline.counts import Guard, PipelineCounts
from edged.pipeline.gated import Gated
from edged.pipeline.into import Due, DueWindow, Into
from edged.pipeline.preprocess import Preprocess, StepError
from edged.pipeline.recurrent import States
from edged.pipeline.window import WindowStage
from edged.records import NONE, Block


class DueRows:
    """Each row is due as it comes."""

    hop = 1
    is_at_work = False
    window = None

    def __init__(
        self,
        into: Into,
        counts: PipelineCounts,
        guard: Guard,
        preprocess: Preprocess | None,
        gated: Gated | None,
        states: States | None,
    ) -> None:
        self.is_shed = False
        self._into = into
        self._counts = counts
        self._guard = guard
        self._preprocess = preprocess
        self._gated = gated
        self._states = states

    def shed(self, is_shed: bool) -> None:
        """Whether what is due is dropped, since memory is short."""
        self.is_shed = is_shed

    def fitting(self, first: Block, room: int) -> int:
        """How many of these rows may come in now: the first `room` times the hop, which is what it would be for one key."""
        return len(first)

    def take(self, block: Block) -> None:
        count = len(block)
        self._counts.due += count
        if self.is_shed:
            self._counts.drops.add("memory", count)
            return
        are_open = None
        if self._gated is not None:
            block, are_open = self._gated.let_in(block)
            count = len(block)
            if not count:
                return
        values = block.values
        keep: Sequence[int] = range(count)
        if self._preprocess is not None:
            values, keep = _prepared(self._preprocess, block, self._guard.refuse)
            if not len(keep):
                return
        keys = [block.keys] * count if isinstance(block.keys, int) else block.keys.tolist()
        times, offset = block.time.tolist(), block.offset
        if offset:
            times = [time + offset for time in times]
        degraded = None if block.degraded is None else block.degraded.tolist()
        due = Due(keys, times, block.arrival, block.receipt_of_each(), degraded, block.carried, None, are_open)
        if len(keep) < count:
            due = due.only(keep)
        if self._states is not None:
            due = due._replace(stretches=self._states.stretches(due.keys, [time - offset for time in due.times]))
        self._into.rows(values, due)

    def close(self) -> None:
        self._states = None
        self._into.close()


def _prepared(preprocess: Preprocess, block: Block, refuse: Callable[[Exception], None]) -> tuple[NDArray[Any], Sequence[int]]:
    """The rows after `preprocess`, and the indices of those that passed it; whoever asked for one of the others is told."""
    values = block.values
    keep: Sequence[int] = range(len(values))
    while keep:
        try:
            values = preprocess(values[keep] if len(keep) < len(values) else values)
            break
        except StepError as error:
            refuse(error)
            keep = [i for place, i in enumerate(keep) if place != error.row]
        except Exception:
            values, keep = _prepared_alone(preprocess, values, keep, refuse)
            break
    if len(keep) < len(block):
        receipts = block.receipt_of_each()
        for i in set(range(len(block))) - set(keep):
            receipts[i].fail("preprocess", "a step before the model could not take it")
    return values, keep


def _prepared_alone(
    preprocess: Preprocess, values: NDArray[Any], rows: Sequence[int], refuse: Callable[[Exception], None]
) -> tuple[NDArray[Any], Sequence[int]]:
    kept, prepared = [], []
    for i in rows:
        try:
            prepared.append(preprocess(values[i : i + 1]).copy())
            kept.append(i)
        except Exception as error:
            refuse(error)
    return (np.concatenate(prepared) if prepared else values[:0]), kept


class DueWindows:
    """The newest rows of a key are due each time its window is full and `hop` new ones came."""

    def __init__(
        self,
        window: WindowStage,
        into: Into,
        counts: PipelineCounts,
        guard: Guard,
        preprocess: Preprocess | None,
        gated: Gated | None,
        is_stateful: bool,
    ) -> None:
        self.hop = window.hop
        self.window: WindowStage | None = window
        self.is_shed = False
        self.is_at_work = False
        """What is parked does not enter a ring meanwhile."""
        self._into = into
        self._counts = counts
        self._guard = guard
        self._preprocess = preprocess
        self._gated = gated
        self._is_stateful = is_stateful
        self._carried: bytes | None = None

    def shed(self, is_shed: bool) -> None:
        """Whether what is due is dropped, since memory is short."""
        self.is_shed = is_shed

    def fitting(self, first: Block, room: int) -> int:
        """How many of these rows complete no more than `room` windows."""
        assert self.window is not None
        return self.window.fitting(first, room)

    def take(self, block: Block) -> None:
        if block.carried is None:
            self._push(block)
            return
        for i, self._carried in enumerate(block.carried):  # by one, so that each window carries what its newest sample does
            self._push(block.part(i, i + 1))
        self._carried = None

    def _push(self, block: Block) -> None:
        window = self.window
        assert window is not None
        keys, taken = block.keys, window.taken(block.keys)
        self.is_at_work = True
        try:
            window.push(block, self._due)
        except Exception as error:
            had = dict(zip(keys.tolist(), taken.tolist(), strict=True)) if isinstance(keys, np.ndarray) else {keys: int(taken)}

            def take(row: Block) -> None:
                key = row.keys if isinstance(row.keys, int) else row.keys.item(0)
                had[key] += 1
                if int(window.taken(key)) < had[key]:  # else it was in before the fault
                    self._push(row)

            self._guard.one_by_one(block, error, take)
        finally:
            self.is_at_work = False

    def _due(self, window: NDArray[Any], key: int, time: int, arrival: int, degraded: bool) -> None:
        self._counts.due += 1
        if self.is_shed:
            self._counts.drops.add("memory")
            return
        try:
            verdict = self._gated.verdict(key, arrival, time) if self._gated is not None else True
            if verdict is not False and self._preprocess is not None:
                window = self._preprocess(window[None])[0]
        except Exception as error:
            return self._guard.refuse(error)
        if verdict is False:
            return
        stretch = self.window.stretch(key) if self._is_stateful and self.window is not None else 0
        self._into.window(window, DueWindow(key, time, arrival, NONE, degraded, self._carried, stretch, verdict is True))

    def close(self) -> None:
        self.window = None
        self._into.close()
