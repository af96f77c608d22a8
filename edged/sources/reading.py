"""Reading a serial port: bytes to rows, what is asked on it, and the state that it is in.

The states, besides those of `serialport/port.py`:

    connecting      the port is being opened
    running         good rows come in
    silent          nothing has come in for a while, or what was sent when the port opened is not answered
    no valid frame  bytes come in, but none of them has made a good row for NO_FRAME_NS
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from edged.clock.clock import Clock
from edged.clock.spent import spends
from edged.config import schema
from edged.decode.propose import propose, shown
from edged.decode.stream import StreamDecoder
from edged.notation.values import NEVER
from edged.records import Reject, Rows
from edged.serialport.discovery import port_name
from edged.serialport.port import LineSettings, SerialPort
from edged.sources.asking import Conversation, beside, questions
from edged.sources.counts import Arrival, SourceCounts
from edged.sources.flow import Flow
from edged.sources.opening import opened
from edged.sources.pictures import beside as off_the_loop
from edged.sources.written import write_to
from edged.telemetry import QUIET

NO_FRAME_NS = 5 * 10**9
SILENT_NS = 10 * 10**9  # before anything has come, where neither `rate` nor `stale_after` says what to expect
SILENT_LEAST_NS = 2 * 10**9
SILENT_PERIODS = 3
OPEN = ("running", "no valid frame")
"""The states of a port that is open."""
LOOKED_AT_BYTES = 1024
"""Of what gave no row: enough to see what would read it."""


Late = tuple[bytes, Sequence[tuple[int, str]], int]
"""A read of a port: its bytes, which of them were wrong on the line, and when it came (monotonic ns)."""


class Reading(ABC):
    """Reads one port for as long as it is there, and asks on it what is to be asked. What becomes of the rows is said by the two
    that are made of it: a source, and a port that several sources share."""

    def __init__(
        self,
        name: str,
        settings: Any,
        decoder: StreamDecoder,
        flow: Flow,
        counts: SourceCounts,
        clock: Clock,
        is_slow: bool = False,
    ) -> None:
        """`is_slow`: decoding takes too long for the loop."""
        self.name = name
        self.counts = counts
        self._settings = settings
        self._decoder = decoder
        self._flow = flow
        self._clock = clock
        self._late: list[Late] | None = [] if is_slow else None  # reads that are decoded beside the loop
        self._state = "connecting"
        self._reason = ""
        self._heard = 0  # monotonic ns: when the port was opened or last sent something
        self._hunt = _Hunt()
        self._port: SerialPort | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._talk: Conversation | None = None
        self._push: Any = None

    @property
    def state(self) -> str:
        return "silent" if self._is_silent() else self._state

    @property
    def reason(self) -> str:
        trouble = self._port.trouble if self._port is not None and self._state in OPEN else ""
        return "; ".join(filter(None, (self._own_reason(), trouble)))

    def _own_reason(self) -> str:
        if self._talk is not None and self._talk.trouble and self._state in OPEN:
            return self._talk.trouble
        if self._is_silent():
            return f"nothing has come in for {(self._clock.now() - self._heard) / 1e9:.0f} s"
        return self._reason

    async def serve(self, push: Any) -> None:
        """Waits for the port, reads it and hands on what comes, for ever.

        Raises Retryable when it cannot be opened or goes away.
        """
        await opened(self._settings, self._turn, partial(self._work, push))

    async def _work(self, push: Any, port: SerialPort) -> None:
        counts, clock = self.counts, self._clock
        self._decoder.reset(await port.is_midway())
        self._opened()
        self._port, self._push, self._talk = port, push, None
        self._turn("running", "")
        if not self._settings.send:
            await self._read(port)
            return
        talk = self._talk = Conversation(questions(self._settings.send), counts.asked, clock, self._flow, self._is_silent)
        talk.begin()
        await beside(talk.run(port), self._read(port))

    async def write(self, data: bytes, limit_s: float) -> None:
        """Raises Retryable where the port is not open, or takes nothing."""
        port = self._port if self._state in OPEN else None
        await write_to(port, self._state, self._reason, self._settings, data, limit_s)

    def _opened(self) -> None:
        self.counts.opens += 1
        self._heard = self._hunt.since = self.counts.opened = self._clock.now()
        self._hunt.begin()

    async def _read(self, port: SerialPort) -> None:
        come = partial(self._come, port)
        while True:
            await port.read_each(come)
            while self._late:
                await self._take_late(*self._late.pop())
            await self._flow.wait()

    def _come(self, port: SerialPort, data: bytes) -> bool:
        """Takes one read of the port; whether the next may come."""
        counts = self.counts
        arrival = self._heard = counts.last_arrival = self._clock.now()
        counts.bytes += len(data)
        if counts.watch.on_raw:
            counts.watch.came(Arrival(data, arrival))
        if self._late is not None:
            self._late.append((data, port.bad, arrival))
            return False
        if not port.bad and self._talk is None:
            self._take(data, arrival)
        else:
            for piece, reason in self._pieces(data, port.bad):
                if piece:
                    self._take(piece, arrival)
                self._spoil(reason)
        return self._flow.is_open

    def _pieces(self, data: bytes, bad: Sequence[tuple[int, str]]) -> Iterator[tuple[bytes, str]]:
        """What is data of a read, up to each byte that was wrong on the line and why that was; empty: no byte was."""
        at = 0
        for place, reason in (*bad, (len(data), "")):
            piece, at = data[at:place], place
            yield piece if self._talk is None or not piece else self._talk.take(piece), reason

    def _spoil(self, reason: str) -> None:
        """The frame that a byte belongs to which was wrong on the line is refused."""
        if reason:
            self._decoder.spoil()
            self.counts.read += 1
            self.counts.reject([damaged(reason, self._settings)])

    @spends("decode")
    def _take(self, data: bytes, arrival: int) -> None:
        counts = self.counts
        if counts.watch.on_data:
            counts.watch.decodes(Arrival(data, arrival))
        try:
            rows = self._feed(data)
        except Exception as error:
            rows = None
            self._lose(error, data)
        self._settle(rows, data, arrival)
        self._listen()

    async def _take_late(self, data: bytes, bad: Sequence[tuple[int, str]], arrival: int) -> None:
        """The same, decoded beside the loop."""
        for piece, reason in self._pieces(data, bad):
            if piece:
                if self.counts.watch.on_data:
                    self.counts.watch.decodes(Arrival(piece, arrival))
                try:
                    rows = await off_the_loop(self.name, partial(self._feed, piece))
                except Exception as error:
                    rows = None
                    self._lose(error, piece)
                self._settle(rows, piece, arrival)
                self._listen()
            self._spoil(reason)

    def _lose(self, error: Exception, data: bytes = b"") -> None:
        """A fault of ours costs this read."""
        self.counts.lose(error, data)
        self._decoder.reset()

    def _listen(self) -> None:
        """Where a silence would tell more of what is held, it is waited for."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._decoder.is_waiting:
            gap = self._settings.frame.gap or _patience_ns(self._settings.baudrate)
            self._silence = asyncio.get_running_loop().call_later(gap / 1e9, self._on_silence)

    def _on_silence(self) -> None:
        """A block that only a silence ends has ended, and a frame that was begun may be none, if the port is still open."""
        if self._state not in OPEN:
            return
        try:
            rows = self._quiet()
        except Exception as error:
            self._lose(error)
        else:
            self._settle(rows, b"", self._heard)

    def _settle(self, rows: Rows | None, data: bytes, arrival: int) -> None:
        """What became of some bytes: it is handed on, and says how the port is."""
        block: Any = None
        rejects: Sequence[Reject] = ()
        if rows is not None:
            rejects = rows.rejects
            try:
                block = self._stamped(rows, arrival)
            except Exception as error:
                self._lose(error, data)
        talk, hunt = self._talk, self._hunt
        is_other = bool(rejects) and all(reject.reason in QUIET for reject in rejects)
        if talk is not None and (block is not None or is_other):
            talk.heard()
        if block is not None:
            hunt.since = arrival
            if hunt.is_on:
                hunt.begin()
            if self._state != "running":
                self._turn("running", "")
            self._hand_on(block, self._push)
        elif is_other:
            hunt.since = arrival  # good frames, though of another kind
            hunt.begin()
        elif data or rejects:
            hunt.miss(data, rejects)
            if arrival - hunt.since >= NO_FRAME_NS and self._state != "no valid frame":
                self._turn("no valid frame", hunt.complaint(self._settings))
                if self._port is not None:
                    self._port.suspect()

    def _quiet(self) -> Rows | None:
        return self._decoder.quiet()

    def _feed(self, data: bytes) -> Rows | None:
        return self._decoder.feed(data)

    @abstractmethod
    def _stamped(self, rows: Rows, arrival: int) -> Any:
        """What is to be handed on, counted; None where nothing good came."""

    @abstractmethod
    def _hand_on(self, block: Any, push: Any) -> None:
        """Gives it to who takes it."""

    def _is_silent(self) -> bool:
        if self._state not in OPEN:
            return False
        if self._talk is not None and self._talk.trouble:
            return True
        limit = self._silence_ns()
        return limit is not None and self._flow.is_open and self._clock.now() - self._heard > limit

    def _silence_ns(self) -> float | None:
        return silence_ns(self._settings, self.counts.last_arrival > 0)

    def _turn(self, state: str, reason: str) -> None:
        self._state, self._reason = state, reason


