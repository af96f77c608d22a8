"""How a pipeline is wired to the others: made whole by whoever builds the parts, and handed over in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from edged.pipeline.counts import Guard
from edged.pipeline.fan_out import fan_out
from edged.records import Block, Result, Slot

Arrays = dict[str, NDArray[Any]]


class Next(Protocol):
    """A pipeline that reads this one."""

    @property
    def name(self) -> str: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def is_stalled(self) -> bool: ...


class Previous(Protocol):
    """A pipeline that this one reads."""

    def resume(self) -> None: ...


class Wiring(msgspec.Struct, frozen=True):
    """`followers` take its results as blocks; `after` are the pipelines among them, and `before` those that it reads.

    `tellers` are gates that judge by its results; `hearers` are behaviours that read them, but for
    answers; `judges` are told when it got on, by gated pipelines that wait for that.
    `viewers` see the rows of each run with its outputs and inputs: somebody looks (`edged tap`).
    """

    followers: Sequence[Callable[[Block], object]] = ()
    after: Sequence[Next] = ()
    before: Sequence[Previous] = ()
    tellers: Sequence[Callable[[Result, int], object]] = ()
    judges: Sequence[Callable[[], object]] = ()
    hearers: Sequence[Callable[[Result, int], object]] = ()
    viewers: Sequence[Callable[[list[Slot], Arrays, Arrays], object]] = ()

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has a part in what the pipeline does."""
        return not (self.followers or self.after or self.before or self.tellers or self.judges or self.hearers or self.viewers)


class Neighbours:
    """Who waits for what a pipeline does: those that it reads, for room; those that are gated, for its judgement."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._before: Sequence[Previous] = ()
        self._judges: Sequence[Callable[[], object]] = ()

    def connect(self, wiring: Wiring) -> None:
        self._before, self._judges = wiring.before, wiring.judges

    def got_on(self) -> None:
        if self._judges:
            fan_out(self._judges, self._guard.lose)

    def has_room(self) -> None:
        for pipeline in self._before:
            pipeline.resume()
