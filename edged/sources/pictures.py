"""Payloads that take too long to decode for the loop, as pictures do: a thread decodes them, one at a time, in order.

Measured on a slow core, with the resizing to 640 pixels: 10 ms for a JPEG of 1920 x 1080 pixels, 35 ms for a PNG, 1.2 ms for
a JPEG of 640 x 480, and many times that for what `max_pixels` allows; the loop may be held for 5. To start a thread takes
0.2 ms. So all of them go to a thread, which is simpler than two ways; it ends with its picture, and no picture is decoded
while the one before it waits for the loop. Memory therefore holds one picture of a source as pixels, however many came in.

What waited for half of the deadline of those who want it is not decoded any more: else, under overload, all time would be spent
on pictures that are too old by then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import NamedTuple

from edged.decode import PayloadDecoder
from edged.records import Receipt, Rows
from edged.system.one_shot import in_one_shot_thread, start_one_shot_thread

MAX_FULL = 4
MAX_ITEMS = 256
"""Payloads at QoS 0 that may wait: so many times `max_bytes`, and so many. Those at QoS 1 have the broker's receive maximum."""


class Waiting(NamedTuple):
    """One message that is to be decoded. `arrival` is monotonic ns."""

    payload: bytes
    captures: tuple[str, ...]
    receipt: Receipt
    arrival: int

    @property
    def may_be_dropped(self) -> bool:
        """At QoS 0: no broker has it any more, and none waits for its acknowledgement."""
        return not self.receipt.mid


class PictureQueue:
    """The queue of one MQTT source. On the loop `take(message, rows)` is called for each in the order of arrival, with the error
    where there are no rows, and `drop(message, reason)` for each that is not decoded: what is too old, and at QoS 0, where there
    is no room, the oldest, or a request that has just come. It holds the receipt of what waits. `now` is monotonic ns."""

    def __init__(
        self,
        name: str,
        decoder: PayloadDecoder,
        max_bytes: int,
        take: Callable[[Waiting, Rows | BaseException], None],
        drop: Callable[[Waiting, str], None],
        now: Callable[[], int],
    ) -> None:
        self._name = name
        self._decoder = decoder
        self._limit = MAX_FULL * max_bytes
        self._take = take
        self._drop = drop
        self._time = now
        self.deadline = 0
        """The longest of those who want the pictures, in ns; 0 if one of them has none."""
        self._waiting: deque[Waiting] = deque()
        self._items = self._bytes = 0  # those of them that may be dropped
        self._now: Waiting | None = None
        """What the thread has; None while there is none."""
        self._is_unwanted = False
        """What the thread has comes again, or another queue has it: its rows are nobody's."""

    def configure(self, deadline: int) -> None:
        self.deadline = deadline

    def __len__(self) -> int:
        return len(self._waiting) + (self._now is not None)

    def add(self, message: Waiting) -> None:
        message.receipt.hold()
        self._waiting.append(message)
        self._count(message, 1)
        self._shed()
        self._start()

    def supersede(self, receipts: AbstractSet[Receipt]) -> None:
        """These inputs come again, so that those here are not wanted."""
        for one in [one for one in self._waiting if one.receipt in receipts]:
            self._waiting.remove(one)
            self._count(one, -1)
            one.receipt.done()
        if self._now is not None and self._now.receipt in receipts:
            self._is_unwanted = True

    def expire(self, receipts: AbstractSet[Receipt]) -> None:
        """Nobody waits any more for what comes of these inputs."""
        for one in [one for one in self._waiting if one.receipt in receipts]:
            self._waiting.remove(one)
            self._let_go(one, "expired")
        if self._now is not None and not self._is_unwanted and self._now.receipt in receipts:
            self._is_unwanted = True
            self._drop(self._now, "expired")

    def leave(self) -> list[Waiting]:
        """Gives all that waits to whoever calls, with its receipts: nothing comes of it here any more."""
        left = [*([self._now] if self._now is not None and not self._is_unwanted else ()), *self._waiting]
        if self._now is not None and not self._is_unwanted:
            self._now.receipt.hold()  # the thread's own is let go when it ends
            self._is_unwanted = True
        self._waiting.clear()
        self._items = self._bytes = 0
        return left

    def _shed(self) -> None:
        newest = self._waiting[-1]
        while self._bytes > self._limit or self._items > MAX_ITEMS:
            if newest.receipt.is_request and newest.may_be_dropped:  # a request pushes nothing out
                self._let_go(self._waiting.pop(), "busy")
                return
            oldest = next(i for i, one in enumerate(self._waiting) if one.may_be_dropped)
            loser = self._waiting[oldest]
            del self._waiting[oldest]
            self._let_go(loser, "overflow")

    def _let_go(self, one: Waiting, reason: str) -> None:
        """What waits no more, and is not decoded."""
        self._count(one, -1)
        self._drop(one, reason)
        one.receipt.done()

    def _count(self, one: Waiting, sign: int) -> None:
        if one.may_be_dropped:
            self._items += sign
            self._bytes += sign * len(one.payload)

    def _start(self) -> None:
        if self._now is not None:
            return
        since = self._time() - self.deadline // 2 if self.deadline else 0
        while self._waiting and self._waiting[0].arrival < since:
            self._let_go(self._waiting.popleft(), "expired")
        if self._waiting:
            one = self._waiting[0]
            work = partial(self._decoder.decode, [one.payload])
            try:
                done = start_one_shot_thread(f"decode-{self._name}", work, lambda _: None)
            except RuntimeError:  # no thread can be had: it is tried again with the next message
                return
            self._waiting.popleft()
            self._count(one, -1)
            self._now, self._is_unwanted = one, False
            done.add_done_callback(self._done)

    def _done(self, decoded: asyncio.Future[Rows]) -> None:
        one, self._now = self._now, None
        assert one is not None
        if not self._is_unwanted:
            self._take(one, decoded.exception() or decoded.result())
        one.receipt.done()
        self._start()


async def beside(name: str, work: Callable[[], Rows | None]) -> Rows | None:
    """What `work` gives, made in a thread: for sources that have a task of their own, and can wait for it."""
    return await in_one_shot_thread(f"decode-{name}", work, lambda _: None)
