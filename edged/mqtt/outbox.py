"""Messages waiting for one link, bounded in items and in bytes.

When full, the oldest QoS 0 message is dropped, then the oldest of QoS 1; each is counted on its account as `overflow`, or
handed over to the spool where there is one. One message always has its place, however large: else nothing would ever leave.
Two queues, so that QoS 1 messages waiting for the broker's acknowledgements do not hold up the others. A `publish` has
one QoS, so its messages keep their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from edged.records import MESSAGE_OVERHEAD, Message


class Outbox:
    """`max_items` and `max_bytes` (of `Message.size`) bound both queues together. A message that is put is `queued` on its
    account until it is taken or dropped. `hand_over` takes QoS 1 messages that would be dropped.

    `bytes_flying`: of messages that were taken and that the broker has yet to acknowledge. The sender keeps that number;
    they are in memory too, so `max_bytes` bounds them together with those that wait."""

    __slots__ = (
        *("bytes_flying", "bytes_queued", "hand_over", "items", "max_bytes", "max_items"),
        *("peak_bytes", "peak_items", "qos0", "qos1"),
    )

    def __init__(self, max_items: int, max_bytes: int, hand_over: Callable[[Message], None] | None = None) -> None:
        self.hand_over = hand_over
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.qos0: deque[Message] = deque()
        self.qos1: deque[Message] = deque()
        self.items = 0
        self.bytes_queued = 0
        self.bytes_flying = 0
        self.peak_items = 0
        self.peak_bytes = 0

    def __len__(self) -> int:
        return self.items

    @property
    def bytes_held(self) -> int:
        """Of all messages that wait or fly."""
        return self.bytes_queued + self.bytes_flying

    def is_full_for(self, message: Message) -> bool:
        """Whether a message that can go elsewhere, to the spool, had better: a quarter is left to those of QoS 0, which
        cannot, and would all be dropped while acknowledgements are slow."""
        if not self.items:
            return False
        return 4 * self.items >= 3 * self.max_items or 4 * (self.bytes_held + message.size) > 3 * self.max_bytes

    def would_drop(self, message: Message) -> bool:
        """Whether one is dropped if this one is put."""
        return self.items > 0 and (self.items >= self.max_items or self.bytes_held + message.size > self.max_bytes)

    def put(self, message: Message) -> None:
        """Takes a message. Never refuses: the oldest are dropped; what is larger than `max_bytes` waits alone."""
        account = message.account
        if account is not None:
            account.queued += 1
        (self.qos1 if message.qos else self.qos0).append(message)
        self.items += 1
        self.bytes_queued += len(message.topic) + len(message.body) + MESSAGE_OVERHEAD  # Message.size, without a call
        while self.items > 1 and (self.items > self.max_items or self.bytes_queued + self.bytes_flying > self.max_bytes):
            self.drop_oldest("overflow")
        if self.items > self.peak_items:
            self.peak_items = self.items
        if self.bytes_queued > self.peak_bytes:
            self.peak_bytes = self.bytes_queued

    def put_back(self, messages: Iterable[Message]) -> None:
        """Returns QoS 1 messages that were in flight, oldest first, before all others. May exceed the bounds by their
        number, which the flight window bounds."""
        for message in reversed(list(messages)):
            if message.account is not None:
                message.account.in_flight -= 1
                message.account.queued += 1
            self.qos1.appendleft(message)
            self.items += 1
            self.bytes_queued += message.size

    def take(self, queue: deque[Message]) -> Message:
        """The oldest of `qos0` or `qos1`. It is no longer `queued`; the caller accounts for what becomes of it."""
        message = queue.popleft()
        self.items -= 1
        self.bytes_queued -= len(message.topic) + len(message.body) + MESSAGE_OVERHEAD
        account = message.account
        if account is not None:
            account.queued -= 1
        return message

    def drop_oldest(self, reason: str) -> None:
        """Drops and counts one message and lets go of its receipt."""
        message = self.take(self.qos0 or self.qos1)
        if self.hand_over is not None and message.may_be_kept:
            self.hand_over(message)
            return
        drop(message, reason)

    def drop_replies(self, reason: str) -> None:
        """Drops the replies that were not sent yet."""
        for queue in (self.qos0, self.qos1):
            messages = list(queue)
            queue.clear()
            for message in messages:
                if message.mid or not message.is_reply:
                    queue.append(message)
                    continue
                self.items -= 1
                self.bytes_queued -= message.size
                if message.account is not None:
                    message.account.queued -= 1
                drop(message, reason)

    def abandon(self) -> None:
        """The process ends: what is left is counted as `shutdown`. Receipts are kept, so that inputs come again."""
        while queue := self.qos0 or self.qos1:
            message = self.take(queue)
            if message.account is not None:
                message.account.drops.add("shutdown")


def drop(message: Message, reason: str) -> None:
    """This message ends here: counted, its input settled."""
    if message.account is not None:
        message.account.drops.add(reason, topic=message.topic.decode(errors="replace"))
    message.receipt.done()
