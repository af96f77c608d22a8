"""The stages of one pipeline, from a block of its sources to messages in an outbox.

    block --> align --> window --> preprocess --> [slots] --> model --> postprocess --> head --> publish
              several   a ring     on the         wait for    a batch   custom steps    label,    when, topic,
              sources   a key      window         a run       at a time                 score     encoding

Everything here is plain calls inside one turn of the loop. What waits, waits in two bounded places: `slots`, and, with
`overflow = "block"`, blocks parked in front of the rings. A receipt is held by a parked block, a slot and a message.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.clock.clock import Clock
from edged.model.inputs import AnyFiller
from edged.model.records import RunFailed
from edged.pipeline.align import Aligner
from edged.pipeline.fan_out import fan_out
from edged.pipeline.gate import FAR, SAMPLES, Gate
from edged.pipeline.parked import Parked
from edged.pipeline.preprocess import Postprocess, Preprocess, StepError
from edged.pipeline.recurrent import States
from edged.pipeline.slots import GATED, TOO_OLD, Slots
from edged.pipeline.window import WindowStage
from edged.records import NONE, Block, Carried, Field, Receipt, Result, Slot
from edged.results.encode import Encoder
from edged.results.fields import value_at
from edged.results.heads.head import Head
from edged.results.heads.raw import is_hollow
from edged.results.publish import Publish, next_due
from edged.telemetry import INTERNAL_ERROR, Drops, Histogram, whereabouts

Arrays = dict[str, NDArray[Any]]

RUN_HERE = 64
NOT_FINITE = "an output of the model is NaN or infinite"
HOLLOW = "all outputs are NaN or infinite; raw results show them as null"
UNJOINED = {
    "stale_join": "a joined value was older than its tolerance (align.tolerance, or stale_after of its source)",
    "no_value": "a joined source has said nothing yet",
}
RETIRED = 1 << 30
"""Above every priority that can be configured: what is older goes first."""
MAX_RUN = 7 / 8
"""Share of the deadline that a run is assumed to take at most, so that what has just come is always tried,"""
SENDING = 1 / 32
"""and the share that is left for the way from the run to the socket."""


class PipelineCounts:
    """The pipeline ledger, in windows (or rows, without a window): `due == published + filtered + gated + dropped + waiting`."""

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is monotonic, in seconds."""
        self.due = 0
        self.published = 0
        self.filtered = 0
        self.hollow = 0
        """Of the results those of raw outputs in which nothing is finite."""
        self.gated = 0
        self.last_gated = 0
        self.running = 0
        self.drops = Drops(name, now, lambda: self.published + self.filtered - self.hollow)
        self.age = Histogram()
        self.last_result = 0
        self.next_seq = 1

    def balance(self, waiting: int) -> int:
        """Zero, always."""
        return self.due - self.published - self.filtered - self.gated - self.drops.total - waiting - self.running


