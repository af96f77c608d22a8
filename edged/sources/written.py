"""A port that nobody reads and behaviours write to: a relay, a display. It is kept open; what it says is counted and let go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edged.clock.clock import Clock
from edged.config import schema
from edged.errors import Retryable
from edged.serialport.discovery import port_name
from edged.serialport.port import SerialPort
from edged.sources.asking import Conversation, beside, questions
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Push
from edged.sources.opening import opened


async def write_to(port: SerialPort | None, state: str, reason: str, settings: Any, data: bytes, limit_s: float) -> None:
    """Writes all of it to an open port. Raises Retryable where it is not open, or takes nothing."""
    name = port_name(settings.port)
    if port is None:
        raise Retryable(state, reason or f"{name} is not open")
    if not await port.write(data, limit_s):
        raise Retryable("full", f"{name} took no more bytes for {limit_s:g} s")


class WrittenPort:
    """`state` and `reason` are what health says of it."""

    def __init__(self, name: str, settings: schema.Port, counts: SourceCounts, clock: Clock) -> None:
        self.name = name
        self.counts = counts
        self.state, self.reason = "connecting", ""
        self._settings = settings
        self._clock = clock
        self._port: SerialPort | None = None

    async def run(self, pushes: Mapping[str, Push]) -> None:
        """Raises Retryable when the port cannot be opened or goes away."""
        await opened(self._settings, self._turn, self._work)

    async def write(self, data: bytes, limit_s: float) -> None:
        """Raises Retryable."""
        await write_to(self._port, self.state, self.reason, self._settings, data, limit_s)

    async def _work(self, port: SerialPort) -> None:
        self.counts.opens += 1
        self.counts.opened = self._clock.now()
        self._port = port
        self._turn("running", "")
        try:
            talk = Conversation(questions(self._settings.send), self.counts.asked, self._clock, Flow())
            talk.begin()
            await beside(talk.run(port), self._read(port, talk))
        finally:
            self._port = None

    async def _read(self, port: SerialPort, talk: Conversation) -> None:
        while True:
            data = await port.read()
            self.counts.bytes += len(data)
            self.counts.last_arrival = self._clock.now()
            talk.take(data)

    def _turn(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
