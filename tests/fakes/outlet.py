"""Takes messages as a link would, and gives room as it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edged.records import Message


class Outlet:
    """`free`: room for so many messages; `give` makes more and calls whoever waits for it. `held`: what is held back, as on a
    disk, by topic, with the time when it may go."""

    def __init__(self, free: int = 1 << 30, *, can_hold: bool = False) -> None:
        self.sent: list[Message] = []
        self.free = free
        self.is_stalled = False
        self.can_hold = can_hold
        self.held: dict[bytes, tuple[Message, int]] = {}
        self._waiters: dict[Callable[[], None], None] = {}

    def frame_now(self, messages: Sequence[Message]) -> int:
        return 0

    def send(self, message: Message) -> None:
        self.sent.append(message)
        self.free -= 1

    def hold(self, message: Message, due: int, before: Message | None) -> None:
        self.supersede(message.topic, before)
        self.held[message.topic] = (message, due)

    def supersede(self, topic: bytes, before: Message | None) -> None:
        kept = self.held.pop(topic, None)
        assert (kept and kept[0]) is before

    def room(self, size: int) -> int:
        return self.free

    def when_room(self, callback: Callable[[], None]) -> None:
        self._waiters[callback] = None

    def give(self, count: int) -> None:
        self.free += count
        waiters, self._waiters = self._waiters, {}
        for callback in waiters:
            callback()
