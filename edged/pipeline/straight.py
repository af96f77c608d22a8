"""The straight path: a row that comes alone, while nothing waits, goes as far as it gets in one chain of calls.

    push --> StraightRow.takes ... end of the wake-up --> run: fill, run, exit
    push --> StraightWindow.takes: into its ring, where no window is complete by it

The first takes no slot, no second turn of the loop and no part in a batch. What is put into a batch by anybody else in the same
wake-up, what cannot be prepared or run, and what the model has no time for goes the long way instead, before anything was counted
of it: all ways count, acknowledge and publish the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edged.clock.spent import spends
from edged.clock.tail import Tail
from edged.model.inputs import AnyFiller
from edged.pipeline.counts import Guard
from edged.pipeline.exit import Exit
from edged.pipeline.preprocess import Preprocess
from edged.pipeline.slots import Slots
from edged.pipeline.window import WindowStage
from edged.records import Block, Slot

Arrays = dict[str, NDArray[Any]]
Fill = Callable[[NDArray[Any], NDArray[Any]], object]


class Solo(Protocol):
    """A model, as whoever has a single row sees it."""

    def claim(self, give_up: Callable[[], object], arrival: int) -> bool:
        """Whether a row that came at `arrival` may run alone at the end of this wake-up; `give_up` is called if it may not after
        all, since another one came."""

    def first_row(self) -> Arrays:
        """Where a single row goes, by input."""

    def unclaim(self) -> None:
        """Gives up what was claimed."""

    def run_one(self) -> Arrays | None:
        """The outputs of the row that is there; None if it cannot be run, of which nothing is counted."""


class Straight(Protocol):
    """A way that is tried before the long one."""

    def takes(self, source: int, block: Block) -> bool:
        """Whether the block is one row that goes this way."""

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
        return window.takes(key, block.values[0], block.time.item(0))

    def close(self) -> None:
        self._window = None


class StraightRow:
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
        may_enter: Callable[[], bool],
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
        self._fillers = fillers
        self._inputs: Arrays = {}
        self._fills: Sequence[tuple[Fill, NDArray[Any]]] = ()
        self._may_enter = may_enter
        self._long_way = long_way
        self._run_as_stage = stage(self._run)
        self._source = 0
        self._block: Block | None = None

    def takes(self, source: int, block: Block) -> bool:
        if self._block is not None:
            self._model.unclaim()  # the two go together
            return False
        if (
            not self._tail.is_open
            or len(block.values) != 1
            or block.restarts
            or block.seen is not None
            or block.has_requests
            or len(self._slots)
            or not self._may_enter()
            or not self._model.claim(self._give_up, block.arrival)
        ):
            return False
        block.receipts[0].hold()
        self._source, self._block = source, block
        self._tail.add(self._run_as_stage)
        return True

    def _give_up(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            self._long_way(self._source, block)
            block.receipts[0].done()

    def _run(self) -> None:
        block = self._block
        if block is None:
            return
        inputs = self._model.first_row()
        if inputs is not self._inputs:  # of another session
            self._inputs = inputs
            self._fills = [(filler.fill, inputs[name][0, ...]) for name, filler in self._fillers.items()]
        try:
            values = (block.values if self._preprocess is None else self._preprocess(block.values))[0]
            for fill, row in self._fills:
                fill(row, values)
        except Exception:  # to be counted where it is a row like any other
            return self._model.unclaim()
        outputs = self._model.run_one()
        if outputs is None:
            return self._give_up()
        self._block = None
        keys = block.keys
        key = keys if isinstance(keys, int) else keys.item(0)
        degraded = block.degraded is not None and bool(block.degraded[0])
        carried = block.carried[0] if block.carried is not None else None
        self._finish(
            Slot(0, key, block.time.item(0) + block.offset, block.arrival, block.receipts[0], degraded, carried), outputs, inputs
        )

    @spends("results")
    def _finish(self, slot: Slot, outputs: Arrays, inputs: Arrays) -> None:
        try:
            self._exit.finish_one(slot, outputs, inputs)
        except Exception as error:
            self._guard.settle(error)

    def close(self) -> None:
        self._inputs, self._fills, self._fillers = {}, (), {}
