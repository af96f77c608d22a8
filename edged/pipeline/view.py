"""What a pipeline is composed of, and what others may ask of it: health, those who wait for it, those that it waits for.

Everything here reads the parts; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edged.clock.clock import Clock
from edged.pipeline.admission import Admission
from edged.pipeline.chain import Chain
from edged.pipeline.counts import Guard, PipelineCounts
from edged.pipeline.deadline import Deadline
from edged.pipeline.entry import Entry
from edged.pipeline.exit import Exit
from edged.pipeline.gate import FAR, Gate
from edged.pipeline.gated import Gated
from edged.pipeline.outlets import Outlets
from edged.pipeline.slots import Slots
from edged.pipeline.straight import Straight
from edged.pipeline.timer import Timer
from edged.pipeline.window import WindowStage
from edged.pipeline.wiring import Neighbours, Next, Wiring
from edged.records import Slot
from edged.results.heads.head import Head
from edged.results.publish import Publish

if TYPE_CHECKING:
    from edged.pipeline.align.aligner import Aligner


class Parts(msgspec.Struct, frozen=True):
    """What a pipeline is composed of; `make` says how. `outlets`: where a run asks for room first (None: results may push others
    out of an outbox). `wake` tells the model that rows wait."""

    counts: PipelineCounts
    clock: Clock
    guard: Guard
    entry: Entry
    admission: Admission
    slots: Slots
    exit: Exit
    chain: Chain
    neighbours: Neighbours
    timer: Timer
    outlets: Outlets | None
    deadline: Deadline | None
    gated: Gated | None
    wake: Callable[[], None] | None
    straight: Straight | None


class View:
    """Of one pipeline. `_taken` are the slots of the run in progress."""

    def __init__(self, parts: Parts) -> None:
        self.counts = parts.counts
        self.slots = parts.slots
        self.wiring = Wiring()
        self._parts = parts
        self._admission = parts.admission
        self._chain = parts.chain
        self._outlets = parts.outlets
        self._taken: list[Slot] = []
        self._is_finishing = False

    @property
    def publishes(self) -> Sequence[Publish]:
        return self._parts.exit.publishes

    @property
    def wake(self) -> Callable[[], None] | None:
        return self._parts.wake

    @property
    def aligner(self) -> Aligner | None:
        return self._parts.entry.aligner

    @property
    def window(self) -> WindowStage | None:
        return self._parts.entry.due.window

    @property
    def head(self) -> Head:
        return self._parts.exit.heads.head

    @property
    def gate(self) -> Gate | None:
        return self._parts.gated.gate if self._parts.gated is not None else None

    @property
    def after(self) -> Sequence[Next]:
        """The next pipelines."""
        return self._chain.after

    @property
    def parked(self) -> int:
        """Blocks that wait in front of the rings."""
        return len(self._admission.parked)

    @property
    def paused(self) -> str:
        """Why it takes no samples now; empty if it does."""
        return self._admission.paused

    @property
    def is_shed(self) -> bool:
        return self._admission.is_shed

    @property
    def has_waiting(self) -> bool:
        """Whether blocks, rows or windows wait here for a run."""
        return bool(self._admission.parked or len(self.slots))

    @property
    def is_busy(self) -> bool:
        """Whether something that was read is still on its way and can go on."""
        return bool(self.has_waiting or self.counts.running) and not self.is_stalled

    @property
    def is_stalled(self) -> bool:
        """Whether rows wait for a broker that is away, since they may not be dropped."""
        if not self.has_waiting:
            return False
        gated = self._parts.gated
        if (gated is not None and gated.is_stalled) or self._chain.is_stalled:
            return True
        return self._outlets is not None and self._outlets.is_stalled

    @property
    def is_full(self) -> bool:
        """Whether blocks are parked until what is in the slots has run: then those that it reads run nothing for it. While all of
        it waits for the gate, they do: the gate may need them."""
        return self._admission.is_holding and (self._parts.wake is None or self.slots.ready > 0 or self.counts.running > 0)

    @property
    def is_held(self) -> bool:
        """Whether the next pipeline of a chain can take no results now."""
        return self._chain.is_full

    @property
    def pending_since(self) -> int:
        """Arrival of the oldest that is parked, waits or runs here; `FAR` if nothing does."""
        running = self._taken if self.counts.running or self._is_finishing else ()
        waiting = [*(parked.arrival for parked in self._admission.parked), *(slot.arrival for slot in running)]
        if (oldest := self.slots.oldest) is not None:
            waiting.append(oldest)
        return min(waiting, default=FAR)
