"""What people do to pipelines while they run: pauses with an end, and alarms that are acknowledged.

Both outlive a reload and a restart, also one after a crash: a small file in the state directory says until when a pipeline is
paused, and of which sensors an alarm waits to be acknowledged. It is written, beside the loop, whenever that changes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import structlog

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.latches import Key, acknowledge, latch, latched
from edged.notation.words import found_among
from edged.results.encode import rfc3339
from edged.system.durable import read_kept, write_kept
from edged.system.one_shot import in_one_shot_thread

NAME = "upkeep"
LOOK_S = 0.5
MAX_BYTES = 4 << 20
LONGEST_S = 366 * 86400

log: Any = structlog.get_logger("edged")


class Kept(msgspec.Struct):
    """`paused`: until when, UTC in ns, by pipeline; `latched`: the names of keys, by pipeline."""

    paused: dict[str, int] = {}
    latched: dict[str, list[Key]] = {}


class Upkeep:
    """`run` looks after it; `pause`, `resume` and `acknowledge` are asked by commands, the last also by messages."""

    def __init__(self, assembly: Assembly, clock: Clock, folder: Path) -> None:
        self._assembly = assembly
        self._clock = clock
        self._path = folder / NAME
        self._paused: dict[str, int] = {}
        self._saved = Kept()

    def restore(self) -> None:
        """What an earlier run left, before the first sample comes."""
        lost = "pauses, and alarms to be acknowledged"
        found = read_kept(self._path, MAX_BYTES, lambda data: msgspec.json.decode(data, type=Kept), lost)
        if found is None:
            return
        self._saved = found
        now = self._clock.utc()
        self._paused = {name: until for name, until in found.paused.items() if until > now}
        self.adopt(self._assembly)

    def adopt(self, assembly: Assembly) -> None:
        """These parts run: pipelines that are new go on with what the ones before were told, and remembered."""
        alarms = latched(self._assembly) if assembly is not self._assembly else self._saved.latched
        self._assembly = assembly
        self._paused = {name: until for name, until in self._paused.items() if name in assembly.pipelines}
        for name in self._paused:
            self._pause(name)
        for name, keys in alarms.items():
            latch(assembly, name, keys, self._clock.now())

    async def run(self) -> None:
        """Ends pauses, and keeps what changed, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.utc()
            for name in [name for name, until in self._paused.items() if until <= now]:
                self._resume(name, "its time is over")
            kept = self._kept()
            if kept != self._saved:
                self._saved = kept
                await in_one_shot_thread("edged-note", lambda kept=kept: self._write(kept), lambda _: None)  # type: ignore[misc]

    def close(self) -> None:
        """At a stop."""
        if (kept := self._kept()) != self._saved:
            self._write(kept)

    def pause(self, name: str, seconds: float) -> dict[str, Any]:
        if name not in self._assembly.pipelines:
            return _refused(f"expected a pipeline, {found_among(name, tuple(self._assembly.pipelines))}")
        if not 0 < seconds <= LONGEST_S:
            return _refused("expected a time above 0, and at most a year")
        self._paused[name] = self._clock.utc() + int(seconds * 1e9)
        self._pause(name)
        log.warning("paused", pipeline=name, seconds=seconds)
        return {"ok": True}

    def _pause(self, name: str) -> None:
        self._assembly.pipelines[name].pause(f"until {rfc3339(self._paused[name] // 10**9 * 10**9)} by edged pause")

    def resume(self, name: str) -> dict[str, Any]:
        if name not in self._assembly.pipelines:
            return _refused(f"expected a pipeline, {found_among(name, tuple(self._assembly.pipelines))}")
        if name not in self._paused:
            return _refused(f"pipeline {name} is not paused")
        self._resume(name, "requested by a command")
        return {"ok": True}

    def _resume(self, name: str, why: str) -> None:
        del self._paused[name]
        self._assembly.pipelines[name].pause("")
        log.info("resumed", pipeline=name, why=why)

    def acknowledge(self, name: str, key: str | None) -> dict[str, Any]:
        """The alarm of one sensor, or all of the pipeline."""
        try:
            return {"ok": True, "acknowledged": acknowledge(self._assembly, name, key)}
        except ValueError as error:
            return _refused(str(error))

    def _kept(self) -> Kept:
        return Kept(dict(self._paused), latched(self._assembly))

    def _write(self, kept: Kept) -> None:
        lost = "pauses and alarms that nobody acknowledged, once edged restarts"
        write_kept(self._path, msgspec.json.encode(kept), "upkeep_not_saved", lost)


def _refused(*errors: str) -> dict[str, Any]:
    return {"ok": False, "errors": list(errors)}