def _patience_ns(baudrate: int) -> float:
    """A silence that no device makes within a frame."""
    return max(100e6, 50 * 11e9 / baudrate)


def damaged(reason: str, settings: LineSettings) -> Reject:
    """What is said of a byte that the driver found wrong: the frame with it is refused."""
    said = f"parity = {settings.parity!r}" if reason == "parity" else f"{settings.baudrate} baud"
    return Reject(reason, f"a byte was damaged on the line, so edged rejected its frame: check {said} and the cable")


def silence_ns(settings: Any, was_heard: bool) -> float | None:
    """How long nothing may come in; None: for ever."""
    rate = getattr(settings, "rate", None)
    limit: float | None = getattr(settings, "stale_after", None)
    if limit == NEVER:
        limit = None
    elif limit is None and rate:
        limit = max(SILENT_LEAST_NS, SILENT_PERIODS * 1e9 / rate)
    return SILENT_NS if limit is None and not was_heard else limit


class _Hunt:
    """What came in since the last good frame, or since the port was opened: `since`, in monotonic ns."""

    __slots__ = ("_bytes", "_first", "_frames", "_last", "is_on", "since")

    def __init__(self) -> None:
        self.since = 0
        self.begin()

    def begin(self) -> None:
        self.is_on = False
        self._bytes = 0
        self._frames = 0
        self._first = b""
        self._last: Reject | None = None

    def miss(self, data: bytes, rejects: Sequence[Reject]) -> None:
        """Takes bytes that made no good row."""
        self.is_on = True
        if len(self._first) < LOOKED_AT_BYTES:
            self._first = (self._first + data)[:LOOKED_AT_BYTES]
        self._bytes += len(data)
        for reject in rejects:
            if reject.reason not in ("too_large", "no_frame"):  # these say that no frame was found at all
                self._frames += reject.times
                self._last = reject

    def complaint(self, settings: schema.SerialSource) -> str:
        seen = f"it begins {shown(self._first)}"
        where = port_name(settings.port)
        fix = "; ".join(propose(self._first))
        seen += f"; {fix}" if fix else ""
        if self._last is not None:
            return f"{where}: none of {self._frames} frames is good, the last: {self._last.reason} ({self._last.detail}); {seen}"
        wanted = "line end" if settings.frame.type == "line" else "valid frame"
        return f"{where}: no {wanted} in {self._bytes} bytes at {settings.baudrate} baud: wrong baudrate? {seen}"
