"""What commands ask over the control socket, and who answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from edged.daemon.assembly import Assembly
from edged.daemon.taps import Taps

Facts = dict[str, Any]


class Desk:
    """`others` answers what is about the configuration and its state: reload, rollback, status."""

    def __init__(self, taps: Taps, others: Callable[[Facts], Awaitable[Facts]]) -> None:
        self._taps = taps
        self._others = others

    def adopt(self, assembly: Assembly) -> None:
        """After a reload: these parts run."""
        self._taps.adopt(assembly)

    async def answer(self, request: Facts) -> Facts | AsyncIterator[Facts]:
        if request.get("command") == "tap":
            return self._taps.answer(request)
        return await self._others(request)
