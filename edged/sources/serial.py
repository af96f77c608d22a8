"""A serial sensor: what one read of the port brought in becomes one block.

The states of its health, besides those of `transport.serial_port`:

    connecting      the port is being opened
    running         good rows come in
    silent          nothing has come in for a while
    no valid frame  bytes come in, but none of them has made a good row for NO_FRAME_NS
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from edged.clock.clock import Clock
from edged.clock.spent import spends
from edged.config import schema
from edged.config.values import NEVER
from edged.decode import StreamDecoder, make_stream_decoder
from edged.decode.propose import propose, shown
from edged.errors import Retryable
from edged.records import Block, Reject, Rows
from edged.serialport import faults
from edged.serialport.port import SerialPort, appeared, find, missing, port_name
from edged.sources.counts import SourceCounts, stamped
from edged.sources.flow import Flow
from edged.sources.kind import Kind, Parts, Planned, Report
from edged.sources.pictures import beside
from edged.stamp import Stamper
from edged.telemetry import QUIET

NO_FRAME_NS = 5 * 10**9
SILENT_NS = 10 * 10**9  # before anything has come, where neither `rate` nor `stale_after` says what to expect
SILENT_LEAST_NS = 2 * 10**9
SILENT_PERIODS = 3
LOOKED_AT_BYTES = 1024
"""Of what gave no row: enough to see what would read it."""


class SerialSource:
    """Reads one port for as long as it is there."""

    def __init__(
        self,
        name: str,
        settings: schema.SerialSource,
        decoder: StreamDecoder,
        stamper: Stamper,
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
        self._stamper = stamper
        self._flow = flow
        self._clock = clock
        self._is_slow = is_slow
        self._state = "connecting"
        self._reason = ""
        self._heard = 0  # monotonic ns: when the port was opened or last sent something
        self._hunt = _Hunt()

    @property
    def state(self) -> str:
        return "silent" if self._is_silent() else self._state

    @property
    def reason(self) -> str:
        if self._is_silent():
            return f"nothing has come in for {(self._clock.now() - self._heard) / 1e9:.0f} s"
        return self._reason

    async def run(self, push: Callable[[Block], None]) -> None:
        """Waits for the port, reads it and pushes its blocks, for ever.

        Raises Retryable when it cannot be opened or goes away. A port that is not there is waited for here, since its
        return is noticed at once.
        """
        await self._wait_for_port()
        self._turn("connecting", "")
        try:
            async with SerialPort(self._settings) as port:
                await self._read(port, push)
        except Retryable as e:
            self._turn(e.state, e.reason)
            raise

    async def _wait_for_port(self) -> None:
        if find(self._settings.port) is not None:
            return
        away = missing(self._settings.port)
        self._turn(away.state, away.reason)
        await appeared(self._settings.port)

    async def _read(self, port: SerialPort, push: Callable[[Block], None]) -> None:
        counts, clock, flow, hunt = self.counts, self._clock, self._flow, self._hunt
        is_midway = await port.is_midway()
        counts.opens += 1
        self._decoder.reset(is_midway)
        self._stamper.reset()
        self._heard = counts.opened = clock.now()
        hunt.begin(self._heard)
        self._turn("running", "")
        while True:
            data = await port.read()
            arrival = self._heard = counts.last_arrival = clock.now()
            counts.bytes += len(data)
            if counts.on_raw:
                counts.show(data)
            block: Block | None = None
            rejects: Sequence[Reject] = ()
            try:
                rows = await beside(self.name, partial(self._decoder.feed, data)) if self._is_slow else self._feed(data)
                if rows is not None:
                    rejects = rows.rejects
                    block = self._stamped(rows, arrival)
            except Exception as error:  # a fault of ours costs this read
                counts.lose(error, data)
                self._decoder.reset()
            if block is not None:
                hunt.begin(arrival)
                if self._state != "running":
                    self._turn("running", "")
                push(block)
            elif rejects and all(reject.reason in QUIET for reject in rejects):
                hunt.begin(arrival)  # good frames, though of another kind
            elif hunt.missed(data, rejects, arrival) and self._state != "no valid frame":
                self._turn("no valid frame", hunt.complaint(self._settings))
            if not flow.is_open:
                await flow.wait()

    @spends("decode")
    def _feed(self, data: bytes) -> Rows | None:
        return self._decoder.feed(data)

    @spends("decode")
    def _stamped(self, rows: Rows, arrival: int) -> Block | None:
        return stamped(rows, self._stamper, self.counts, arrival, self._clock.offset(), self._clock.is_synced())

    def _is_silent(self) -> bool:
        if self._state not in ("running", "no valid frame"):
            return False
        rate = self._settings.rate
        limit: float | None = self._settings.stale_after
        if limit == NEVER:
            limit = None
        elif limit is None and rate:
            limit = max(SILENT_LEAST_NS, SILENT_PERIODS * 1e9 / rate)
        if limit is None and not self.counts.last_arrival:
            limit = SILENT_NS
        return limit is not None and self._flow.is_open and self._clock.now() - self._heard > limit

    def _turn(self, state: str, reason: str) -> None:
        self._state, self._reason = state, reason


class _Hunt:
    """What came in since the last good row."""

    __slots__ = ("_bytes", "_first", "_frames", "_last", "_since")

    def begin(self, now: int) -> None:
        self._since = now
        self._bytes = 0
        self._frames = 0
        self._first = b""
        self._last: Reject | None = None

    def missed(self, data: bytes, rejects: Sequence[Reject], now: int) -> bool:
        """Takes bytes that made no good row; True when that has gone on for too long."""
        if len(self._first) < LOOKED_AT_BYTES:
            self._first = (self._first + data)[:LOOKED_AT_BYTES]
        self._bytes += len(data)
        for reject in rejects:
            if reject.reason not in ("too_large", "no_frame"):  # these say that no frame was found at all
                self._frames += reject.times
                self._last = reject
        return now - self._since >= NO_FRAME_NS

    def complaint(self, settings: schema.SerialSource) -> str:
        seen = f"it begins {shown(self._first)}"
        where = port_name(settings.port)
        cure = "; ".join(propose(self._first))
        seen += f"; {cure}" if cure else ""
        if self._last is not None:
            return f"{where}: none of {self._frames} frames is good, the last: {self._last.reason} ({self._last.detail}); {seen}"
        wanted = "line end" if settings.frame.type == "line" else "valid frame"
        return f"{where}: no {wanted} in {self._bytes} bytes at {settings.baudrate} baud: wrong baudrate? {seen}"


def build(plan: Planned, parts: Parts) -> SerialSource:
    assert plan.decode is not None
    decoder = make_stream_decoder(plan.decode)
    return SerialSource(
        plan.name, plan.settings, decoder, parts.stamper, parts.flow, parts.counts, parts.clock, plan.decode.is_slow
    )


def describe(plan: Planned) -> str:
    port, baudrate = plan.settings.port, plan.settings.baudrate
    if isinstance(port, schema.UsbPort):
        number = f" {port.serial}" if port.serial else ""
        return f"USB serial port {port.vid:04x}:{port.pid:04x}{number} at {baudrate} baud"
    return f"serial port {port} at {baudrate} baud"


def look(at: Report, settings: schema.SerialSource, ports: Callable[[], Sequence[str]]) -> None:
    if find(settings.port) is None:
        at.warn("port", faults.missing(port_name(settings.port), ports()).reason)
    elif isinstance(settings.port, str) and (text := faults.is_no_port(settings.port, ports)):
        at.warn("port", text)


def port_of(settings: schema.SerialSource) -> str | schema.UsbPort:
    return settings.port


def frames_of(settings: schema.SerialSource) -> tuple[schema.Frame, schema.Checksum]:
    return settings.frame, settings.checksum


KIND = Kind(schema.SerialSource, build, describe, look, port_of, frames_of)
