"""Back-pressure: a pipeline that has parked blocks holds the flow, and sources that can wait await it before they read on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class Flow:
    """Open while nobody holds it. Every `hold` is undone by one `release`."""

    __slots__ = ("_holds", "_opened")

    def __init__(self) -> None:
        self._holds = 0
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return not self._holds

    def hold(self) -> None:
        self._holds += 1
        self._opened.clear()

    def release(self) -> None:
        """Raises RuntimeError when nobody holds the flow: somebody let go twice."""
        if not self._holds:
            raise RuntimeError("flow released more often than held")
        self._holds -= 1
        if not self._holds:
            self._opened.set()

    async def wait(self) -> None:
        """Returns when the flow is open; at once if it is."""
        while self._holds:
            await self._opened.wait()


class Flows(Flow):
    """Of a port that several sources share: open while all of theirs are."""

    __slots__ = ("_all",)

    def __init__(self, flows: Sequence[Flow]) -> None:
        super().__init__()
        self._all = tuple(flows)

    @property
    def is_open(self) -> bool:
        return all(flow.is_open for flow in self._all)

    async def wait(self) -> None:
        while not self.is_open:
            for flow in self._all:
                await flow.wait()
