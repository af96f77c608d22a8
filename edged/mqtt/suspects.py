"""Inputs that may have ended the process: which they are, and what is known to have done it.

    a run ends in a stage, without a word    it is counted in the stage file (`system/hang_recorder.py`)
    twice in a row in the same stage         what a broker sends again is handled alone, its hash in the file meanwhile
    once more, in that stage                 that input is `poison`: dropped when it comes again, acknowledged, counted, told

A broker sends again, marked as such, what was not acknowledged when the process ended, before anything new, and what it retains;
so the culprit is among it. Once all that is settled the count starts over: who kills the process now and then never makes a
culprit of an input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from edged.records import Receipt
from edged.system.hang_recorder import HASH, Stages

PATIENCE = 2
"""Ends in a row in one stage after which it may be the doing of an input."""


def digest(topic: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(topic + b"\0" + payload, digest_size=HASH).digest()


class Suspects:
    """One for all brokers, so that one input is handled alone among all. `awaited` are the brokers that may send again what they
    sent to the run before. `tell(topic, stage)` hears of each input that is dropped."""

    def __init__(self, stages: Stages, awaited: Iterable[str]) -> None:
        self.tell: Callable[[str, str], object] = lambda topic, stage: None
        self._stages = stages
        self._awaited = set(awaited)
        self._alone: Receipt | None = None
        self.is_on = bool(stages.ends or stages.poison)
        """Whether inputs have to be looked at at all."""

    @property
    def stage(self) -> str:
        """Where the runs before ended."""
        return self._stages.stage

    def is_careful(self, broker: str) -> bool:
        """Whether inputs of this broker are handled one at a time."""
        return self._stages.ends >= PATIENCE and broker in self._awaited

    def may_go_on(self) -> bool:
        """Whether nothing is left of what was handled alone, maybe of another broker: from then on it is to blame for nothing."""
        if self._stages.is_working or (self._alone is not None and self._alone.owed > 0):
            return False
        if self._alone is not None:
            self._alone = None
            self._stages.handle_alone(b"")
        return True

    def handle_alone(self, topic: bytes, payload: bytes, receipt: Receipt) -> None:
        """It is handled now, and if the process ends meanwhile, it was this."""
        self._alone = receipt
        self._stages.handle_alone(digest(topic, payload))

    def let_go(self, receipts: Iterable[Receipt]) -> None:
        """The connection by which these came is gone. At a stop the worker may still run one: if that never ends, it was this."""
        if self._alone is not None and self._alone in receipts:
            self._alone = None
            if not self._stages.is_working:
                self._stages.handle_alone(b"")

    def is_poison(self, topic: bytes, payload: bytes) -> bool:
        return bool(self._stages.poison) and digest(topic, payload) in self._stages.poison

    def got_further(self, broker: str) -> None:
        """All that this broker sent again is settled."""
        self._awaited.discard(broker)
        if not self._awaited and self._stages.ends:
            self._stages.forgive()
            self.is_on = bool(self._stages.poison)
