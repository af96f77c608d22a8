"""What a model remembers of each key of one pipeline between two runs: a row of every state by key.

The samples of a key fall into stretches: a silence, a sensor's restart or another sensor under the same id begins the next one.
Each slot says of which stretch it is, so that those from before a gap that still wait are run with what belongs to them, and
the first one after it finds zeros, whatever was dropped between. A state moves on only with rows that were run: what goes into
a batch is a copy, and what comes out is kept once the run is over. Only where one key is all that a session runs, it may stay
where the session has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.records import Slot

Arrays = Mapping[str, NDArray[Any]]

NEVER = 2**62
"""As the time of a last sample: no silence follows it."""
NONE = -1
"""The stretch of a key of which nothing is remembered."""


class Saved(NamedTuple):
    """One key's rows, one after the other as bytes, and the time of its newest sample."""

    rows: bytes
    last: int


class States:
    """`ends`: for each state the model's input, its output, the shape and the type of a row.

    `gap_ns`: where no window tells the stretches apart, the silence that begins another (None: never).
    `start`: what an input begins with for a key, where that is not zeros.
    """

    def __init__(
        self,
        ends: Iterable[tuple[str, str, tuple[int, ...], DTypeLike]],
        max_keys: int,
        gap_ns: int | None = None,
        start: Callable[[str, int], NDArray[Any] | None] | None = None,
    ) -> None:
        # Written, not only allocated: untouched pages are not resident, and the plan charges them.
        made = [(given, out, np.full((max_keys, *shape), 0, dtype)) for given, out, shape, dtype in ends]
        self._inputs = [(given, rows) for given, _, rows in made]
        self._outputs = [(out, rows) for _, out, rows in made]
        self._of = [NONE] * max_keys  # the stretch that a row is the state of
        self._stretch = [0] * max_keys
        self._last = [NEVER] * max_keys
        self._gap_ns = gap_ns
        self._start = start
        self._first = made[0][:2]
        self._is_alone = False
        self._left: Arrays | None = None  # outputs of a run that have what is remembered; None: it is here

    @property
    def rows(self) -> dict[str, NDArray[Any]]:
        """By input, a row a key."""
        return dict(self._inputs)

    def stretches(self, keys: Sequence[int], times: Sequence[int]) -> list[int]:
        """The stretch of each of these samples, which come one after the other."""
        stretch, last, gap = self._stretch, self._last, self._gap_ns
        found = []
        for key, time in zip(keys, times, strict=True):
            if gap is not None and time - last[key] > gap:
                stretch[key] += 1
            last[key] = time
            found.append(stretch[key])
        return found

    def start_over(self, key: int) -> None:
        """The next sample of `key` begins a stretch."""
        self._stretch[key] += 1
        self._last[key] = NEVER

    def be_alone(self, is_alone: bool) -> None:
        """Whether no other pipeline has its rows run by the same session."""
        self._is_alone = is_alone and len(self._of) == 1
        if not self._is_alone:
            self._fetch()

    def _fetch(self) -> None:
        """What was left with a session is here again."""
        left, self._left = self._left, None
        if left is not None:
            for name, rows in self._outputs:
                rows[0] = left[name][0]

    def gather(self, slots: Sequence[Slot], inputs: Arrays, start: int) -> None:
        """Puts what is remembered of each slot's key beside the slot's own rows, from row `start` on."""
        if len(slots) == 1:
            [slot] = slots
            key = slot.key
            if self._left is not None:
                given, made = self._first
                if inputs[given] is self._left[made] and self._of[0] == slot.stretch:
                    return  # what came out is where the next run reads it
                self._fetch()
            if self._of[key] != slot.stretch:
                self._clear(slot)
            for name, rows in self._inputs:
                inputs[name][start] = rows[key]
            return
        for slot in slots:
            if self._of[slot.key] != slot.stretch:
                self._clear(slot)
        keys, stop = [slot.key for slot in slots], start + len(slots)
        for name, rows in self._inputs:
            np.take(rows, keys, axis=0, out=inputs[name][start:stop], mode="clip")  # "raise" would buffer the output

    def _clear(self, slot: Slot) -> None:
        self._of[slot.key] = slot.stretch
        for name, rows in self._inputs:
            start = self._start(name, slot.key) if self._start is not None else None
            rows[slot.key] = 0 if start is None else start

    def keep(self, slots: Sequence[Slot], outputs: Arrays) -> None:
        """Takes over what a run made of the states of these slots, each of another key."""
        if len(slots) == 1:
            key = slots[0].key
            if self._is_alone:
                self._left = outputs
                return
            for name, rows in self._outputs:
                rows[key] = outputs[name][0]
            return
        keys = [slot.key for slot in slots]
        for name, rows in self._outputs:
            rows[keys] = outputs[name]

    def save(self, key: int, stretch: int | None = None) -> Saved | None:
        """What the next row of `key` needs; None if it finds zeros anyhow. `stretch`: the one that the key is in, where a window
        tells."""
        if self._of[key] != (self._stretch[key] if stretch is None else stretch):
            return None
        self._fetch()
        return Saved(b"".join(rows[key].tobytes() for _, rows in self._inputs), self._last[key])

    def restore(self, key: int, saved: Saved, stretch: int | None = None) -> None:
        """Goes on where `save` was called, with the same ends. Raises ValueError for others."""
        if len(saved.rows) != sum(rows[key].nbytes for _, rows in self._inputs):
            raise ValueError(f"{len(saved.rows)} bytes are no state of this model")
        self._left, at = None, 0
        for _, rows in self._inputs:
            rows[key] = np.frombuffer(saved.rows, rows.dtype, rows[key].size, at).reshape(rows.shape[1:])
            at += rows[key].nbytes
        self._of[key] = self._stretch[key] if stretch is None else stretch
        self._last[key] = saved.last

    def without(self, outputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs that are not remembered."""
        own = {name for name, _ in self._outputs}
        return {name: y for name, y in outputs.items() if name not in own}

    def forget(self, key: int) -> None:
        """What is remembered of `key` is of no use: its next row finds zeros."""
        self._of[key] = NONE

    def forget_all(self) -> None:
        """Another model runs from now on."""
        self._of = [NONE] * len(self._of)
