"""What comes in on one link: hands messages on, within the number of unacknowledged ones that we agreed to.

Owns the ledger of receipts. A fault in handling messages costs those messages, never the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from edged.clock import Clock
from edged.receipts import Ledger
from edged.records import NONE
from edged.telemetry import LOG_EVERY_S
from edged.transport.mqtt_frames import TOO_MANY, Inbound, ProtocolError
from edged.transport.mqtt_settings import LinkCounts, LinkSettings


class Receiver:
    """Incoming messages of one link. `rest` holds those that wait for earlier ones to be acknowledged (3.1.1 only)."""

    def __init__(
        self,
        settings: LinkSettings,
        counts: LinkCounts,
        on_publishes: Callable[[list[Inbound]], None],
        clock: Clock,
        log: Any,
    ) -> None:
        self.ledger = Ledger()
        self.rest: deque[Inbound] = deque()
        self._limit = settings.receive_maximum
        self._is_v5 = settings.is_v5
        self._counts = counts
        self._on_publishes = on_publishes
        self._clock = clock
        self._log = log
        self._logged_at = -LOG_EVERY_S

    def take(self, publishes: list[Inbound]) -> None:
        """The messages of one read. Raises ProtocolError when the broker ignores the receive maximum."""
        if len(self.ledger.unacked) > self._limit or self.rest:
            publishes = self._ration(publishes)
        if publishes:
            self._deliver(publishes)

    def go_on(self) -> None:
        """Hands on what waited, as far as earlier messages have been acknowledged since."""
        if self.rest and (publishes := self._ration([])):
            self._deliver(publishes)

    def lost(self) -> None:
        """The connection is gone: nothing of it will be acknowledged, and what waited comes again."""
        self.ledger.forget()
        self.rest.clear()

    def _deliver(self, publishes: list[Inbound]) -> None:
        self._counts.received += len(publishes)
        try:
            self._on_publishes(publishes)
        except Exception:
            self._counts.failures += 1
            now = self._clock.now() / 1e9
            if now - self._logged_at >= LOG_EVERY_S:
                self._logged_at = now
                self._log.exception("messages_failed", count=len(publishes), topic=publishes[0][0].decode(errors="replace"))
            for publish in publishes:  # acknowledged, or they would come again and fail again for ever
                if publish[5] is not NONE:
                    publish[5].owed = 0

    def _ration(self, publishes: list[Inbound]) -> list[Inbound]:
        """More unacknowledged messages than we asked for. MQTT 5 forbids it. 3.1.1 cannot be told (and mosquitto sends 79
        where it means 20): as many again wait, in order; beyond that the newest are dropped, counted and acknowledged."""
        limit, rest = self._limit, self.rest
        if self._is_v5:
            raise ProtocolError(f"more than {limit} unacknowledged messages", TOO_MANY)
        rest += publishes
        first = next((p[5] for p in rest if p[2]), None)
        room = max(0, limit - self.ledger.unacked.index(first)) if first else 0
        while len(rest) > limit + room:
            rest.pop()[5].done()
            self._counts.excess += 1
        given: list[Inbound] = []
        while rest and (room or not rest[0][2]):
            publish = rest.popleft()
            room -= publish[2]
            given.append(publish)
        return given
