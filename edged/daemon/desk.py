"""What commands ask over the control socket, and who answers it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from edged.daemon.assembly import Assembly
from edged.daemon.taps import Taps
from edged.daemon.upkeep import Upkeep

Facts = dict[str, Any]


class Desk:
    """`others` answers what is about the configuration and its state: reload, rollback, status."""

    def __init__(self, taps: Taps, upkeep: Upkeep, others: Callable[[Facts], Awaitable[Facts]]) -> None:
        self._taps = taps
        self._upkeep = upkeep
        self._others = others

    def adopt(self, assembly: Assembly) -> None:
        """After a reload: these parts run."""
        self._taps.adopt(assembly)
        self._upkeep.adopt(assembly)

    async def answer(self, request: Facts) -> Facts | AsyncGenerator[Facts, None]:
        match request:
            case {"command": "tap"}:
                return self._taps.answer(request)
            case {"command": "pause", "pipeline": str(name), "seconds": int() | float() as seconds}:
                return self._upkeep.pause(name, seconds)
            case {"command": "resume", "pipeline": str(name)}:
                return self._upkeep.resume(name)
            case {"command": "ack", "pipeline": str(name), "key": str() | None as key}:
                return self._upkeep.acknowledge(name, key)
        return await self._others(request)
