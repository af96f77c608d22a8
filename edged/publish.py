"""One `publish` entry of a pipeline: its filter, its topic, its encoding, and then the broker's outbox.

Holds no queue of its own but what `when` keeps back (one result a key). Order: one call a result, in the model's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edged.encode import Encoder
from edged.records import NONE, Message, Receipt, Result
from edged.telemetry import PublishCounts
from edged.when import When


class Publish:
    """`topic(key)` is the topic in UTF-8 for a key id; `send` puts a message into the outbox of the broker's link."""

    def __init__(
        self,
        encoder: Encoder,
        when: When | None,
        topic: Callable[[int], bytes],
        send: Callable[[Message], None],
        counts: PublishCounts,
        qos: int,
        retain: bool,
    ) -> None:
        self.counts = counts
        self._encoder = encoder
        self._when = when
        self._topic = topic
        self._send = send
        self._qos = qos
        self._retain = retain
        self._topics: dict[int, bytes] = {}

    def offer(self, result: Result, receipt: Receipt, now: int) -> bool:
        """Publishes the result, or holds it back (False), as `when` says. Takes the receipt along at QoS 1."""
        if self._when is not None:
            chosen = self._when.decide(result, now)
            if chosen is None:
                self.counts.filtered += 1
                return False
            result = chosen
        self._publish(result, receipt, now)
        return True

    def offer_due(self, now: int) -> None:
        """Publishes what `min_interval` had held back and may go now."""
        for result in self._when.due(now) if self._when is not None else ():
            self._publish(result, NONE, now)

    def next_due(self) -> int | None:
        return self._when.next_due() if self._when is not None else None

    def reset(self, key: int) -> None:
        """Forgets a key whose id now means another sensor."""
        self._topics.pop(key, None)
        if self._when is not None:
            self._when.reset(key)

    def _publish(self, result: Result, receipt: Receipt, now: int) -> None:
        topic = self._topics.get(result.key)
        if topic is None:
            topic = self._topics[result.key] = self._topic(result.key)
        body, is_open = self._encoder(result, now)
        if self._qos:
            receipt.hold()
        else:
            receipt = NONE
        self.counts.made += 1
        self._send(Message(topic, body, self._qos, self._retain, is_open, result.arrival, receipt, self.counts))


def next_due(publishes: Sequence[Publish]) -> int | None:
    """When the earliest held-back result may go (monotonic ns)."""
    return min((due for p in publishes if (due := p.next_due()) is not None), default=None)
