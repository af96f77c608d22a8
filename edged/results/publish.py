"""One `publish` entry of a pipeline: its filter, its topic, its encoding, and then the broker's outbox.

Holds no queue of its own but what `when` keeps back (one result a key). Order: one call a result, in the model's order.

What `min_interval` holds back at QoS 1 has a copy in the spool, if there is one, and its input is settled when that is synced: a
crash does not lose it. Else it waits in memory alone. The next result of the key supersedes it. When nothing more will come, at
a stop or when a reload ends the entry, it is published at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from edged.records import MESSAGE_OVERHEAD, NONE, USUAL_BYTES, Message, Receipt, Result
from edged.results.encode import Encoder
from edged.results.when import When
from edged.telemetry import INTERNAL_ERROR, PublishCounts, whereabouts
from edged.topics import TopicError


class Outlet(Protocol):
    """Where messages go: a broker's link. Sizes are `Message.size`, in bytes."""

    @property
    def can_hold(self) -> bool:
        """Whether what is held back outlives a crash."""

    @property
    def is_stalled(self) -> bool:
        """Whether nothing leaves, and nothing is kept on disk either."""

    def send(self, message: Message) -> None: ...

    def frame_now(self, messages: Sequence[Message]) -> int:
        """Sends the first of the messages, as far as they would wait for nothing; returns how many. The others are for `send`."""

    def hold(self, message: Message, due: int, before: Message | None) -> None:
        """Keeps on disk what is held back until `due` and will be sent then, in the place of the one `before`."""

    def supersede(self, topic: bytes, before: Message | None) -> None:
        """Nothing is held back for the topic any more."""

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
        self._encode = encoder.__call__  # to call the object would look this method up for each result
        self._when = when
        self._topic = topic
        self.outlet = outlet
        self._size = size
        self._qos = qos
        self._retain = retain
        self._deadline = deadline
        self._topics: dict[int, bytes] = {}
        self._holds = bool(qos) and when is not None and when.may_hold and outlet.can_hold
        self._held: dict[int, Message] = {}  # by key: what is held back, with a copy on disk

    def offer_all(self, results: Sequence[Result], receipts: Sequence[Receipt], now: int) -> int:
        """`offer` for the results of a run; returns how many are published."""
        if self._when is not None:
            return self._offer_each(results, receipts, now)
        try:
            messages = self._messages(results, receipts, now)
        except Exception:  # one by one, it costs the result that shows it
            for result, receipt in zip(results, receipts, strict=True):
                self._publish(result, receipt, now)
        else:
            counts = self.counts
            framed = self.outlet.frame_now(messages)
            counts.made += framed
            counts.last = messages[-1]
            if framed < len(messages):
                self._emit(messages[framed:])
        return len(results)

    def _offer_each(self, results: Sequence[Result], receipts: Sequence[Receipt], now: int) -> int:
        return sum([self.offer(*each, now) for each in zip(results, receipts, strict=True)])

    def offer(self, result: Result, receipt: Receipt, now: int) -> bool:
        """Publishes the result, or holds it back (False), as `when` says. Takes the receipt along at QoS 1. A fault of ours on
        the way costs this result here, and is counted."""
        try:
            if self._when is not None:
                chosen = self._when.decide(result, now)
                if self._holds:
                    self._hold(self._when, result, receipt, now)
                if chosen is None:
                    self.counts.filtered += 1
                    return False
                result = chosen
            self._publish(result, receipt, now)
        except Exception as error:  # of `when`
            self._lose(error)
        return True

    def partial(self, key: int, body: bytes) -> None:
        """What there is so far of a result, below its topic, to those who listen now."""
        with suppress(TopicError):  # the whole will say so
            self.outlet.send(Message(self._topic_of(key) + b"/partial", body))

    def offer_due(self, now: int) -> None:
        """Publishes what `min_interval` had held back and may go now, unless it has become too old."""
        for result in self._when.due(now) if self._when is not None else ():
            self._publish_held(result, now)

    def flush(self, now: int) -> None:
        """Publishes what `min_interval` holds back: nothing more will come."""
        for result in self._when.flush(now) if self._when is not None else ():
            self._publish_held(result, now)

    def room(self) -> int:
        """How many more results of the size of the last ones may be offered so that none is dropped for another."""
        return self.outlet.room(self._size)

    @property
    def may_hold(self) -> bool:
        """Whether results may be held back."""
        return self._when is not None and self._when.may_hold

    def next_due(self) -> int | None:
        return self._when.next_due() if self._when is not None else None

    def reset(self, key: int) -> None:
        """Forgets a key whose id now means another sensor. What is held back of the old one goes now, if it is a message already;
        else nobody knows its name any more."""
        self._topics.pop(key, None)
        if self._when is None:
            return
        if (message := self._held.pop(key, None)) is not None:
            self._emit([message])
        elif self._when.held_until(key) is not None:
            self.counts.made += 1
            self.counts.drops.add("restart")
        self._when.reset(key)

    def drop_caches(self) -> None:
        self._topics.clear()

    def _hold(self, when: When, result: Result, receipt: Receipt, now: int) -> None:
        """`when` has judged a result: what was held back of its key is superseded, maybe by this one."""
        before, due = self._held.pop(result.key, None), when.held_until(result.key)
        if due is None:
            self.outlet.supersede(self._topic_of(result.key), before)
            return
        [message] = self._messages([result], [receipt], now)
        self._held[result.key] = message
        self.outlet.hold(message, due, before)

    def _publish_held(self, result: Result, now: int) -> None:
        message = self._held.pop(result.key, None)
        if self._deadline and now - result.arrival > self._deadline:
            self.counts.made += 1
            self.counts.drops.add("expired")
            if message is not None:
                message.end("expired")
        elif message is not None:
            self._emit([message])
        else:
            self._publish(result, NONE, now)

    def _publish(self, result: Result, receipt: Receipt, now: int) -> None:
        try:
            messages = self._messages([result], [receipt], now)
        except TopicError as error:
            self.counts.made += 1
            self.counts.drops.add("bad_key", detail=str(error))
            return
        except Exception as error:
            self._lose(error)
        else:
            self._emit(messages)

    def _emit(self, messages: list[Message]) -> None:
        counts = self.counts
        counts.last = messages[-1]
        for message in messages:
            counts.made += 1
            try:
                self.outlet.send(message)
            except Exception as error:
                message.end(INTERNAL_ERROR)
                counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))

    def _lose(self, error: Exception) -> None:
        """There is no message."""
        self.counts.made += 1
        self.counts.drops.add(INTERNAL_ERROR, detail=whereabouts(error))

    def _messages(self, results: Sequence[Result], receipts: Sequence[Receipt], now: int) -> list[Message]:
        """The messages, with the receipts held. Raises TopicError, and what the encoder raises; then nothing is held."""
        topics, encode, qos, retain, counts = self._topics, self._encode, self._qos, self._retain, self.counts
        messages: list[Message] = []
        largest = 0
        for result in results:
            topic = topics.get(result.key) or self._topic_of(result.key)
            body, is_open = encode(result, now)
            messages.append(Message(topic, body, qos, retain, is_open, result.arrival, NONE, counts))
            if (size := len(topic) + len(body)) > largest:
                largest = size
        if qos:
            for message, receipt in zip(messages, receipts, strict=True):
                if receipt is not NONE:
                    receipt.hold()
                    message.receipt = receipt
        self._size = max(largest + MESSAGE_OVERHEAD, self._size - self._size // 8)  # sizes differ: the largest of the last few
        return messages

    def _topic_of(self, key: int) -> bytes:
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = self._topic(key)
        return topic


def next_due(publishes: Sequence[Publish]) -> int | None:
    """When the earliest held-back result may go (monotonic ns)."""
    return min((due for p in publishes if (due := p.next_due()) is not None), default=None)
