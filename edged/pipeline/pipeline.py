"""One pipeline, from a block of its sources to messages in an outbox.

    block --> admission --> entry --> due --> [slots] --> model --> exit --> publishes, who asked, chain, gates
              parked,       join      window,  wait for    a batch   heads,
              held, shed              gate,    a run       at a      deadline
                                      steps                time

Everything here is plain calls inside one turn of the loop. What waits, waits in two bounded places: slots, and blocks parked in
front of the rings. A receipt is held by a parked block, a slot and a message. `make` composes the parts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.clock.spent import spends
from edged.pipeline.deadline import Deadline
from edged.pipeline.gate import SAMPLES
from edged.pipeline.gated import Gated
from edged.pipeline.into import named
from edged.pipeline.recurrent import States
from edged.pipeline.straight import Straight
from edged.pipeline.view import Parts, View
from edged.pipeline.wiring import Wiring
from edged.records import Block, Field, Receipt, Slot
from edged.results.publish import Publish

Arrays = dict[str, NDArray[Any]]

RUN_HERE = 64
RETIRED = 1 << 30
"""Above every priority that can be configured: what is older goes first."""


class Pipeline(View):
    """One `[pipeline.NAME]`. Its model calls it as a feeder: `waiting`, `take`, `gather`, `finish`, `fail`.

    Whoever works on the judgement of its gate calls `judge` when it got on.
    """

    def __init__(self, name: str, parts: Parts, states: States | None, priority: int = 0) -> None:
        super().__init__(parts)
        self.name = name
        self.states = states
        self.priority = priority
        self._neighbours = parts.neighbours
        self._deadline = parts.deadline
        self._straight: Straight | None = None  # while nobody else has a part in what this one does

    def connect(self, wiring: Wiring) -> None:
        """From here on these are its neighbours, and no others."""
        self.wiring = wiring
        self._chain.connect(wiring)
        self._neighbours.connect(wiring)
        self._parts.exit.connect(wiring)
        self._straight = self._parts.straight if wiring.is_alone and not self.paused else None

    def pause(self, why: str) -> None:
        """Takes no samples until told otherwise, but counts and settles them; what has come in runs. With an empty `why` it goes
        on: windows and what the model remembers start again, since there would be a hole in them."""
        if self.paused and not why:
            if self.window is not None:
                self.window.reset_all()
            if self.states is not None:
                self.states.forget_all()
            self.counts.drops.forgive()
        self._admission.pause(why)
        self.connect(self.wiring)

    # ---- in: blocks of the sources ----

    @spends("prepare")
    def push(self, source: int, block: Block) -> None:
        """Takes a block of the pipeline's `source`-th source."""
        if self._straight is None or not self._straight.takes(source, block):
            self.push_long(source, block)

    def push_long(self, source: int, block: Block) -> None:
        """The way of all that waits: admission, entry, slots."""
        self._parts.guard(self._admission.push, source, block)
        self._neighbours.got_on()

    def lose(self, error: Exception) -> None:
        """Counts a fault of somebody who takes what is made here."""
        self._parts.guard.lose(error)

    def tick(self) -> None:
        """Lets go what waited for time to pass: rows of a join, results held back by `min_interval`."""
        if self._parts.timer.is_retired:
            return
        self._parts.guard(self._let_time_pass, self._parts.clock.now())
        self._parts.timer.set()

    def _let_time_pass(self, now: int) -> None:
        aligner = self.aligner
        if aligner is not None and (joined := aligner.flush(now + self._parts.clock.offset(), now)) is not None:
            self._admission.join(joined)
        for publish in self.publishes:
            publish.offer_due(now)

    def resume(self) -> None:
        """An outbox, or the next pipeline, has room again."""
        self._admission.unpark()
        if self._parts.wake is not None and len(self.slots):
            self._parts.wake()

    def judge(self) -> None:
        """The gate's stream got on: what waited for that may run now, or goes."""
        if self._parts.gated is not None and self._parts.gated.has_undecided:
            self._parts.guard(self._judge, self._parts.gated)

    def _judge(self, gated: Gated) -> None:
        opened, refused = gated.judge()
        if opened and self._parts.wake is not None:
            self._parts.wake()
        if refused:
            self._admission.unpark()
            self._neighbours.got_on()

    def shed(self, is_shed: bool) -> None:
        """Memory is short: until told otherwise, what is due is dropped and counted as `memory`, and so is what waits. With
        `overflow = "block"` nothing is lost: blocks are parked, and sources held."""
        if self._admission.shed(is_shed):
            self._neighbours.got_on()

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        """Nobody waits for the results of these inputs any more: those that wait for a run are dropped."""
        self._admission.expire(receipts)
        self._neighbours.got_on()

    def supersede(self, receipts: AbstractSet[Receipt]) -> None:
        """The connection that these inputs came by is gone, and the broker sends them again."""
        if self._admission.supersede(receipts):
            self._neighbours.got_on()

    # ---- the model's side ----

    def waiting(self) -> int:
        """Rows that may be taken now: with `overflow = "block"` no more than their results find room for."""
        count = self.slots.ready
        if not count or (self._chain.after and self._chain.is_full):
            return 0
        return count if self._outlets is None else min(count, self._outlets.room())

    def take(self, limit: int, now: int) -> list[Slot]:
        if self._outlets is not None:
            limit = min(limit, self._outlets.room())
        elif self._chain.after and self._chain.is_full:
            limit = 0
        taken = self._take_fresh(self._deadline, limit, now) if self._deadline is not None else self.slots.take(limit)
        self._taken = [*self._taken, *taken] if self.counts.running else taken
        self.counts.running += len(taken)
        if self._deadline is not None:
            self._neighbours.got_on()  # some may have gone on the way
        return taken

    def _take_fresh(self, deadline: Deadline, limit: int, now: int) -> list[Slot]:
        taken = deadline.take(self.slots, limit, now)
        if self._admission.parked and not taken:  # no run, so nobody else would see that rows are free
            self._admission.unpark()
        return taken

    @spends("prepare")
    def gather(self, slots: list[Slot], inputs: Arrays, start: int) -> None:
        try:
            self.slots.gather(slots, inputs, start)
            if self.states is not None:
                self.states.gather(slots, inputs, start)
        finally:
            if self._admission.parked:
                self._admission.unpark()

    @spends("results")
    def finish(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        """Turns the outputs of a run into results, in order, and offers each to every `publish`."""
        self._is_finishing = True
        self._parts.guard(self._parts.exit.finish, slots, outputs, inputs)
        self._is_finishing = False
        if self.counts.running:  # a remote model has others of its rows still
            done = set(map(id, slots))
            self._taken = [slot for slot in self._taken if id(slot) not in done]
        if self._admission.is_holding and not self.is_full:
            self._neighbours.has_room()
        self._neighbours.got_on()

    def fail(self, slot: Slot, error: Exception) -> None:
        """This row cannot be run: counted, its input settled."""
        self._parts.exit.fail(slot, error)
        self._neighbours.got_on()

    def blank(self, count: int) -> Arrays:
        """Arrays for so many rows of what waits, to `gather` into."""
        return {name: np.empty((count, *rows.shape[1:]), rows.dtype) for name, rows in self.slots.rows.items()}

    def partial(self, slot: Slot, text: str) -> None:
        """What a remote model has said so far of a row."""
        self._parts.guard(self._parts.exit.partial, slot, text)

    def finish_at_once(self, slots: list[Slot], outputs: Arrays) -> None:
        """Without a model: rows and windows are results."""
        self.counts.running += len(slots)
        self._taken = slots
        self.finish(slots, outputs, {})

    def run_here(self, fields: Sequence[Field]) -> None:
        """Without a model: what the gate has let in is a result at once, as far as there is room for it."""
        while not self.counts.running and (taken := self.take(RUN_HERE, self._parts.clock.now())):
            values = self.blank(len(taken))
            self.gather(taken, values, 0)
            self.finish(taken, named(values[SAMPLES], fields), {})

    # ---- reloads and stops ----

    def take_over(self, old: Pipeline, has_its_samples: bool) -> None:
        """After a reload: goes on with what the pipeline of the same name was doing. `has_its_samples`: blocks that it had parked
        are such as this one takes; else they are left to it, to be run out."""
        old.retire()
        self.counts.drops.forgive()
        if self._deadline is not None and old._deadline is not None:
            self._deadline.take_over(old._deadline)
        self._chain.take_over(old._chain)
        if has_its_samples:
            self._admission.take_over(old._admission)
        self.resume()
        self._parts.timer.set()

    def retire(self) -> None:
        """No block comes any more, after a reload: what waits is run out, before what waits for others."""
        self._parts.timer.retire()
        self.priority = RETIRED

    def abandon(self) -> int:
        """At a stop: what still waits is given up and counted; returns how many rows and windows that were."""
        return self._admission.abandon()

    def say_last(self, but: Collection[Publish] = ()) -> None:
        """Publishes what `min_interval` holds back, at a stop or where a reload ends an entry. Those of `but` go on elsewhere."""
        now = self._parts.clock.now()
        for publish in self.publishes:
            if publish not in but:
                publish.flush(now)

    def close(self) -> None:
        """Nothing waits here any more, but its last run may be in progress: what is large is let go, whoever still knows it."""
        self.states = None
        self.slots.close()
        self._parts.entry.close()
        if self._parts.straight is not None:
            self._parts.straight.close()
        self._parts.exit.heads.close()
