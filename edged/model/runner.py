"""One model and the pipelines that share it: gathers what waits, runs it, hands the results out.

    feeders (rows that wait) --take, gather--> session.inputs --run--> outputs --finish--> feeders
                                  turn          inline or on the worker       finish

Whatever waits when a run ends is the next run. Every step but the run itself is on the loop; there is one run at a time, its
rows keep the order in which they were taken, and one pipeline's rows are taken oldest first, so each key's order holds.
`scheduling` has what decides whose rows a run takes, and how long it waits for more of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.clock.spent import Spent, spends
from edged.model.gpu.providers import THREADS
from edged.model.records import Feeder, LoadReport, RunFailed, Session
from edged.model.scheduling import Lone, Loop, Patience, Share, deal
from edged.model.worker import Workers
from edged.records import Slot
from edged.system.hang_recorder import Stages
from edged.telemetry import Histogram

Arrays = dict[str, NDArray[Any]]

GAP_NS = 60_000
"""A row that comes sooner after a run came together with others, by another socket: they are better off in one batch."""
TURN_NS = 5_000_000
"""So long inline runs may follow each other within one turn of the loop."""
RUNS_AT_ONCE = 4
"""So many runs of a full batch may be claimed for the end of a wake-up."""


class Loaded(NamedTuple):
    """What a swap replaces, whole, between two runs."""

    session: Session
    report: LoadReport


class Part(NamedTuple):
    """One feeder's share of a batch: its slots lie in rows `start:stop`."""

    feeder: Feeder
    slots: list[Slot]
    start: int
    stop: int


class Outcome(NamedTuple):
    """What a run gave: `outputs` of the rows that ran, and by row what went wrong with the others."""

    outputs: Arrays
    failed: dict[int, Exception]
    took_ns: int
    spent_ns: int = 0
    """Processor time of the thread that ran it, where that is not the loop's."""


@dataclass(slots=True)
class Counts:
    """`rows` went through in `runs`; `failed` of them could not be run even alone, after `repeats` batches were taken apart."""

    runs: int = 0
    rows: int = 0
    failed: int = 0
    repeats: int = 0
    time: Histogram = field(default_factory=Histogram)
    spent: Spent = field(default_factory=lambda: {"batch": 0, "run": 0})
    shared: int = 0
    """Of `spent["run"]`, what feeders have been given."""


class Staged(NamedTuple):
    """The work of a model under the names by which a hang is told."""

    turn: Callable[[], None]
    finish: Callable[[Outcome], None]
    on_worker: Callable[[], AbstractContextManager[object]]


