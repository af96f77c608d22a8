"""The straight path: rows that come while nothing waits go as far as they get in one chain of calls.

    push --> StraightRows.takes ... end of the wake-up --> run: fill, run, exit
    push --> StraightWindow.takes: into its ring, where no window is complete by it

The first take no slots, no second turn of the loop and no part in a batch of others, and are copied once, into the model's own
inputs. What is put into a batch by anybody else in the same wake-up, what cannot be prepared or run, and what the model has no
time for goes the long way instead, before anything was counted of it: all ways count, acknowledge and publish the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edged.clock.spent import spends
from edged.clock.tail import Tail
from edged.model.inputs import AnyFiller
from edged.model.records import Session
from edged.pipeline.counts import Guard
from edged.pipeline.exit import Exit
from edged.pipeline.preprocess import Preprocess
from edged.pipeline.slots import Slots
from edged.pipeline.window import WindowStage
from edged.records import NONE, Block, Slot

Arrays = dict[str, NDArray[Any]]
Fill = Callable[[NDArray[Any], NDArray[Any]], object]


class Solo(Protocol):
    """A model, as whoever has rows that need not wait sees it."""

    running_since: int

    def claim(self, give_up: Callable[[], object], arrival: int, rows: int) -> bool:
        """Whether so many rows, which came at `arrival`, may run at the end of this wake-up; `give_up` is called if they may not
        after all, since others came."""

    @property
    def session(self) -> Session:
        """Whose `inputs` the rows are for."""

    def unclaim(self) -> None:
        """Gives up what was claimed."""

    def run_claimed(self, count: int) -> Arrays | None:
        """The outputs of the first rows of the inputs; None if they cannot be run, of which nothing is counted."""

    @property
    def has_time(self) -> bool:
        """Whether another run may follow the last one within this wake-up."""

    def take_spent(self) -> int:
        """Processor time of runs, to be counted by who asked for them."""


class Straight(Protocol):
    """A way that is tried before the long one."""

    def takes(self, source: int, block: Block) -> bool:
        """Whether the block goes this way."""

    def close(self) -> None:
        """Lets go of what is large."""


class StraightWindow:
    """Most rows of a window complete none: they only go behind those that came before."""

    def __init__(self, window: WindowStage, may_enter: Callable[[], bool]) -> None:
        self._window: WindowStage | None = window
        self._may_enter = may_enter

    def takes(self, source: int, block: Block) -> bool:
        window, key = self._window, block.keys
        if (
            window is None
            or len(block.values) != 1
            or not isinstance(key, int)
            or block.restarts
            or block.seen is not None
            or block.degraded is not None
            or block.has_requests
            or not self._may_enter()
        ):
            return False
        return window.takes(key, block.values[0], block.stamps if isinstance(block.stamps, int) else block.stamps.item(0))

    def close(self) -> None:
        self._window = None


class Bound:
    """Prepared rows into the inputs that a session is bound to."""

    def __init__(self, fillers: Mapping[str, AnyFiller]) -> None:
        self._fillers = fillers
        self._inputs: Arrays = {}
        self._first: Sequence[tuple[Fill, NDArray[Any]]] = ()
        """What puts a single row into those inputs."""

    def fill(self, inputs: Arrays, values: NDArray[Any]) -> None:
        """Raises what fillers raise."""
        count = len(values)
        if count > 1:
            for name, filler in self._fillers.items():
                filler.fill_all(inputs[name][:count], values)
            return
        if inputs is not self._inputs:
            self._bind(inputs)
        for fill, row in self._first:
            fill(row, values)

    def _bind(self, inputs: Arrays) -> None:
        """From now on those of another session."""
        self._inputs = inputs
        self._first = [(filler.fill_all, inputs[name][:1]) for name, filler in self._fillers.items()]


class StraightRows:
    """`exit` publishes what was run; `long_way` is how all other blocks come in."""

    def __init__(
        self,
        model: Solo,
        tail: Tail,
        slots: Slots,
        exit: Exit,
        guard: Guard,
        preprocess: Preprocess | None,
        fillers: Mapping[str, AnyFiller],
        may_enter: Callable[[int], bool],
        long_way: Callable[[int, Block], object],
        stage: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:
        self.counts = exit.counts
        self._model = model
        self._tail = tail
        self._slots = slots
        self._exit = exit
        self._guard = guard
        self._preprocess = preprocess
        self._bound = Bound(fillers)
        self._may_enter = may_enter
        self._long_way = long_way
        self._run_as_stage = stage(self._run)
        self._source = 0
        self._block: Block | None = None
        self._rows: list[Slot] = []

    def takes(self, source: int, block: Block) -> bool:
        if self._block is not None:
            self._model.unclaim()  # the two go together
            return False
        count = len(block.values)
        if (
            not self._tail.is_open
            or not count
            or block.restarts
            or block.seen is not None
            or block.has_requests
            or self._slots.waiting
            or not self._may_enter(count)
            or not self._model.claim(self._give_up, block.arrival, count)
        ):
            return False
        self._source, self._block, self._rows = source, block, rows_of(block)
        for row in self._rows:
            if row.receipt is not NONE:
                row.receipt.hold()
        self._tail.add(self._run_as_stage)
        return True

    def _give_up(self) -> None:
        block, rows = self._block, self._rows
        self._block, self._rows = None, []
        if block is not None:
            self._go_the_long_way(block, rows)

    def _go_the_long_way(self, block: Block, rows: list[Slot]) -> None:
        self._long_way(self._source, block)
        for row in rows:
            row.receipt.done()

    def _run(self) -> None:
        block, session = self._block, self._model.session
        if block is None:
            return
        try:
            values = block.values if self._preprocess is None else self._preprocess(block.values)
        except Exception:  # to be counted where they are rows like any others
            return self._model.unclaim()
        rows, self._block, self._rows = self._rows, None, []
        count, most = len(rows), session.batch_max
        if count <= most:
            done = count if self._run_rows(session, rows, values) else 0
        else:
            done = self._run_parts(session, rows, values, most)
        if done < count:
            self._go_the_long_way(block.part(done, count), rows[done:])

    def _run_parts(self, session: Session, rows: list[Slot], values: NDArray[Any], most: int) -> int:
        """Runs of at most so many rows, as long as there is time; returns how many rows have run."""
        for start in range(0, len(rows), most):
            part = slice(start, start + most)
            if (start and not self._model.has_time) or not self._run_rows(session, rows[part], values[part]):
                return start
        return len(rows)

    def _run_rows(self, session: Session, rows: list[Slot], values: NDArray[Any]) -> bool:
        """One run, and on with what came of it; whether they could be run."""
        try:
            self._bound.fill(session.inputs, values)
        except Exception:
            return False
        outputs = self._model.run_claimed(len(rows))
        if spent := self._model.take_spent():
            self.counts.spent["run"] += spent
        if outputs is None:
            return False
        self._finish(rows, outputs, session.inputs)
        return True

    @spends("results")
    def _finish(self, rows: list[Slot], outputs: Arrays, inputs: Arrays) -> None:
        try:
            self._exit.finish_fresh(rows, outputs, inputs, self._model.running_since)
        except Exception as error:
            self._guard.settle(error)

    def close(self) -> None:
        self._bound, self._rows = Bound({}), []


def rows_of(block: Block) -> list[Slot]:
    """What is known of each row, as of those that wait in slots."""
    count, offset, arrival, key, stamps = len(block.values), block.offset, block.arrival, block.keys, block.stamps
    if count == 1 and isinstance(key, int) and isinstance(stamps, int) and block.degraded is None:
        return [
            Slot(0, key, stamps + offset, arrival, block.receipts[0], False, None if block.carried is None else block.carried[0])
        ]
    return _rows_of_many(block)


def _rows_of_many(block: Block) -> list[Slot]:
    count, offset, arrival, key, stamps = len(block.values), block.offset, block.arrival, block.keys, block.stamps
    keys = [key] * count if isinstance(key, int) else key.tolist()
    times = [stamps] * count if isinstance(stamps, int) else stamps.tolist()
    flags = [False] * count if block.degraded is None else block.degraded.tolist()
    each = zip(keys, times, block.receipt_of_each(), flags, block.carried or [None] * count, strict=True)
    return [Slot(0, key, time + offset, arrival, receipt, flag, text) for key, time, receipt, flag, text in each]
