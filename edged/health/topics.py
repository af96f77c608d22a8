"""The retained topics and the events of edged itself, on every broker that is to have them."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from edged.clock.clock import Clock
from edged.health.running import Running
from edged.health.status import UP
from edged.records import Message
from edged.results.encode import rfc3339

KEPT_EVENTS = 50


class Topics:
    """Publishes JSON below `base_topic`. Nothing is kept for a broker that is away: what matters is said when it is back."""

    def __init__(self, running: Running, clock: Clock) -> None:
        self._running = running
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self.events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        """The newest, for who looks."""

    def adopt(self, running: Running) -> None:
        self._running = running

    def event(self, kind: str, **facts: Any) -> None:
        """Something happened that somebody may want to know of at once."""
        said = {"time": rfc3339(self._clock.utc()), "event": kind, **facts}
        self.events.append(said)
        self._send("event", self._encode(said), retain=False)

    def keep(self, topic: str, facts: dict[str, Any]) -> None:
        self._send(topic, self._encode(facts), retain=True)

    def remove(self, topic: str) -> None:
        self._send(topic, b"", retain=True)

    def _send(self, topic: str, body: bytes, retain: bool) -> None:
        plan = self._running.plan
        full = f"{plan.base_topic}/{topic}".encode()
        for broker in plan.health_brokers:
            link = self._running.links[broker]
            if link.state in UP:
                link.send(Message(full, body, 0, retain))
