"""What edged says on a port: what it sends when the port opens, and what it asks at a pace.

`Turns` says which question is due, and is pure: time is a parameter. Where there are several, one that is not answered is asked
less and less often, so that a device that is dead takes little of the time of the others. `Conversation` sends, waits for answers
and takes them out of what is read; it runs beside the reading, so that a device that is slow delays nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from edged.clock.clock import Clock
from edged.clock.timed_event import TimedEvent
from edged.config import schema
from edged.decode.checksums import Checksum
from edged.notation.words import duration
from edged.sources.asked import Asked
from edged.sources.flow import Flow

TIMEOUT_NS = 10**9
LOST_BEFORE_SLOWER = 2
"""So many answers in a row may get lost before a question is asked less often."""
SLOWEST_NS = 60 * 10**9
"""So often a question is asked at least, whatever became of it before; or at its own pace, if that is slower."""
WRITE_S = 1.0
"""At least so long a port is waited for that takes no bytes."""
MARK_S = 0.01
"""The line rests so long between a break and what is sent (SDI-12: 8.33 ms)."""
AGAIN_S = 0.1
"""Pause before what is sent at the opening is sent again, doubled each time, up to `SLOWEST_AGAIN_S`."""
SLOWEST_AGAIN_S = 10.0
FIRST_REMINDER_NS = 5 * 10**9
"""Pause before a silent device is told once more what it is told at the opening; doubled up to `SLOWEST_NS`."""
LOOK_S = 1.0
"""How often a device that is asked nothing is looked at."""


class Question(msgspec.Struct, frozen=True):
    """One entry of `send`. `every_ns` None: when the port opens."""

    data: bytes
    every_ns: int | None
    answer: bytes | None
    timeout_ns: int
    delay_ns: int = 0
    break_ns: int = 0


def questions(sends: Sequence[schema.Send]) -> tuple[Question, ...]:
    """The entries of `send`, with their checksums."""
    found = []
    for send in sends:
        checksum = Checksum.of(send.checksum)
        data = send.data if checksum is None else send.data + checksum.encode(send.data)
        timeout = send.timeout or min(send.every or TIMEOUT_NS, TIMEOUT_NS)
        found.append(Question(data, send.every, send.answer, timeout, send.delay, send.break_ or 0))
    return tuple(found)


def written(data: bytes) -> str:
    """Bytes as `edged check` prints them: as text where they are."""
    text = data.decode("ascii", "replace")
    if data and all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in data):
        return repr(text)
    return data.hex(" ")


def said(send: schema.Send) -> str:
    """One entry, as `edged check` prints it."""
    (question,) = questions([send])
    when = f"every {duration(send.every)}" if send.every else "when the port opens"
    before = f", after a break of {duration(send.break_)}" if send.break_ else ""
    awaited = f", and awaits {written(send.answer)}" if send.answer else ""
    return f"{written(question.data)} {when}{before}{awaited}"


class Turns:
    """Whose turn it is among things that are asked at a pace, and when. Times are ns of one clock."""

    def __init__(self, paces: Sequence[int]) -> None:
        self._paces = list(paces)
        self._due = [0] * len(paces)
        self._lost = [0] * len(paces)

    def begin(self, now: int) -> None:
        self._due = [now] * len(self._paces)
        self._lost = [0] * len(self._paces)

    def next(self) -> tuple[int, int]:
        """Which is due first, and when; of several due at once the one that waits longest, in their order."""
        which = min(range(len(self._due)), key=self._due.__getitem__)
        return which, self._due[which]

    def is_failing(self, which: int) -> bool:
        return self._lost[which] > LOST_BEFORE_SLOWER

    def next_of_others(self, which: int) -> int | None:
        """When the first of those that answer is due, apart from `which`."""
        well = [due for i, due in enumerate(self._due) if i != which and not self.is_failing(i)]
        return min(well, default=None)

    def done(self, which: int, now: int, was_answered: bool) -> None:
        """It was asked, and answered or not: when it is due again."""
        self._lost[which] = 0 if was_answered else self._lost[which] + 1
        pace = self._paces[which]
        if len(self._paces) > 1 and self.is_failing(which):
            slower = pace << min(self._lost[which] - LOST_BEFORE_SLOWER, 20)
            pace = max(pace, min(slower, SLOWEST_NS))
        due = self._due[which] + pace
        self._due[which] = due if due > now - pace else now  # in step, but what was missed is not made good


class Line(Protocol):
    """What can be written to."""

    async def write(self, data: bytes, limit_s: float) -> bool: ...
    async def send_break(self, seconds: float) -> None: ...


class Conversation:
    """Sends the entries of `send` on an open port, and knows of what is read what is an answer and no data."""

    def __init__(
        self, asks: Sequence[Question], counts: Asked, clock: Clock, flow: Flow, is_silent: Callable[[], bool] = lambda: False
    ) -> None:
        """`is_silent`: whether nothing comes any more. A device that lost its power behind an open port must be told again."""
        self.trouble = ""
        """Why no data can come: what was sent when the port opened was not answered."""
        self._opening = [one for one in asks if one.every_ns is None]
        self._paced = [one for one in asks if one.every_ns is not None]
        self._turns = Turns([one.every_ns or 0 for one in self._paced])
        self._counts = counts
        self._clock = clock
        self._flow = flow
        self._wanted: bytes | None = None
        self._held = b""
        self._came = TimedEvent()
        self._is_opening = False
        self._place = 0
        self._is_silent = is_silent
        self._reminder_ns = 0
        self._pause_ns = FIRST_REMINDER_NS

    def begin(self) -> None:
        """The port was opened: until its answers came, nothing of what is read is data."""
        self._held, self._wanted, self.trouble = b"", None, ""
        self._is_opening = any(one.answer for one in self._opening)
        self._came.clear()

    def take(self, data: bytes) -> bytes:
        """What of the bytes that were read is data: what comes up to the end of an awaited answer is not."""
        if self._wanted is None:
            if self._is_opening:
                self._counts.skipped += len(data)
                return b""
            return data
        held = self._held + data
        at = held.find(self._wanted)
        if at < 0:
            kept = len(self._wanted) - 1
            self._counts.skipped += max(0, len(held) - kept)
            self._held = held[len(held) - kept :] if kept else b""
            return b""
        rest = held[at + len(self._wanted) :]
        self._counts.skipped += len(held) - len(rest)
        self._wanted, self._held = None, b""
        self._came.set()
        if self._is_opening and not self._is_last_answer():
            self._counts.skipped += len(rest)
            return b""
        self._is_opening = False
        return rest

    def heard(self) -> None:
        """A good frame came: the answer to a question that waits for nothing in particular."""
        self._pause_ns = FIRST_REMINDER_NS
        if self._wanted is None:
            self._came.set()

    async def run(self, port: Line) -> None:
        """Says everything that is to be said, for ever. Raises Retryable when the port is gone."""
        await self._open(port)
        self._turns.begin(self._clock.now())
        while self._paced or self._opening:
            if self._opening and self.is_forgotten():
                self.begin()
                await self._open(port)
            if not self._paced:
                await asyncio.sleep(LOOK_S)
                continue
            which, due = self._turns.next()
            await asyncio.sleep(max(0, due - self._clock.now()) / 1e9)
            if not self._flow.is_open:
                await self._flow.wait()
            was_answered = await self._ask(port, self._paced[which])
            self._turns.done(which, self._clock.now(), was_answered)

    def is_forgotten(self) -> bool:
        """Whether it is time to tell a silent device again what it was told when the port opened."""
        now = self._clock.now()
        if now < self._reminder_ns or not self._is_silent():
            return False
        self._reminder_ns = now + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, SLOWEST_NS)
        return True

    async def _open(self, port: Line) -> None:
        for place, question in enumerate(self._opening):
            self._place = place
            await self._open_with(port, question)
        self._is_opening = False

    async def _open_with(self, port: Line, question: Question) -> None:
        pause, times = AGAIN_S, 0
        while not await self._ask(port, question):
            if question.answer is None:
                return
            times += 1
            sent, wanted = written(question.data), written(question.answer)
            self.trouble = f"it does not answer: {sent} was sent {times} times, and {wanted} did not come"
            await asyncio.sleep(pause)
            pause = min(2 * pause, SLOWEST_AGAIN_S)
            if self._came.is_set():  # late
                break
        self.trouble = ""

    async def _ask(self, port: Line, question: Question) -> bool:
        """Whether an answer came in time; of what waits for none, when the port opens, that it was sent."""
        if question.delay_ns:
            await asyncio.sleep(question.delay_ns / 1e9)
        if question.break_ns:
            await port.send_break(question.break_ns / 1e9)
            await asyncio.sleep(MARK_S)
        self._came.clear()
        self._wanted, self._held = question.answer, b""
        limit_s = question.timeout_ns / 1e9
        if await port.write(question.data, max(WRITE_S, limit_s)):
            self._counts.messages += 1
            self._counts.bytes += len(question.data)
            if question.every_ns is None and question.answer is None:
                return True
            if await self._came.wait(limit_s):
                self._counts.answered += 1
                return True
        self._counts.unanswered += 1
        if question.every_ns is not None:
            self._wanted, self._held = None, b""
        return False

    def _is_last_answer(self) -> bool:
        return not any(one.answer for one in self._opening[self._place + 1 :])


async def beside(talk: Coroutine[Any, Any, None], read: Coroutine[Any, Any, None]) -> None:
    """Talks while reading, until reading ends or either fails."""
    tasks = [asyncio.ensure_future(talk), asyncio.ensure_future(read)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
