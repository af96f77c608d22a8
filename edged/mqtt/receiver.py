"""What comes in on one link: hands messages on, within the number of unacknowledged ones that we agreed to.

Owns the ledger of receipts. A fault in handling messages never costs the connection, and settles only what nobody holds.

Brokers send more than that number: 3.1.1 has no way to say it, and mosquitto, up to 2.0.11 at least, sends up to as many
again with each acknowledgement, under MQTT 5 too, and all of them at once when it meets the session again. Ending the
connection would therefore go on for ever. So what is too much waits in `rest`, in order. What is too much for that as
well is left with the broker, and so is all that comes after it: it is not acknowledged, and when everything before it is,
a new connection brings it again. What is in `rest` when the connection goes comes again only if the broker kept our
session; if it did not, `rest` is all that is left of those inputs, and they are handled with nothing to acknowledge.

After runs that an input may have ended, inputs wait there as well, until all that the broker sent again has been handled, one at
a time, each until it is settled (`suspects.py`). What a broker retains comes again too, with each subscription, and at QoS 0 owes
nobody anything: such an input has a receipt here that is in no ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from edged.clock.clock import Clock
from edged.mqtt.frames import TOO_MANY, Inbound, ProtocolError
from edged.mqtt.receipts import Ledger
from edged.mqtt.settings import WAITING, LinkCounts, LinkSettings
from edged.mqtt.suspects import Suspects
from edged.records import NONE, Receipt
from edged.telemetry import LOG_EVERY_S


class Failures:
    """Faults of whoever handles messages or frames them: counted, and logged now and then."""

    def __init__(self, counts: LinkCounts, clock: Clock, log: Any) -> None:
        self._counts = counts
        self._clock = clock
        self._log = log
        self._logged_at = -LOG_EVERY_S

    def tell(self, topic: bytes, count: int = 1) -> None:
        """Called where the fault was caught."""
        self._counts.failures += 1
        now = self._clock.now() / 1e9
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            self._log.exception("messages_failed", count=count, topic=topic.decode(errors="replace"))


class Receiver:
    """Incoming messages of one link. `rest` holds those that wait for earlier ones to be acknowledged. While it `is_careful`,
    inputs are handled one at a time, and `go_on` is to be called now and then."""

    def __init__(
        self,
        settings: LinkSettings,
        counts: LinkCounts,
        on_publishes: Callable[[list[Inbound]], None],
        clock: Clock,
        log: Any,
        suspects: Suspects | None = None,
        on_poison: Callable[[Inbound], None] = lambda publish: None,
    ) -> None:
        """`on_poison` gets, instead of `on_publishes`, what is known to end the process, and lets go of its receipt."""
        self.ledger = Ledger()
        self.rest: deque[Inbound] = deque()
        self._bytes = 0
        self._is_leaving = False
        self._failures = Failures(counts, clock, log)
        self._counts = counts
        self._on_publishes = on_publishes
        self._suspects = (
            suspects if suspects is not None and suspects.is_on else None
        )  # none at most starts: the path knows no other
        self._on_poison = on_poison
        self._again: list[Receipt] = []  # what the broker has sent again, while that matters
        self.configure(settings)

    def configure(self, settings: LinkSettings) -> None:
        """The bounds of the next connection."""
        self._settings = settings
        self.is_careful = self._suspects is not None and self._suspects.is_careful(settings.name)
        self._limit = 1 if self.is_careful else settings.receive_maximum
        self._has_qos1 = any(s.qos for s in settings.subscriptions)

    @property
    def is_behind(self) -> bool:
        """Whether `go_on` has something to do once messages have been acknowledged."""
        return bool(self.rest) or self._is_leaving

    def take(self, publishes: list[Inbound]) -> None:
        """The messages of one read."""
        if len(self.ledger.unacked) > self._limit or self.rest or self._is_leaving or self.is_careful:
            # MQTT keeps the order within a QoS only: what nobody owes an answer for need not wait for what waits
            unowed = [] if self.is_careful else [publish for publish in publishes if not publish[2]]
            self._keep([publish for publish in publishes if publish[2]] if unowed else publishes)
            publishes = [*self._ration(), *unowed]
        if publishes:
            self._deliver(publishes)

    def go_on(self) -> None:
        """Hands on what waited, as far as earlier messages have been acknowledged since.

        Raises ProtocolError when only what was left with the broker is left to do.
        """
        if self.rest and (publishes := self._ration()):
            self._deliver(publishes)
        if self._is_leaving and not self.rest and not self.ledger.unacked:
            raise ProtocolError(f"many more than {self._limit} unacknowledged messages", TOO_MANY)

    def lost(self) -> None:
        """The connection is gone: nothing of it will be acknowledged. Whether what waits comes again, the next one will tell."""
        if self._suspects is not None:
            self._suspects.let_go(self.ledger.unacked)
            self._again.clear()
        self.ledger.forget()
        self._is_leaving = False

    def connected(self, is_session_present: bool) -> None:
        """A new connection. With our session the broker sends again what waits here; without, it has none of it any more."""
        kept = [] if is_session_present else [(*publish[:5], NONE, publish[6]) for publish in self.rest]
        self.rest.clear()
        self._bytes = 0
        if kept:
            self._deliver(kept)

    def _deliver(self, publishes: list[Inbound]) -> None:
        self._counts.received += len(publishes)
        if self._suspects is not None:
            publishes = self._without_poison(publishes, self._suspects)
            if not publishes:
                return
        try:
            self._on_publishes(publishes)
        except Exception:
            self._failures.tell(publishes[0][0], len(publishes))
            for publish in publishes:  # in the place of `on_publishes`: or they would come again and fail again for ever
                publish[5].done()

    def _without_poison(self, publishes: list[Inbound], suspects: Suspects) -> list[Inbound]:
        """What may be handled of these, now that it is noted what it is."""
        kept: list[Inbound] = []
        has_fresh = has_again = False
        for publish in publishes:
            topic, payload, qos, retain, _, receipt, _properties = publish
            comes_again = receipt.is_again or retain
            if not receipt.mid and (retain or self.is_careful):
                receipt = Receipt(0)
                publish = (*publish[:5], receipt, publish[6])
            if comes_again:
                has_again = True
                self._again.append(receipt)
                if suspects.is_poison(topic, payload):
                    self._on_poison(publish)
                    continue
            has_fresh |= not comes_again and (qos > 0 or not self._has_qos1)
            kept.append(publish)
            if self.is_careful:
                suspects.handle_alone(topic, payload, receipt)
        if has_fresh and not has_again:
            self._look_whether_through(suspects)
        return kept

    def trust(self) -> None:
        """The connection has served for so long that all that the broker sends again has come."""
        if self._suspects is not None and not self.rest:
            self._look_whether_through(self._suspects)

    def _look_whether_through(self, suspects: Suspects) -> None:
        if any(receipt.owed > 0 for receipt in self._again):
            return
        self._again.clear()
        suspects.got_further(self._settings.name)
        self.is_careful, self._limit = False, self._settings.receive_maximum
        if not suspects.is_on:
            self._suspects = None

    def _keep(self, publishes: list[Inbound]) -> None:
        """Puts messages last in `rest`, or leaves them with the broker: strikes their debts, which are the newest."""
        left = 0
        for publish in publishes:
            size = len(publish[0]) + len(publish[1])
            if (
                not self._is_leaving
                and len(self.rest) < WAITING * self._settings.receive_maximum
                and self._bytes + size <= self._settings.max_packet
            ):
                self.rest.append(publish)
                self._bytes += size
                continue
            self._counts.excess += 1
            if publish[2]:  # QoS 0 comes but once, and may be lost
                self._is_leaving = True
                left += 1
        for _ in range(left):
            self.ledger.unacked.pop()

    def _ration(self) -> list[Inbound]:
        """As many of `rest` as may be unacknowledged now, and the messages of QoS 0 between them; while it is careful, one."""
        rest = self.rest
        if self.is_careful and self._suspects is not None:
            if not rest or not self._suspects.may_go_on():
                return []
            self._bytes -= len(rest[0][0]) + len(rest[0][1])
            return [rest.popleft()]
        first = next((p[5] for p in rest if p[2]), None)
        room = max(0, self._limit - self.ledger.unacked.index(first)) if first else 0
        given: list[Inbound] = []
        while rest and (room or not rest[0][2]):
            publish = rest.popleft()
            self._bytes -= len(publish[0]) + len(publish[1])
            room -= publish[2]
            given.append(publish)
        return given