class Model:
    """`now` is the monotonic clock in ns, `call_soon` and `call_later` the loop's. `workers` is shared by all models."""

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        call_soon: Callable[..., Any],
        now: Callable[[], int],
        workers: Workers,
        stages: Stages | None = None,
        call_later: Callable[..., Any] | None = None,
    ) -> None:
        stages = stages or Stages(now)
        self.name = name
        self.loaded = loaded
        self.counts = Counts()
        self.running: list[Part] | None = None
        self.running_since = 0
        self.last_error = ""
        self._loop = Loop(call_soon, call_later, now)
        self._workers = workers
        self._staged = Staged(
            stages.wrap(f"model.{name}", self._turn),
            stages.wrap(f"model.{name}: results", self._finish_worker),
            lambda: stages.on_worker(f"model.{name}: a run"),
        )
        self._patience = Patience(self._loop, self._wake_again)
        self._lone = Lone()
        self._shares: list[Share] = []
        self._next: tuple[Loaded, Callable[[], None]] | None = None
        self._is_scheduled = False
        self._is_closed = False

    @property
    def state(self) -> str:
        """`running`, `idle`, `failing` (the last run had rows that cannot be run) or `closed`."""
        if self._is_closed:
            return "closed"
        if self.last_error:
            return "failing"
        return "idle" if self.running is None else "running"

    @property
    def reason(self) -> str:
        return self.last_error or "; ".join(self.loaded.report.reasons)

    @property
    def priority(self) -> int:
        """The highest of its pipelines'."""
        return self._shares[0].feeder.priority if self._shares else 0

    @property
    def batch_mean(self) -> float:
        return self.counts.rows / self.counts.runs if self.counts.runs else 0.0

    def feed_from(self, feeders: Sequence[Feeder], delay_ns: int = 0) -> None:
        """These and no others from now on; what those that stay are owed stays. The higher `priority` is served first; among
        equals rows are dealt out fairly. With `delay_ns` a run that would be no full batch waits for this long after the first of
        its rows came."""
        self._patience.delay_ns = delay_ns
        credits = {id(share.feeder): share.credit for share in self._shares}
        self._shares = [Share(feeder, credits.get(id(feeder), 0)) for feeder in feeders]
        self._shares.sort(key=lambda s: -s.feeder.priority)
        self._wake_again()

    def wake(self) -> None:
        """A feeder has rows. They are taken in a later turn, so that all that comes in this one goes together."""
        if self._lone.give_up is not None:
            self.unclaim()  # what came alone, as it seemed, goes with this
        self._patience.begin()
        if not self._is_scheduled and self.running is None and not self._is_closed:
            self._is_scheduled = True
            self._loop.soon(self._staged.turn)

    def claim(self, give_up: Callable[[], object], arrival: int, rows: int) -> bool:
        """Whether `rows` that came at `arrival` may run at the end of this wake-up, by `run_claimed`, while nothing waits: those
        of the only feeder, since nobody else has any in this turn; else a single one, as long as rows come one at a time.
        `give_up` is called if they may not, since others came; then all of them wait."""
        lone, (session, report) = self._lone, self.loaded
        if lone.give_up is not None:
            self.unclaim()
            return False
        if (
            self._is_scheduled
            or self.running is not None
            or report.run != "inline"
            or report.is_held
            or self._patience.delay_ns
            or self._is_closed
        ):
            return False
        if len(self._shares) == 1:
            if rows > RUNS_AT_ONCE * session.batch_max:
                return False
        elif rows != 1 or lone.last_rows != 1 or arrival - lone.idle_since < GAP_NS:
            return False
        lone.give_up = give_up
        return True

    def unclaim(self) -> None:
        """Another one came: the row waits with the others."""
        give_up, self._lone.give_up = self._lone.give_up, None
        if give_up is not None:
            give_up()

    @property
    def session(self) -> Session:
        return self.loaded.session

    @spends("run")
    def run_claimed(self, count: int) -> Arrays | None:
        """Runs the first rows of the session's inputs, which were claimed; None if that fails, of which nothing is counted: they
        are to be run with the others."""
        now = self._loop.now
        self._lone.give_up = None
        self.running_since = started = now()
        try:
            outputs = self.loaded.session.run(count)
        except Exception:
            return None
        self._count(count, now() - started)
        return outputs

    @property
    def has_time(self) -> bool:
        """Whether another run may follow the last one within this wake-up: that one, with what came of it, was short."""
        return self._loop.now() - self.running_since < TURN_NS // RUNS_AT_ONCE

    def _count(self, rows: int, took_ns: int) -> None:
        """A run has ended."""
        counts, lone = self.counts, self._lone
        counts.runs += 1
        counts.rows += rows
        counts.time.add(took_ns)
        lone.last_rows, lone.idle_since = rows, self.running_since + took_ns
        self.last_error = ""

    def take_spent(self) -> int:
        """Processor time of runs that no feeder has been given yet: an inline run is measured now and then."""
        counts = self.counts
        spent = counts.spent["run"] - counts.shared
        counts.shared += spent
        return spent

    def hurry(self) -> None:
        """Nothing more comes that would be worth a wait."""
        self._patience.delay_ns = 0
        self.wake()

    def amend(self, loaded: Loaded) -> None:
        """Something else is to be said of the session that stays as it is."""
        self.loaded = loaded

    def replace(self, loaded: Loaded, then: Callable[[], None]) -> None:
        """Runs from the next one on with another session, and calls `then` when no result of the one before is to come any
        more; the slots that wait are not touched."""
        if self.running is None:
            self.loaded = loaded
            then()
        else:
            self._next = (loaded, then)

    def close(self) -> None:
        """No further run begins; one in progress still finishes."""
        self._is_closed = True

    @spends("batch")
    def _turn(self) -> None:
        """Begins a run; inline ones follow each other for a while, so that sources that read once a turn do not outpace a
        model that could keep up."""
        self._is_scheduled = False
        since = self._loop.now()
        while self._begin() and self.running is None:
            if self._loop.now() - since >= TURN_NS:
                return self._wake_again()

    def _begin(self) -> bool:
        """One run of what waits, to its end if it is inline; whether there was something to run."""
        if self.running is not None or self._is_closed:
            return False
        if self._patience.waits(self._count_waiting, self.loaded.session.batch_max):
            return False
        if self.loaded.report.is_held:  # who keeps the place of a provider that is required gives no results
            return False
        session, report = self.loaded
        self.running_since = self._loop.now()
        taken = self._take(session.batch_max)
        if not taken:
            return False
        self._patience.take(self.running_since, self._count_waiting)
        parts, count = _gather(taken, session.inputs)
        if not count:
            return True
        self.running = parts
        if report.run == "inline":
            self._finish(self._run_inline(session, count))
            return True
        kind = THREADS.get(report.provider, report.provider)
        self._workers.submit(kind, lambda: self._run_on_worker(session, count), self._staged.finish, self.priority)
        return True

    def _count_waiting(self) -> int:
        return sum(share.feeder.waiting() for share in self._shares)

    @spends("run")
    def _run_inline(self, session: Session, count: int) -> Outcome:
        return run_rows(session, count, self._loop.now)

    def _run_on_worker(self, session: Session, count: int) -> Outcome:
        with self._staged.on_worker():
            before = time.thread_time_ns()
            outcome = run_rows(session, count, self._loop.now)
            return outcome._replace(spent_ns=time.thread_time_ns() - before)

    @spends("batch")
    def _finish_worker(self, outcome: Outcome) -> None:
        try:
            self._finish(outcome)
        finally:
            self._wake_again()

    def _wake_again(self) -> None:
        if any(share.feeder.waiting() for share in self._shares):
            self.wake()

    def _take(self, limit: int) -> list[tuple[Feeder, list[Slot]]]:
        now, count = self.running_since, 0
        if len(self._shares) == 1:
            feeder = self._shares[0].feeder
            slots = feeder.take(limit, now)
            return [(feeder, slots)] if slots else []
        taken: list[tuple[Feeder, list[Slot]]] = []
        while count < limit and (due := deal(self._shares, limit - count)):
            before = count
            for feeder, most in due:
                if slots := feeder.take(most, now):
                    taken.append((feeder, slots))
                    count += len(slots)
            if count == before:  # else once more: expired rows left room
                break
        return taken

    def _finish(self, outcome: Outcome) -> None:
        parts = self.running or []
        self._count(parts[-1].stop, outcome.took_ns)
        self.counts.spent["run"] += outcome.spent_ns
        if spent := self.take_spent():
            for feeder, slots, _, _ in parts:
                feeder.counts.spent["run"] += spent * len(slots) // parts[-1].stop
        try:
            self._hand_out(parts, outcome)
        finally:  # whatever became of the results, the next run may begin
            self.running = None
            if self._next is not None:
                (self.loaded, then), self._next = self._next, None
                then()

    def _hand_out(self, parts: list[Part], outcome: Outcome) -> None:
        inputs, outputs = self.loaded.session.inputs, outcome.outputs
        if outcome.failed:
            self._fail(parts, outcome.failed, outcome, inputs)
        elif len(parts) == 1:
            feeder, slots, _, stop = parts[0]
            feeder.finish(slots, outputs, {n: x[:stop] for n, x in inputs.items()})
        else:
            for feeder, slots, start, stop in parts:
                rows = slice(start, stop)
                feeder.finish(slots, {n: y[rows] for n, y in outputs.items()}, {n: x[rows] for n, x in inputs.items()})

    def _fail(self, parts: list[Part], failed: dict[int, Exception], outcome: Outcome, inputs: Arrays) -> None:
        """Hands out the rows that ran, in order, and rejects the others."""
        self.counts.repeats += 1
        self.counts.failed += len(failed)
        self.last_error = str(next(iter(failed.values())))
        for feeder, slots, start, stop in parts:
            good = [i for i in range(start, stop) if i not in failed]
            if good:
                kept = [slots[i - start] for i in good]
                outputs = {n: y[good] for n, y in outcome.outputs.items()}
                feeder.finish(kept, outputs, {n: x[good] for n, x in inputs.items()})
            for i in range(start, stop):
                if i in failed:
                    feeder.fail(slots[i - start], failed[i])


