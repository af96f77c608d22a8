"""One `publish` entry of a pipeline: its filter, its topic, its encoding, and then the broker's outbox.

Holds no queue of its own but what `when` keeps back (one result a key). Order: one call a result, in the model's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from edged.encode import Encoder
from edged.records import NONE, USUAL_BYTES, Message, Receipt, Result
from edged.telemetry import INTERNAL_ERROR, PublishCounts, whereabouts
from edged.when import When


class Outlet(Protocol):
    """Where messages go: a broker's link. Sizes are `Message.size`, in bytes."""

    @property
    def is_stalled(self) -> bool:
        """Whether nothing leaves, and nothing is kept on disk either."""

    def send(self, message: Message) -> None: ...

    def room(self, size: int) -> int:
        """How many more messages somebody who can wait may send now."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Calls back once, when there is room again."""


class Publish:
    """`topic(key)` is the topic in UTF-8 for a key id; messages go to `outlet`, the broker's link.

    `deadline` (ns, 0: none) is for what was held back; the pipeline judges the others. `size` is that of the largest message
    to be expected, in bytes: what is taken for its size before there was one.
    """

    def __init__(
        self,
        encoder: Encoder,
        when: When | None,
        topic: Callable[[int], bytes],
        outlet: Outlet,
        counts: PublishCounts,
        qos: int,
        retain: bool,
        deadline: int = 0,
        size: int = USUAL_BYTES,
    ) -> None:
        self.counts = counts
        self._encoder = encoder
        self._when = when
        self._topic = topic
        self.outlet = outlet
        self._send = outlet.send
        self._size = size
        self._qos = qos
        self._retain = retain
        self._deadline = deadline
        self._topics: dict[int, bytes] = {}

    def offer(self, result: Result, receipt: Receipt, now: int) -> bool:
        """Publishes the result, or holds it back (False), as `when` says. Takes the receipt along at QoS 1. A fault of ours on
        the way costs this result here, and is counted."""
        try:
            if self._when is not None:
                chosen = self._when.decide(result, now)
                if chosen is None:
                    self.counts.filtered += 1
                    return False
                result = chosen
            self._publish(result, receipt, now)
        except Exception as error:  # of `when`
            self._lose(error)
        return True

    def offer_due(self, now: int) -> None:
        """Publishes what `min_interval` had held back and may go now, unless it has become too old."""
        for result in self._when.due(now) if self._when is not None else ():
            if self._deadline and now - result.arrival > self._deadline:
                self.counts.made += 1
                self.counts.drops.add("expired")
            else:
                self._publish(result, NONE, now)

    def room(self) -> int:
        """How many more results of the size of the last ones may be offered so that none gives way to another."""
        return self.outlet.room(self._size)

    def next_due(self) -> int | None:
        return self._when.next_due() if self._when is not None else None

    def reset(self, key: int) -> None:
        """Forgets a key whose id now means another sensor."""
        self._topics.pop(key, None)
        if self._when is not None:
            self._when.reset(key)

    def drop_caches(self) -> None:
        self._topics.clear()

    def _publish(self, result: Result, receipt: Receipt, now: int) -> None:
        try:
            message = self._message(result, receipt, now)
        except Exception as error:
            self._lose(error)
            return
        try:
            self._send(message)
        except Exception as error:
            message.let_go()
            self.counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))

    def _lose(self, error: Exception) -> None:
        """There is no message."""
        self.counts.made += 1
        self.counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))

    def _message(self, result: Result, receipt: Receipt, now: int) -> Message:
        """The message, counted, with the receipt held."""
        topic = self._topics.get(result.key)
        if topic is None:
            topic = self._topics[result.key] = self._topic(result.key)
        body, is_open = self._encoder(result, now)
        receipt = receipt if self._qos else NONE
        message = Message(topic, body, self._qos, self._retain, is_open, result.arrival, receipt, self.counts)
        receipt.hold()
        self.counts.made += 1
        self._size = max(message.size, self._size - self._size // 8)  # sizes differ: the larger of the last few
        return message


def next_due(publishes: Sequence[Publish]) -> int | None:
    """When the earliest held-back result may go (monotonic ns)."""
    return min((due for p in publishes if (due := p.next_due()) is not None), default=None)
