"""What outlives a restart: the `state` of each instance, and how often the process ended in a behaviour.

One file in the state directory, written once in a while where something changed, and at a stop. A crash loses what was changed
since.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from edged.system.durable import read_kept, write_kept

NAME = "behaviours"
MAX_STATE = 4 * 1024
"""Bytes of the state of one instance; more is not kept."""
MAX_BYTES = 64 * 1024 * 1024
MAX_ENDS = 2
"""After so many ends of the process in it a behaviour is not started again."""
EVERY_S = 30.0
PREFIX = "behaviour."
"""Of the stage that a behaviour is."""

log: Any = structlog.get_logger("edged")
States = dict[str, dict[str, Any]]
"""By key of the instance."""


class Ends(msgspec.Struct, array_like=True):
    """The process ended `times` times in a behaviour whose code has this digest, and which is `seen`."""

    times: int = 0
    digest: str = ""


class Saved(msgspec.Struct, array_like=True):
    version: int = 1
    states: dict[str, States] = {}
    ends: dict[str, Ends] = {}


class Kept:
    """`states(name)` are the live dictionaries; they are of the instances."""

    def __init__(self, path: Path | None = None, saved: Saved | None = None) -> None:
        """`path` None: nothing outlives this process."""
        self._path = path
        self._saved = saved or Saved()
        self._written = b""

    @classmethod
    def load(cls, folder: Path, ended_in: Iterable[str]) -> Kept:
        """What an earlier run left; `ended_in`: the stages in which that ended, if it had no time to say so."""
        path = folder / NAME
        decoder = msgspec.msgpack.Decoder(Saved)
        kept = cls(path, read_kept(path, MAX_BYTES, decoder.decode, lost="the state of behaviours"))
        blamed = [stage.removeprefix(PREFIX) for stage in ended_in if stage.startswith(PREFIX)]
        for name in blamed:
            kept._saved.ends.setdefault(name, Ends()).times += 1
        if blamed:
            kept.write(kept.encoded())
        return kept

    def states(self, name: str) -> States:
        return self._saved.states.setdefault(name, {})

    def is_barred(self, name: str, digest: str) -> bool:
        """Whether a behaviour is not to be started: as it is, it has ended the process too often."""
        ends = self._saved.ends.setdefault(name, Ends())
        if ends.digest and ends.digest != digest:
            ends.times = 0
        ends.digest = digest
        return ends.times >= MAX_ENDS

    def forget_others(self, names: Iterable[str]) -> None:
        """Behaviours that are not there any more."""
        known = set(names)
        for table in (self._saved.states, self._saved.ends):
            for name in [name for name in table if name not in known]:
                del table[name]

    def forgive(self) -> None:
        """The process stops in good order: whoever runs now ended nothing."""
        for ends in self._saved.ends.values():
            if ends.times < MAX_ENDS:
                ends.times = 0

    def encoded(self) -> bytes | None:
        """The file as it is to be; None if it is so already. What cannot be kept is said, and left out."""
        states = {
            name: {key: state for key, state in mine.items() if state and _is_fit(name, key, state)}
            for name, mine in self._saved.states.items()
        }
        whole = msgspec.msgpack.encode(Saved(1, states, self._saved.ends))
        return whole if whole != self._written else None

    def write(self, whole: bytes | None) -> None:
        """Blocks. What fails is said."""
        if whole is None or self._path is None:
            return
        if write_kept(self._path, whole, "behaviours_not_kept", lost="the state of behaviours, once edged ends"):
            self._written = whole


def _is_fit(name: str, key: str, state: dict[str, Any]) -> bool:
    try:
        size = len(msgspec.msgpack.encode(state))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        log.warning("state_not_kept", behaviour=name, key=key, reason=f"me.state holds what cannot be kept: {error}")
        return False
    if size > MAX_STATE:
        log.warning(
            "state_not_kept", behaviour=name, key=key, reason=f"me.state takes {size} bytes; edged keeps at most {MAX_STATE}"
        )
    return size <= MAX_STATE
