"""Takes messages as a link would, and gives room as it is told."""

from __future__ import annotations

from collections.abc import Callable

from edged.records import Message


class Outlet:
    """`free`: room for so many messages; `give` makes more and calls whoever waits for it."""

    def __init__(self, free: int = 1 << 30) -> None:
        self.sent: list[Message] = []
        self.free = free
        self.is_stalled = False
        self._waiters: dict[Callable[[], None], None] = {}

    def send(self, message: Message) -> None:
        self.sent.append(message)
        self.free -= 1

    def room(self, size: int) -> int:
        return self.free

    def when_room(self, callback: Callable[[], None]) -> None:
        self._waiters[callback] = None

    def give(self, count: int) -> None:
        self.free += count
        waiters, self._waiters = self._waiters, {}
        for callback in waiters:
            callback()
