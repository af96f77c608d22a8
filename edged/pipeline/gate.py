"""Whether a gated pipeline runs: what the stream that is its gate last said of each key.

A gate is a latched state a key: closed until the first result, opened and closed by each one, closed when its stream is stale.
Where the gate and the pipeline start from one stream, a row is judged by the result of its own sample: by the newest one that
is not after it, once the pipelines between have dealt with all that came up to it. Until then it is undecided. That is a wait
for runs of models, never for another input: what is not read yet, or not enough for a window, does not count.
Anywhere else a row is judged at once, by the newest result that is not after it in time.

Knows no clock and no loop: times and arrivals come with the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.records import Block, Keys, Result, Times
from edged.results.fields import value_at
from edged.results.when import Condition

SAMPLES = "samples"
"""What waits for its gate without a model is called so, as the input of a model would be by its name."""
FAR = 2**63 - 1
MAX_STATES = 4096
"""Changes of a key that are remembered for rows that lag behind; there is at most one for each of them."""
KEPT_STATES = 32
"""The same, where the two start from different streams: then rows may come a little late."""

UNKNOWN, STALE, REFUSED = "it has no result for this yet", "it is silent", "its conditions do not hold"
"""Why a gate is closed."""


class GatePlan(msgspec.Struct, frozen=True):
    """`source` is the stream that is judged; of a sensor the number in `column`, of a pipeline its results, by `condition`.

    `fork` is the last stream that the gate and the gated pipeline have in common (None: there is none). `leads` are the
    pipelines from there to the gate, and `way` those from there to the gated one. `is_keyed`: each key has a state of its own.
    """

    source: str
    condition: Condition
    column: int | None
    hold_ns: int
    stale_ns: int | None
    is_keyed: bool
    fork: str | None = None
    leads: tuple[str, ...] = ()
    way: tuple[str, ...] = ()
    change_of: tuple[str, ...] | None = None
    dead_band: float | None = None
    """The field that must differ from the result before, by more than this if it is a number."""


class Lead(Protocol):
    """A pipeline on the way to the gate, or to the gated one."""

    @property
    def pending_since(self) -> int:
        """Arrival of the oldest that it has yet to deal with, `FAR` if there is nothing."""

    @property
    def is_stalled(self) -> bool:
        """Whether it waits for a broker that is away."""


class Mark(NamedTuple):
    """The place of a sample in its stream."""

    arrival: int
    time: int


class State(NamedTuple):
    """What was said of a key from `mark` on, until the next one. `held_at`: the time at which the conditions last held."""

    mark: Mark
    holds: bool
    held_at: int | None


class Gate:
    """The state of every key. `see` takes samples of a sensor, `tell` results of a pipeline; `verdict` is asked of each row.

    `why` says why the last row that was refused was.
    """

    def __init__(self, plan: GatePlan) -> None:
        self.plan = plan
        self._leads: Sequence[Lead] = ()
        self._way: Sequence[Lead] = ()
        self._envelope: Callable[[Result, int], dict[str, Any]] | None = None
        self.newest = -FAR
        """The latest arrival that anything was said of."""
        self.why = UNKNOWN
        self._states: dict[int, deque[State]] = {}
        self._told: dict[int, Mark] = {}
        self._alive: dict[int, int] = {}
        self._held_at: dict[int, int] = {}
        self._before: dict[int, Any] = {}  # by key: the last value of `change_of`
        self._entering = FAR
        self._is_same = plan.fork is not None

    def connect(
        self, leads: Sequence[Lead], way: Sequence[Lead], envelope: Callable[[Result, int], dict[str, Any]] | None = None
    ) -> None:
        """`leads` and `way` are the running pipelines of the plan's names. `envelope` reads what else the condition names of a
        result. What was on its way when they ran in another order has come to all that read it."""
        self._leads, self._way, self._envelope = leads, way, envelope
        self.end()

    # ---- what the gate's stream says ----

    def see(self, block: Block) -> None:
        """Samples of a sensor. One that is degraded is judged like any other, but is no sign of life."""
        self.forget_restarted(block)
        if not len(block):
            return
        assert self.plan.column is not None
        holds = _holding(self.plan.condition, block.values[:, self.plan.column])
        times = block.time + block.offset
        good = np.ones(len(times), np.bool_) if block.degraded is None else ~block.degraded
        if isinstance(block.keys, int):  # one at the begin and one at the end of those that are alike say as much as all of them
            cuts = np.flatnonzero(holds[1:] != holds[:-1])
            rows = np.unique(np.concatenate((cuts, cuts + 1, (0, len(holds) - 1))))
            keys, times, holds, good = [block.keys] * len(rows), times[rows], holds[rows], np.full(len(rows), good.any())
        else:
            keys = block.keys.tolist()
        for key, time, is_held, is_good in zip(keys, times.tolist(), holds.tolist(), good.tolist(), strict=True):
            self._say(key, Mark(block.arrival, time), is_held, is_good)

    def tell(self, result: Result, now: int) -> None:
        """A result of a pipeline."""
        fields = result.body if self._envelope is None else {**self._envelope(result, now), **result.body}
        holds = self.plan.condition.holds(fields)
        if self.plan.change_of is not None:
            holds = self._differs(result.key, value_at(fields, self.plan.change_of)) and holds
        self._say(result.key, Mark(result.arrival, result.time), holds, is_alive=True)

    def _differs(self, key: int, value: Any) -> bool:
        """Whether the value is another than that of the result before; the first one is no change."""
        key = key if self.plan.is_keyed else 0
        before, band = self._before.get(key), self.plan.dead_band
        if band is None or before is None or not isinstance(value, int | float):
            self._before[key] = value
            return before is not None and value != before
        if abs(value - before) <= band:  # small steps add up
            return False
        self._before[key] = value
        return True

    def forget_restarted(self, block: Block) -> None:
        for key in block.restarts:
            self.reset(key)

    def reset(self, key: int) -> None:
        """Forgets a key whose id now means another sensor."""
        if self.plan.is_keyed:
            for known in (self._states, self._told, self._alive, self._held_at, self._before):
                known.pop(key, None)

    def _say(self, key: int, mark: Mark, holds: bool, is_alive: bool) -> None:
        if not self.plan.is_keyed:
            key = 0
        self._told[key] = mark
        if is_alive:
            self._alive[key] = mark.arrival
        if mark.arrival > self.newest:
            self.newest = mark.arrival
        states = self._states.get(key)
        if states is None:
            states = self._states[key] = deque(maxlen=MAX_STATES if self._is_same else KEPT_STATES)
        if not states or states[-1].holds is not holds:
            if self._is_same and states:
                self._forget(states)
            states.append(State(mark, holds, self._held_at.get(key)))
        if holds:
            self._held_at[key] = mark.time

    def _forget(self, states: deque[State]) -> None:
        """What no row can ask for any more: those that come from now on are later than the newest state."""
        needed = min(self._entering, *(one.pending_since for one in self._way), FAR)
        while len(states) > 1 and states[1].mark.arrival < needed:
            states.popleft()

    # ---- what is asked ----

    def begin(self, block: Block) -> None:
        """A block of the common stream is on its way to both."""
        self.forget_restarted(block)
        self._entering = block.arrival

    def end(self) -> None:
        """It has come to all that read it."""
        self._entering = FAR

    def since(self) -> int:
        """The arrival from which on samples may still be judged; `FAR`: everything that came has been."""
        return min((self._entering, *(lead.pending_since for lead in self._leads))) if self._is_same else FAR

    @property
    def is_stalled(self) -> bool:
        """Whether the judgement waits for a broker that is away."""
        return any(lead.is_stalled for lead in self._leads)

    def verdict(self, key: int, arrival: int, time: int, since: int | None = None) -> bool | None:
        """Whether a row may run; None while its sample is still to be judged. `since`: what `since()` says, where it is known."""
        if not self.plan.is_keyed:
            key = 0
        mark = Mark(arrival, time)
        is_told = not self._is_same or (key in self._told and self._told[key] >= mark)
        if not is_told and (arrival >= self._entering or arrival >= (self.since() if since is None else since)):
            return None
        return self._is_open(key, mark)

    def _is_open(self, key: int, mark: Mark) -> bool:
        plan, states = self.plan, self._states.get(key, ())
        if not states:
            self.why = UNKNOWN
            return False
        if plan.stale_ns is not None and mark.arrival - self._alive.get(key, -FAR) > plan.stale_ns:
            self.why = STALE
            return False
        for state in reversed(states):
            if state.mark <= mark if self._is_same else state.mark.time <= mark.time:
                held_at = state.held_at
                if state.holds or (held_at is not None and plan.hold_ns > 0 and mark.time - held_at <= plan.hold_ns):
                    return True
                self.why = REFUSED
                return False
        is_cut = len(states) >= KEPT_STATES and not self._is_same
        self.why = REFUSED if is_cut else UNKNOWN
        return is_cut and not states[0].holds  # each state is the opposite of the one before


def _holding(condition: Condition, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers of a sensor the condition holds for; what is not a number holds nothing."""
    with np.errstate(invalid="ignore"):
        if condition.is_true is not None:
            return np.asarray((values != 0) & (values == values))
        holds = values == values
        if condition.above is not None:
            holds &= values > condition.above
        if condition.below is not None:
            holds &= values < condition.below
    return np.asarray(holds)


def set_apart(keys: Keys | int, times: Times) -> Times:
    """The times of a block so that each sample of a key has one of its own, where several came at once: 1 ns later than the one
    before. Only so can it be told which result is of which."""
    if len(times) < 2 or (times[1:] > times[:-1]).all():
        return times
    if isinstance(keys, int):
        steps = np.arange(len(times))
        return np.asarray(np.maximum.accumulate(times - steps) + steps)
    last: dict[int, int] = {}
    found = []
    for key, time in zip(keys.tolist(), times.tolist(), strict=True):
        last[key] = time = max(time, last.get(key, -FAR) + 1)
        found.append(time)
    return np.array(found, np.int64)