class Pipeline:
    """One `[pipeline.NAME]`. Its model calls it as a feeder: `waiting`, `take`, `gather`, `finish`, `fail`.

    `wake` tells the model that rows wait (None: there is no model, and windows are results at once). `hold_sources`
    is told when blocks begin and cease to be parked, so that serial and replayed sources stop reading meanwhile.
    `tells_again`: the samples of all its sources have times by which those that a broker sends again are recognised.
    `answer` encodes the results of requests, which go to whoever asked and nowhere else.

    With a `gate`, a row or window is counted as `gated` and let go where that is closed. One whose sample the gate has yet to
    judge waits in its slot; whoever works on that judgement calls `judge` when it got on. Without a model, what the gate lets
    through is a result at once.

    A fault of ours in a stage costs the row that shows it: it is counted as `internal_error` and its input settled. What was
    handled together is then handled one by one, once.
    """

    def __init__(
        self,
        name: str,
        *,
        aligner: Aligner | None,
        window: WindowStage | None,
        hop: int,
        preprocess: Preprocess | None,
        fillers: Mapping[str, AnyFiller],
        slots: Slots,
        wake: Callable[[], None] | None,
        postprocess: Postprocess | None,
        head: Head,
        fields: Sequence[Field],
        publishes: Sequence[Publish],
        overflow: str,
        hold_sources: Callable[[bool], None],
        counts: PipelineCounts,
        clock: Clock,
        alarm: Callable[[int], None],
        results: Sequence[tuple[Field, tuple[str, ...]]] = (),
        deadline: int = 0,
        tells_again: bool = False,
        answer: Encoder | None = None,
        states: States | None = None,
        gate: Gate | None = None,
        priority: int = 0,
    ) -> None:
        self.name = name
        self.counts = counts
        self.slots = slots
        self.publishes = publishes
        self._hold_sources = hold_sources
        self.window = window
        self.aligner = aligner
        self.followers: list[Callable[[Block], None]] = []  # the next pipelines of a chain
        self.after: list[Pipeline] = []  # the same, as pipelines
        self.before: list[Pipeline] = []  # those that this one reads
        self.gate = gate
        self.priority = priority
        self.tellers: list[Callable[[Result, int], None]] = []  # gates that judge by its results
        self.judges: list[Callable[[], None]] = []  # `judge` of those who wait for what it makes of its samples
        self._results = results
        self._restarts: set[int] = set()
        self._hop = hop
        self._preprocess = preprocess
        self._fillers = tuple((slots.rows[n], f) for n, f in fillers.items())
        self.wake = self._run_here if wake is None and gate is not None else wake
        self._postprocess = postprocess
        self.head = head
        self._fields = fields
        self._blocks = overflow == "block"
        self._waits = self._blocks or (self.wake is not None and overflow != "latest_only")
        self._clock = clock
        self._alarm = alarm
        self._deadline = deadline
        self._answer = answer
        self.states = states
        self._tells_again = tells_again and (window is not None or aligner is not None or states is not None)
        self._taken_at = 0
        self._taken: list[Slot] = []  # for the run in progress
        self._is_finishing = False
        self._run_ns = 0
        self._parked: deque[Parked] = deque()
        self._is_in_ring = False  # what is parked does not enter a ring while that is at work
        self._is_holding = False
        self._is_last_call = False
        self._carried: bytes | None = None
        self.is_shed = False
        self._is_retired = False

    # ---- in: blocks of the sources ----

    def push(self, source: int, block: Block) -> None:
        """Takes a block of the pipeline's `source`-th source.

        With `overflow = "block"` it may be parked, in order, and the sources held. With `drop_oldest` and `drop_newest` the
        rows of one read that find no slot wait for the runs before the next read: a burst is no overload yet.
        """
        self._guard(self._push_or_each, source, block)
        self._got_on()

    def _push_or_each(self, source: int, block: Block) -> None:
        """After a fault that came before anything was done, the rows that are not to blame are taken, each alone."""
        before = self.counts.due, len(self._parked)
        try:
            self._push(source, block)
        except Exception:
            if len(block) == 1 or before != (self.counts.due, len(self._parked)):
                raise
            for i in range(len(block)):
                self._guard(self._push, source, block.part(i, i + 1))

    def lose(self, error: Exception) -> None:
        """Counts a fault of somebody who takes what is made here: a row that was due, and came to nothing."""
        self.counts.due += 1
        self.counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))

    def _guard(self, work: Callable[..., object], *what: Any) -> None:
        """Calls `work`. After a fault of ours, what was due and is nowhere any more is counted: it costs those rows, and neither
        whoever called nor the rows that come next."""
        owed = self._owed
        try:
            work(*what)
        except Exception as error:
            lost = self._owed - owed
            if lost < 1:
                self.counts.due += 1 - lost
            self.counts.drops.add(INTERNAL_ERROR, max(1, lost), detail=whereabouts(error))

    @property
    def _owed(self) -> int:
        return self.counts.balance(len(self.slots))

    def _push(self, source: int, block: Block) -> None:
        if block.seen is not None and self._tells_again:  # without a memory it is answered again: the result may have been lost
            fresh = block.unseen()
            self.counts.due += len(block) - len(fresh)
            self.counts.drops.add("duplicate", len(block) - len(fresh))
            for receipt, is_seen in zip(block.receipt_of_each(), block.seen.tolist(), strict=True) if block.has_requests else ():
                if is_seen:
                    receipt.fail("duplicate", "it was sent again, and the first was taken")
            block = fresh
            if not len(block):
                return
        if block.has_requests:
            return self._push_requests(source, block)
        if self._blocks and (self._parked or self.is_shed):
            self._park(source, block)
            return
        while self._parked:  # the rest of the read before had its time; now `overflow` decides
            self._enter_parked(is_last_call=True)
        self._enter(source, block)
        if self._parked:
            self._unpark()  # what entered may have filled windows only in part: then slots are free, and no run would come

    def _push_requests(self, source: int, block: Block) -> None:
        """A block with rows of requests, in order: those are taken now, if there are slots for them, or told that there are
        none. They push nothing out, and wait for no slot."""
        receipts = block.receipt_of_each()
        for is_request, group in groupby(range(len(block)), lambda i: receipts[i].is_request):
            rows = list(group)
            part = block.part(rows[0], rows[-1] + 1)
            if is_request:
                self._admit(part)
            else:
                self._push(source, part)

    def _admit(self, block: Block) -> None:
        receipts, room = block.receipt_of_each(), self._room_for_requests(len(block))
        rows_of = Counter(receipts)
        admitted: list[int] = []
        for i, receipt in enumerate(receipts):
            if rows_of[receipt] > 1:
                code, why = "several_rows", f"expected one sample in a request, found {rows_of[receipt]}"
            elif len(admitted) == room:
                code, why = "busy", f"all {self.slots.count} places to wait for the model are taken; try again later"
            else:
                admitted.append(i)
                continue
            self.counts.due += 1
            self.counts.drops.add(code)
            receipt.fail(code, why)
        self._enter(None, block.only(admitted) if len(admitted) < len(block) else block)

    def _room_for_requests(self, most: int) -> int:
        if self._parked or self.is_shed:
            return 0
        room = self.slots.free if self.wake is not None else most
        return min(room, self._output_room()) if self._blocks else room

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        """Nobody waits for the results of these inputs any more: those that wait for a run are dropped."""
        self.slots.expire(receipts)
        self._unpark()
        self._got_on()

    @property
    def parked(self) -> int:
        """Blocks that wait in front of the rings."""
        return len(self._parked)

    def shed(self, is_shed: bool) -> None:
        """Memory is short: until told otherwise, what is due is dropped and counted as `memory`, and so is what waits. With
        `overflow = "block"` nothing is lost: blocks are parked, and sources held."""
        self.is_shed = is_shed
        if not is_shed:
            self._unpark()
        elif not self._blocks and (lost := self.slots.forget()):
            self.counts.drops.add("memory", lost)
            self._got_on()

    @property
    def has_waiting(self) -> bool:
        """Whether blocks, rows or windows wait here for a run."""
        return bool(self._parked or len(self.slots))

    def close(self) -> None:
        """Nothing waits here any more, but its last run may be in progress: what is large is let go, whoever still knows it."""
        self.aligner = self.window = self.states = None
        self.slots.rows = {}
        self._fillers = ()

    @property
    def is_busy(self) -> bool:
        """Whether something that was read is still on its way and can go on."""
        return bool(self._parked or len(self.slots) or self.counts.running) and not self.is_stalled

    @property
    def is_stalled(self) -> bool:
        """Whether rows wait for a broker that is away, since they may not be dropped."""
        if not self._parked and not len(self.slots):
            return False
        if self.gate is not None and not self.slots.ready and self.gate.is_stalled:
            return True
        if any(follower.is_full and follower.is_stalled for follower in self.after):
            return True
        return self._blocks and any(p.outlet.is_stalled and p.room() <= 0 for p in self.publishes)

    @property
    def is_full(self) -> bool:
        """Whether blocks are parked until what is in the slots has run: then those that it reads run nothing for it. While all of
        it waits for the gate, they do: the gate may need them."""
        return self._is_holding and (self.wake is None or self.slots.ready > 0 or self.counts.running > 0)

    @property
    def is_held(self) -> bool:
        """Whether the next pipeline of a chain can take no results now."""
        return any(follower.is_full for follower in self.after)

    @property
    def pending_since(self) -> int:
        """Arrival of the oldest that is parked, waits or runs here; `FAR` if nothing does."""
        running = self._taken if self.counts.running or self._is_finishing else ()
        waiting = [*(parked.arrival for parked in self._parked), *(slot.arrival for slot in running)]
        if (oldest := self.slots.oldest) is not None:
            waiting.append(oldest)
        return min(waiting, default=FAR)

    def _got_on(self) -> None:
        if self.judges:
            fan_out(self.judges, self.lose)

    def tick(self) -> None:
        """Lets go what waited for time to pass: rows of a join, results held back by `min_interval`."""
        if self._is_retired:
            return
        self._guard(self._let_time_pass, self._clock.now())
        self._set_alarm()

    def _let_time_pass(self, now: int) -> None:
        if self.aligner is not None:
            joined = self.aligner.flush(now + self._clock.offset(), now)
            if joined is not None:
                if self._parked:
                    self._park(None, joined)
                else:
                    self._rows(joined)
                    self._unpark()
        for publish in self.publishes:
            publish.offer_due(now)

    def _enter(self, source: int | None, block: Block) -> None:
        if self.followers:
            self._restarts.update(block.restarts)
        for key in block.restarts:
            self.slots.drop_key(key)
            self.head.reset(key)
            if self.states is not None:
                self.states.start_over(key)
            for publish in self.publishes:
                publish.reset(key)
        if self.aligner is None or source is None:
            self._rows(block)
            return
        try:
            joined = self._join(self.aligner, source, block)
        except Exception as error:
            return self._one_by_one(block, error, lambda row: self._enter(source, row))
        if joined is not None:
            self._rows(joined)
        self._set_alarm()

    def _join(self, aligner: Aligner, source: int, block: Block) -> Block | None:
        """Rows that never come to be have a ledger of their own; here they are only noted as lost."""
        before = aligner.dropped.copy()
        joined = aligner.push(source, block)
        if aligner.dropped != before:
            for reason, count in aligner.dropped.items():
                if lost := count - before[reason]:
                    self.counts.drops.note(reason, lost, UNJOINED.get(reason, ""))
        return joined

    def _one_by_one(self, block: Block, error: Exception, take: Callable[[Block], None]) -> None:
        """After a fault: the rows that are not to blame, each alone; one that is goes, and is counted."""
        if len(block) == 1:
            self.counts.due += 1
            self._refuse(error)
            return
        for i in range(len(block)):
            take(block.part(i, i + 1))

    def _refuse(self, error: Exception) -> None:
        """Counts a row or window that a stage could not take."""
        is_step = isinstance(error, StepError)
        self.counts.drops.add("preprocess" if is_step else INTERNAL_ERROR, detail=str(error) if is_step else whereabouts(error))

    def _rows(self, block: Block) -> None:
        """Takes the rows in, as far as there is room for what they complete; the others are parked, before all that is."""
        if self._waits and not self._is_last_call and len(block) > (room := self._room()):
            fitting = self._fitting(block.part(0, room * self._hop), room)
            if fitting < len(block):
                self._park(None, block, first=True)
                self._take_parked(fitting)
                return
        self._take_in(block)

    def _fitting(self, first: Block, room: int) -> int:
        """How many of these rows may come in now: the first `room` times the hop, which is what it would be for one key."""
        return len(first) if self.window is None else self.window.fitting(first, room)

    def _take_parked(self, count: int) -> None:
        """The next rows of what is parked first, and has come as far as the rings."""
        parked = self._parked[0]
        block = parked.take(count)
        if not parked:
            self._parked.popleft()
        if len(block):
            self._guard(self._take_in, block)
        parked.settle()

    def _take_in(self, block: Block) -> None:
        if self.window is None:
            self._rows_due(block)
        elif block.carried is None:
            self._into_window(block)
        else:  # by one, so that each window carries what its newest sample does
            for i, self._carried in enumerate(block.carried):
                self._into_window(block.part(i, i + 1))
            self._carried = None

    def _into_window(self, block: Block) -> None:
        window = self.window
        assert window is not None
        keys, taken = block.keys, window.taken(block.keys)
        self._is_in_ring = True
        try:
            window.push(block, self._window_due)
        except Exception as error:
            had = dict(zip(keys.tolist(), taken.tolist(), strict=True)) if isinstance(keys, np.ndarray) else {keys: int(taken)}

            def take(row: Block) -> None:
                key = row.keys if isinstance(row.keys, int) else row.keys.item(0)
                had[key] += 1
                if int(window.taken(key)) < had[key]:  # else it was in before the fault
                    self._into_window(row)

            self._one_by_one(block, error, take)
        finally:
            self._is_in_ring = False

    def _park(self, source: int | None, block: Block, first: bool = False) -> None:
        parked = Parked(source, block)
        if first:
            self._parked.appendleft(parked)
        else:
            self._parked.append(parked)
        if self._blocks and not self._is_holding:
            self._is_holding = True
            self._hold_sources(True)

    def _room(self) -> int:
        """Windows or rows that may come in now, under `overflow = "block"`, so that none is dropped."""
        return self.slots.free if self.wake is not None else self._output_room()

    def _output_room(self) -> int:
        """Results that every outbox and the next pipeline have room for; where it is none, `resume` is called when there is."""
        if self.after and self.is_held:
            return 0
        room = min((publish.room() for publish in self.publishes), default=self.slots.count)
        if room <= 0:
            for publish in self.publishes:
                publish.outlet.when_room(self.resume)
            return 0
        return room

    def resume(self) -> None:
        """An outbox, or the next pipeline, has room again."""
        self._unpark()
        if self.wake is not None and len(self.slots):
            self.wake()

    def _unpark(self) -> None:
        while self._parked and not self._is_in_ring and not (self.is_shed and self._blocks) and self._room():
            self._enter_parked()
        self._let_go()

    def _enter_parked(self, is_last_call: bool = False) -> None:
        parked = self._parked[0]
        if parked.source is None:
            room = self._room()
            self._take_parked(len(parked) if is_last_call else self._fitting(parked.first(room * self._hop), room))
            return
        self._parked.popleft()
        self._is_last_call = is_last_call
        self._guard(self._enter, parked.source, parked.take(len(parked)))
        self._is_last_call = False
        parked.settle()

    # ---- due: windows and rows on their way to the model ----

    def _window_due(self, window: NDArray[Any], key: int, time: int, arrival: int, degraded: bool) -> None:
        self.counts.due += 1
        if self.is_shed and not self._blocks:
            self.counts.drops.add("memory")
            return
        try:
            verdict = self.gate.verdict(key, arrival, time) if self.gate is not None else True
            if verdict is not False and self._preprocess is not None:
                window = self._preprocess(window[None])[0]
        except Exception as error:
            return self._refuse(error)
        if verdict is False:
            return self._refuse_entry(1)
        if self.wake is None:
            self._no_model(window[None], [Slot(0, key, time, arrival, NONE, degraded, self._carried)])
            return
        stretch = self.window.stretch(key) if self.states is not None and self.window is not None else 0
        row = self.slots.put(key, time, arrival, NONE, degraded, self._carried, stretch, verdict is True)
        if row is None:
            return
        self._fill(row, window)
        self.wake()

    def _fill(self, row: int, values: NDArray[Any]) -> None:
        try:
            for rows, filler in self._fillers:
                filler.fill(rows[row, ...], values)
        except Exception as error:
            self.slots.drop_row(row)
            self._refuse(error)

    def _rows_due(self, block: Block) -> None:
        count = len(block)
        self.counts.due += count
        if self.is_shed and not self._blocks:
            self.counts.drops.add("memory", count)
            return
        are_open = None
        if self.gate is not None:
            block, are_open = self._let_in(self.gate, block)
            count = len(block)
            if not count:
                return
        values, keep = self._prepared(block.values)
        receipts = block.receipt_of_each()
        if len(keep) < count:
            for i in set(range(count)) - set(keep):
                receipts[i].fail("preprocess", "a step before the model could not take it")
        if not len(keep):
            return
        keys = [block.keys] * count if isinstance(block.keys, int) else block.keys.tolist()
        offset = block.offset
        times = [time + offset for time in block.time.tolist()] if offset else block.time.tolist()
        degraded = None if block.degraded is None else block.degraded.tolist()
        carried = block.carried
        if len(keep) < count:
            receipts = [receipts[i] for i in keep]
            keys = [keys[i] for i in keep]
            times = [times[i] for i in keep]
            degraded = None if degraded is None else [degraded[i] for i in keep]
            carried = None if carried is None else [carried[i] for i in keep]
            are_open = None if are_open is None else [are_open[i] for i in keep]
        if self.wake is None:
            self._no_model(values, self._passing(keys, times, block.arrival, receipts, degraded, carried))
            return
        stretches = None
        if self.states is not None:
            since = block.time.tolist()
            stretches = self.states.stretches(keys, since if len(keep) == count else [since[i] for i in keep])
        taken = self.slots.put_many(keys, times, block.arrival, receipts, degraded, carried, stretches, are_open)
        rows = [row for row in taken if row is not None]
        if not rows:
            return
        if len(rows) < len(taken):
            values = values[[i for i, row in enumerate(taken) if row is not None]]
        try:
            for array, filler in self._fillers:
                filler.fill_many(array, rows, values)
        except Exception:
            for row, i in {row: i for i, row in enumerate(rows)}.items():
                self._fill(row, values[i])
        self.wake()

    # ---- the gate ----

    def _let_in(self, gate: Gate, block: Block) -> tuple[Block, list[bool] | None]:
        """The rows that the gate does not refuse, and of each whether it is open (None: of all) or has yet to be judged."""
        keys = [block.keys] * len(block) if isinstance(block.keys, int) else block.keys.tolist()
        times = (block.time + block.offset).tolist()
        receipts, left, are_open, refused = block.receipt_of_each(), list[int](), list[bool](), 0
        for i, (key, at) in enumerate(zip(keys, times, strict=True)):
            try:
                verdict = gate.verdict(key, block.arrival, at)
            except Exception as error:
                self._refuse(error)
                receipts[i].fail(INTERNAL_ERROR, whereabouts(error))
                continue
            if verdict is False:
                refused += 1
                receipts[i].fail("gated", GATED)
                continue
            left.append(i)
            are_open.append(verdict is True)
        if refused:
            self._refuse_entry(refused)
        if len(left) < len(block):
            block = block.only(left)
        return block, None if all(are_open) else are_open

    def _refuse_entry(self, count: int) -> None:
        self.counts.gated += count
        self.counts.last_gated = self._clock.now()

    def judge(self) -> None:
        """The gate's stream got on: what waited for that may run now, or goes."""
        gate = self.gate
        if gate is None or self.slots.ready == len(self.slots):
            return
        self._guard(self._judge, gate)

    def _judge(self, gate: Gate) -> None:
        since, faults = gate.since(), list[Exception]()

        def verdict(slot: Slot) -> bool | None:
            try:
                return gate.verdict(slot.key, slot.arrival, slot.time, since)
            except Exception as error:  # else it would wait for ever
                faults.append(error)
                return False

        opened, refused = self.slots.judge(verdict, max(gate.newest, since - 1))
        for error in faults:
            self._refuse(error)
        if refused > len(faults):
            self._refuse_entry(refused - len(faults))
        if opened and self.wake is not None:
            self.wake()
        if refused:
            self._unpark()
            self._got_on()

    def _run_here(self) -> None:
        """Without a model: what the gate has let in is a result at once, as far as there is room for it."""
        while not self.counts.running and (taken := self.take(RUN_HERE, self._clock.now())):
            values = {name: np.empty((len(taken), *rows.shape[1:]), rows.dtype) for name, rows in self.slots.rows.items()}
            self.gather(taken, values, 0)
            self.finish(taken, self._named(values[SAMPLES]), {})

    def _prepared(self, values: NDArray[Any]) -> tuple[NDArray[Any], Sequence[int]]:
        """The rows after `preprocess`, and the indices of those that passed it."""
        if self._preprocess is None:
            return values, range(len(values))
        keep = list(range(len(values)))
        while keep:
            try:
                return self._preprocess(values[keep] if len(keep) < len(values) else values), keep
            except StepError as error:
                self._refuse(error)
                del keep[error.row]
            except Exception:
                return self._prepared_alone(values, keep)
        return values[:0], keep

    def _prepared_alone(self, values: NDArray[Any], rows: Sequence[int]) -> tuple[NDArray[Any], Sequence[int]]:
        assert self._preprocess is not None
        kept, prepared = [], []
        for i in rows:
            try:
                prepared.append(self._preprocess(values[i : i + 1]).copy())
                kept.append(i)
            except Exception as error:
                self._refuse(error)
        return (np.concatenate(prepared) if prepared else values[:0]), kept

    @staticmethod
    def _passing(
        keys: Sequence[int],
        times: Sequence[int],
        arrival: int,
        receipts: Sequence[Receipt],
        degraded: Sequence[bool] | None,
        carried: Carried | None,
    ) -> list[Slot]:
        for receipt in receipts:
            receipt.hold()
        flags = degraded if degraded is not None else [False] * len(keys)
        texts = carried if carried is not None else [None] * len(keys)
        return [Slot(0, k, t, arrival, r, d, c) for k, t, r, d, c in zip(keys, times, receipts, flags, texts, strict=True)]

    def _no_model(self, values: NDArray[Any], slots: list[Slot]) -> None:
        self.counts.running += len(slots)
        self._taken = slots
        self.finish(slots, self._named(values), {})

    def _named(self, values: NDArray[Any]) -> Arrays:
        """Without a model the fields themselves are the outputs, by name."""
        return {f.name: values[..., f.start] if not f.shape else self._tensor(values, f) for f in self._fields}

    @staticmethod
    def _tensor(values: NDArray[Any], field: Field) -> NDArray[Any]:
        return values[..., field.start : field.stop].reshape(*values.shape[:-1], *field.shape)

    # ---- the model's side ----

    def waiting(self) -> int:
        """Rows that may be taken now: with `overflow = "block"` no more than their results find room for."""
        count = self.slots.ready
        if not count or (self.after and self.is_held):
            return 0
        return min(count, self._output_room()) if self._blocks else count

    def take(self, limit: int, now: int) -> list[Slot]:
        if self._blocks:
            limit = min(limit, self._output_room())
        elif self.after and self.is_held:
            limit = 0
        taken = self._take_fresh(limit, now) if self._deadline else self.slots.take(limit)
        self._taken = [*self._taken, *taken] if self.counts.running else taken
        self.counts.running += len(taken)
        if self._deadline:
            self._got_on()  # some may have gone on the way
        return taken

    def _take_fresh(self, limit: int, now: int) -> list[Slot]:
        """Leaves out what would be too old after a run: else, under overload, every run would be spent on such rows."""
        self._taken_at = now
        ahead = min(self._run_ns, int(self._deadline * MAX_RUN)) + int(self._deadline * SENDING)
        taken = self.slots.take_fresh(limit, now - self._deadline + ahead)
        if self._parked and not taken:  # no run, so nobody else would see that rows are free
            self._unpark()
        return taken

    def gather(self, slots: list[Slot], inputs: Arrays, start: int) -> None:
        try:
            self.slots.gather(slots, inputs, start)
            if self.states is not None:
                self.states.gather(slots, inputs, start)
        finally:
            if self._parked:
                self._unpark()

    def finish(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        """Turns the outputs of a run into results, in order, and offers each to every `publish`."""
        self._is_finishing = True
        self._guard(self._finish_all, slots, outputs, inputs)
        self._is_finishing = False
        if self._is_holding and not self.is_full:
            for pipeline in self.before:
                pipeline.resume()
        self._got_on()

    def _finish_all(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        left = self.counts.running - len(slots)
        try:
            self._finish(slots, outputs, inputs)
        finally:
            self.counts.running = left  # whatever became of these rows, they run no more

    def _finish(self, slots: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        try:
            if self.states is not None:
                self.states.keep(slots, outputs)
            slots, bodies, refused = self._bodies(slots, outputs, inputs)
        except Exception as error:
            if len(slots) == 1:
                return self.fail(slots[0], error)
            for i, slot in enumerate(slots):
                alone = ({name: x[i : i + 1] for name, x in arrays.items()} for arrays in (outputs, inputs))
                self._finish([slot], *alone)
            return
        for slot, refusal in refused:
            self.fail(slot, refusal)
        if not slots:
            return
        counts, now = self.counts, self._clock.now()
        if self._deadline:
            slots, bodies = self._in_time(slots, bodies, now)
            if not slots:
                return
        try:
            made = [slot for slot, body in zip(slots, bodies, strict=True) if self._result(slot, body, now)]
            if self.followers:
                self._pass_on(slots, bodies)
        finally:
            for slot in slots:
                slot.receipt.done()
        if made:
            counts.last_result = now
            counts.age.add(now - made[-1].arrival, len(made))
        if next_due(self.publishes) is not None:
            self._set_alarm()

    def _result(self, slot: Slot, body: dict[str, Any] | None, now: int) -> bool:
        """What was run becomes a result, for whoever asked or for every `publish`; False where there is none."""
        counts = self.counts
        counts.running -= 1
        if body is None:
            counts.drops.add("not_finite", detail=NOT_FINITE)
            slot.receipt.fail("not_finite", NOT_FINITE)
            if self.states is not None:
                self.states.forget(slot.key)  # else it would stay so for ever
            return False
        result = Result(body, slot.key, counts.next_seq, slot.time, slot.arrival, slot.degraded, slot.carried)
        counts.next_seq += 1
        if self.tellers:
            fan_out(self.tellers, self.lose, result, now)
        if slot.receipt.is_request:
            counts.published += 1
            self._reply(result, slot.receipt, now)
            return True
        sent = not self.publishes
        for publish in self.publishes:
            sent |= publish.offer(result, slot.receipt, now)
        if sent:
            counts.published += 1
        else:
            counts.filtered += 1
        if not slot.degraded and is_hollow(body):
            counts.hollow += 1
            counts.drops.note("not_finite", 1, HOLLOW)
        return True

    def _reply(self, result: Result, request: Receipt, now: int) -> None:
        assert self._answer is not None
        try:
            request.answer(*self._answer(result, now), now)
        except Exception as error:
            request.fail(INTERNAL_ERROR, whereabouts(error))

    def _in_time(
        self, slots: list[Slot], bodies: list[dict[str, Any] | None], now: int
    ) -> tuple[list[Slot], list[dict[str, Any] | None]]:
        """What may still be published; the rest is dropped and counted. Learns how long a run takes."""
        if self.wake is not None:
            self._run_ns = max(now - self._taken_at, self._run_ns * 7 // 8)
        since = now - self._deadline
        late = [slot for slot in slots if slot.arrival < since]
        if not late:
            return slots, bodies
        self.counts.running -= len(late)
        self.counts.drops.add("expired", len(late))
        for slot in late:
            slot.receipt.fail("expired", TOO_OLD)
            slot.receipt.done()
        kept = [i for i, slot in enumerate(slots) if slot.arrival >= since]
        return [slots[i] for i in kept], [bodies[i] for i in kept]

    def _pass_on(self, slots: Sequence[Slot], bodies: Sequence[dict[str, Any] | None]) -> None:
        """Results as samples of the next pipelines, each with the receipt of its own input. Answers are for who asked."""
        made = [(s, body) for s, body in zip(slots, bodies, strict=True) if body is not None and not s.receipt.is_request]
        for arrival, group in groupby(made, lambda one: one[0].arrival):
            self._pass_on_block(list(group), arrival)

    def _pass_on_block(self, made: Sequence[tuple[Slot, dict[str, Any]]], arrival: int) -> None:
        values = np.empty((len(made), self._results[-1][0].stop))
        for row, (_, body) in zip(values, made, strict=True):
            for field, path in self._results:
                row[field.start : field.stop] = np.ravel(value_at(body, path))
        block = Block(
            values,
            np.array([slot.time for slot, _ in made], np.int64),
            0,
            arrival,
            np.array([slot.key for slot, _ in made], np.int32),
            [slot.receipt for slot, _ in made],
            np.array([slot.degraded for slot, _ in made], np.bool_),
            tuple(self._restarts),
            [slot.carried for slot, _ in made] if any(slot.carried is not None for slot, _ in made) else None,
        )
        self._restarts.clear()
        fan_out(self.followers, self.lose, block)

    def _bodies(
        self, slots: list[Slot], outputs: Arrays, inputs: Arrays
    ) -> tuple[list[Slot], list[dict[str, Any] | None], list[tuple[Slot, StepError]]]:
        """What the results say, without the rows that `postprocess` could not take. Counts nothing yet."""
        refused: list[tuple[Slot, StepError]] = []
        if self.states is not None and self._postprocess is not None:
            outputs = self.states.without(outputs)
        while self._postprocess is not None and slots:
            try:
                outputs = self._postprocess(outputs, len(slots))
                break
            except StepError as error:
                refused.append((slots[error.row], error))
                keep = [i for i in range(len(slots)) if i != error.row]
                slots = [slots[i] for i in keep]
                outputs, inputs = ({n: x[keep] for n, x in arrays.items()} for arrays in (outputs, inputs))
        if not slots:
            return slots, [], refused
        keys, carried = [slot.key for slot in slots], [slot.carried for slot in slots]
        return slots, self.head.results(outputs, inputs, keys, carried), refused

    def fail(self, slot: Slot, error: Exception) -> None:
        """This row cannot be run, or has no result: counted, its input settled."""
        self.counts.running -= 1
        reasons = {StepError: "postprocess", RunFailed: "model_error"}
        reason = reasons.get(type(error), INTERNAL_ERROR)
        detail = whereabouts(error) if reason == INTERNAL_ERROR else str(error)
        self.counts.drops.add(reason, detail=detail)
        slot.receipt.fail(reason, detail)
        slot.receipt.done()
        if not self._is_finishing:
            self._got_on()

    def supersede(self, receipts: AbstractSet[Receipt]) -> None:
        """The connection that these inputs came by is gone, and the broker sends them again: what waits of them and has not
        entered a ring or a run is dropped, or each would give two results. Of samples with a time of their own the ring
        leaves out the second instead."""
        if self._tells_again:
            return
        kept = deque(parked for parked in self._parked if not receipts >= parked.receipts)
        parked = (sum(map(len, self._parked)) - sum(map(len, kept))) // self._hop
        self._parked = kept
        self.counts.due += parked
        if lost := parked + self.slots.supersede(receipts):
            self.counts.drops.add("superseded", lost)
        self._unpark()
        self._got_on()

    def take_over(self, before: Pipeline, has_its_samples: bool) -> None:
        """After a reload: goes on with what the pipeline of the same name was doing. `has_its_samples`: blocks that it had parked
        are such as this one takes; else they are left to it, to be run out."""
        before.retire()
        self.counts.drops.forgive()
        self._run_ns = before._run_ns
        self._restarts |= before._restarts
        if has_its_samples:
            self._parked, before._parked = before._parked, deque()
            before._let_go()
            if self._parked and self._blocks:
                self._is_holding = True
                self._hold_sources(True)
        self.resume()
        self._set_alarm()

    def _let_go(self) -> None:
        if not self._parked and self._is_holding:
            self._is_holding = False
            self._hold_sources(False)
            for pipeline in self.before:
                pipeline.resume()

    def abandon(self) -> int:
        """At a stop: what still waits is given up and counted; returns how many rows and windows that were. Receipts are kept:
        inputs that were not acknowledged come again."""
        lost = self.slots.forget(settles=False)
        parked = sum(map(len, self._parked)) // self._hop
        self._parked.clear()
        self.counts.due += parked
        if lost + parked:
            self.counts.drops.add("shutdown", lost + parked)
        return lost + parked

    def say_last(self, but: Sequence[Publish] = ()) -> None:
        """Publishes what `min_interval` holds back, at a stop or where a reload ends an entry. Those of `but` go on elsewhere."""
        now = self._clock.now()
        for publish in self.publishes:
            if publish not in but:
                publish.flush(now)

    def retire(self) -> None:
        """No block comes any more, after a reload: what waits is run out, before what waits for others."""
        self._is_retired = True
        self.priority = RETIRED

    def _set_alarm(self) -> None:
        if self._is_retired:
            return
        due = next_due(self.publishes)
        if self.aligner is not None and (joined := self.aligner.next_due) is not None:
            joined -= self._clock.offset()
            due = joined if due is None else min(due, joined)
        if due is not None:
            self._alarm(due)
