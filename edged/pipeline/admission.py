"""Who comes in when: rows that find no room wait in front of the rings, parked in order, or push others out.

Blocking   overflow = "block": nothing is dropped; the sources are held while anything is parked
Dropping   the others: the rows of one read that find no slot wait for the runs before the next read, since a burst is no
           overload yet; then the slots drop by their policy
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from edged.pipeline.counts import Guard, PipelineCounts
from edged.pipeline.entry import Entry
from edged.pipeline.parked import Parked
from edged.pipeline.requests import Requests
from edged.pipeline.slots import Slots
from edged.records import Block, Receipt


class Admission:
    """What both have in common. `room`: rows or windows that may come in now. `waits`: what finds none is parked, and not
    taken in all the same."""

    is_holding = False
    """Whether the sources are held."""

    def __init__(
        self,
        entry: Entry,
        slots: Slots,
        counts: PipelineCounts,
        guard: Guard,
        requests: Requests,
        room: Callable[[], int],
        tells_again: bool,
        waits: bool = True,
    ) -> None:
        self.parked: deque[Parked] = deque()
        self.is_shed = False
        self.paused = ""
        """Why nothing comes in; empty if it does."""
        self._entry = entry
        self._due = entry.due
        self._slots = slots
        self._counts = counts
        self._guard = guard
        self._requests = requests
        self._room = room
        self._tells_again = tells_again
        self._waits = waits
        self._is_last_call = False

    # ---- blocks of the sources ----

    def push(self, source: int, block: Block) -> None:
        """After a fault that came before anything was done, the rows that are not to blame are taken, each alone."""
        if self.paused:
            return self._leave_out(block)
        before = self._counts.due, len(self.parked)
        try:
            self._push(source, block)
        except Exception:
            if len(block) == 1 or before != (self._counts.due, len(self.parked)):
                raise
            for i in range(len(block)):
                self._guard(self._push, source, block.part(i, i + 1))

    def pause(self, why: str) -> None:
        """Nothing comes in from here on; with an empty `why` it does again. What is parked runs."""
        self.paused = why

    def _leave_out(self, block: Block) -> None:
        """Settled, and counted."""
        self._counts.left_out += len(block)
        self._entry.forget(block.restarts)
        if block.has_requests:
            for receipt in block.receipts:
                receipt.fail("paused", f"its pipeline is paused, {self.paused}")

    def _push(self, source: int, block: Block) -> None:
        if block.seen is not None and self._tells_again:  # without a memory it is answered again: the result may have been lost
            fresh = block.unseen()
            self._counts.due += len(block) - len(fresh)
            self._counts.drops.add("duplicate", len(block) - len(fresh))
            if block.has_requests:
                self._requests.refuse_seen(block)
            block = fresh
            if not len(block):
                return
        if block.has_requests:
            self._requests.push(
                block,
                self._has_room_for_requests,
                lambda part: self._enter(None, part),
                lambda part: self._push(source, part),
            )
        else:
            self._admit(source, block)

    def _admit(self, source: int, block: Block) -> None:
        raise NotImplementedError

    def _has_room_for_requests(self) -> bool:
        return not (self.parked or self.is_shed)

    def _enter(self, source: int | None, block: Block) -> None:
        self._entry.enter(source, block, self._take)

    def join(self, joined: Block) -> None:
        """Rows that waited for other sources, until now."""
        if self.parked:
            self._park(None, joined)
        else:
            self._take(joined)
            self.unpark()

    def _take(self, block: Block) -> None:
        """Takes the rows in, as far as there is room for what they complete; the others are parked, before all that is."""
        if self._waits and not self._is_last_call and len(block) > (room := self._room()):
            fitting = self._due.fitting(block.part(0, room * self._due.hop), room)
            if fitting < len(block):
                self._park(None, block, first=True)
                self._take_parked(fitting)
                return
        self._due.take(block)

    # ---- what is parked ----

    def _park(self, source: int | None, block: Block, first: bool = False) -> None:
        parked = Parked(source, block)
        if first:
            self.parked.appendleft(parked)
        else:
            self.parked.append(parked)

    def unpark(self) -> None:
        while self.parked and not self._due.is_at_work and self._room():
            self._enter_parked()

    def _enter_parked(self, is_last_call: bool = False) -> None:
        parked = self.parked[0]
        if parked.source is None:
            room = self._room()
            count = len(parked) if is_last_call else self._due.fitting(parked.first(room * self._due.hop), room)
            self._take_parked(count)
            return
        self.parked.popleft()
        self._is_last_call = is_last_call
        self._guard(self._enter, parked.source, parked.take(len(parked)))
        self._is_last_call = False
        parked.settle()

    def _take_parked(self, count: int) -> None:
        """The next rows of what is parked first, and has come as far as the rings."""
        parked = self.parked[0]
        block = parked.take(count)
        if not parked:
            self.parked.popleft()
        if len(block):
            self._guard(self._due.take, block)
        parked.settle()

    @property
    def _parked_rows(self) -> int:
        return sum(map(len, self.parked))

    # ---- what happens to what waits ----

    def shed(self, is_shed: bool) -> bool:
        """Memory is short, or it is again as it should be; whether anything went."""
        self.is_shed = is_shed
        if not is_shed:
            self.unpark()
        return False

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        """Nobody waits for the results of these inputs any more: those that wait for a run are dropped."""
        self._slots.expire(receipts)
        self.unpark()

    def supersede(self, receipts: AbstractSet[Receipt]) -> bool:
        """The connection that these inputs came by is gone, and the broker sends them again: what waits of them and has not
        entered a ring or a run is dropped, or each would give two results. Of samples with a time of their own the ring
        leaves out the second instead. Returns whether anything was looked at."""
        if self._tells_again:
            return False
        waited = self._parked_rows
        self.parked = deque(parked for parked in self.parked if not receipts >= parked.receipts)
        parked = (waited - self._parked_rows) // self._due.hop
        self._counts.due += parked
        if lost := parked + self._slots.supersede(receipts):
            self._counts.drops.add("superseded", lost)
        self.unpark()
        return True

    def take_over(self, old: Admission) -> None:
        """After a reload: goes on with the blocks that the `old` one had parked."""
        self.parked, old.parked = old.parked, deque()
        old.unpark()

    def abandon(self) -> int:
        """At a stop: what still waits is given up and counted; returns how many rows and windows that were. Receipts are kept:
        inputs that were not acknowledged come again."""
        lost, parked = self._slots.forget(settles=False), self._parked_rows // self._due.hop
        self.parked.clear()
        self._counts.due += parked
        if lost + parked:
            self._counts.drops.add("shutdown", lost + parked)
        return lost + parked


class Dropping(Admission):
    def _admit(self, source: int, block: Block) -> None:
        while self.parked:  # the rest of the read before had its time; now `overflow` decides
            self._enter_parked(is_last_call=True)
        self._enter(source, block)
        if self.parked:
            self.unpark()  # what entered may have filled windows only in part: then slots are free, and no run would come

    def shed(self, is_shed: bool) -> bool:
        """What waits is dropped and counted as `memory`, and so is what is due until memory suffices again."""
        self._due.shed(is_shed)
        lost = self._slots.forget() if is_shed else 0
        if lost:
            self._counts.drops.add("memory", lost)
        super().shed(is_shed)
        return lost > 0


class Blocking(Admission):
    def __init__(
        self,
        entry: Entry,
        slots: Slots,
        counts: PipelineCounts,
        guard: Guard,
        requests: Requests,
        room: Callable[[], int],
        tells_again: bool,
        hold_sources: Callable[[bool], None],
        has_room: Callable[[], None],
    ) -> None:
        """`has_room` tells those that this one reads that they may go on."""
        super().__init__(entry, slots, counts, guard, requests, room, tells_again)
        self._hold_sources = hold_sources
        self._has_room = has_room

    def _admit(self, source: int, block: Block) -> None:
        if self.parked or self.is_shed:
            self._park(source, block)
        else:
            self._enter(source, block)
            if self.parked:
                self.unpark()

    def _park(self, source: int | None, block: Block, first: bool = False) -> None:
        super()._park(source, block, first)
        self._hold()

    def _hold(self) -> None:
        if not self.is_holding:
            self.is_holding = True
            self._hold_sources(True)

    def unpark(self) -> None:
        if not self.is_shed:  # nothing is lost: it waits
            super().unpark()
        if not self.parked and self.is_holding:
            self.is_holding = False
            self._hold_sources(False)
            self._has_room()

    def take_over(self, old: Admission) -> None:
        super().take_over(old)
        if self.parked:
            self._hold()