def _gather(taken: list[tuple[Feeder, list[Slot]]], inputs: Arrays) -> tuple[list[Part], int]:
    """Copies what was taken into `inputs`. A fault of a feeder's costs the rows it had here, and nobody else's."""
    parts, count = list[Part](), 0
    for feeder, slots in taken:
        try:
            feeder.gather(slots, inputs, count)
        except Exception as error:
            for slot in slots:
                feeder.fail(slot, error)
            continue
        parts.append(Part(feeder, slots, count, count + len(slots)))
        count += len(slots)
    return parts, count


def run_rows(session: Session, count: int, now: Callable[[], int]) -> Outcome:
    """Runs the first `count` rows; if that fails, each once alone, so that one bad row costs nobody else."""
    started = now()
    try:
        outputs = session.run(count)
    except Exception as e:  # also one that is a fault of ours: whoever waits for this run must hear of its end
        if count == 1:
            return Outcome({}, {0: e}, now() - started)
        return _run_one_by_one(session, count, started, now)
    return Outcome(outputs, {}, now() - started)


def _run_one_by_one(session: Session, count: int, started: int, now: Callable[[], int]) -> Outcome:
    """Each row is put in every place, so that padding is no other row; the arrays are as they were afterwards, except that
    no bad row is left where it could be padding later."""
    inputs = session.inputs
    rows = {n: x[:count].copy() for n, x in inputs.items()}
    outputs: Arrays = {}
    failed: dict[int, Exception] = {}
    for i in range(count):
        for name, x in inputs.items():
            x[:] = rows[name][i]
        try:
            answer = session.run(1)
        except Exception as e:
            failed[i] = e
            continue
        for name, y in answer.items():
            kept = outputs.setdefault(name, np.empty((count, *y.shape[1:]), y.dtype))
            if kept.shape[1:] != y.shape[1:]:
                failed[i] = RunFailed(f"output {name} has the shape {y.shape[1:]} for this row, {kept.shape[1:]} for others")
                break
            kept[i] = y[0]
    harmless = next((i for i in range(count) if i not in failed), None)
    for name, x in inputs.items():
        x[:] = 0 if harmless is None else rows[name][harmless]
        for i in range(count):
            if i not in failed:
                x[i] = rows[name][i]
    return Outcome(outputs, failed, now() - started)
