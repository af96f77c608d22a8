"""A serial sensor: what one read of the port brought in becomes one block. Its states are those of `reading.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edged.clock.clock import Clock
from edged.config import schema
from edged.decode.stream import StreamDecoder, make_stream_decoder
from edged.records import Block, Rows
from edged.serialport import faults
from edged.serialport.discovery import find, port_name
from edged.serialport.terminal import CONSOLE_FIX, console_at
from edged.sources.counts import SourceCounts, stamped
from edged.sources.flow import Flow
from edged.sources.kind import Kind, Parts, Planned, Push, Report
from edged.sources.reading import Reading
from edged.sources.shared import Member, SharedPort
from edged.stamp import Stamper


class SerialSource(Reading):
    """A source that is alone on its port."""

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
        super().__init__(name, settings, decoder, flow, counts, clock, is_slow)
        self._stamper = stamper

    async def run(self, push: Push) -> None:
        """Raises Retryable when the port cannot be opened or goes away."""
        await self.serve(push)

    def _opened(self) -> None:
        super()._opened()
        self._stamper.reset()

    def _stamped(self, rows: Rows, arrival: int) -> Block | None:
        return stamped(rows, self._stamper, self.counts, arrival, self._clock.offset(), self._clock.is_synced())

    def _hand_on(self, block: Any, push: Any) -> None:
        push(block)


def build(plan: Planned, parts: Parts) -> SerialSource | Member:
    assert plan.decode is not None
    if plan.port:
        return Member(plan, parts)
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


def look(at: Report, settings: Any, ports: Callable[[], Sequence[str]]) -> None:
    if isinstance(settings.port, str) and (text := console_at(settings.port)):
        at.warn("port", f"{text}: its messages mix with what the sensor sends; {CONSOLE_FIX}")
    if find(settings.port) is None:
        at.warn("port", faults.missing(port_name(settings.port), ports()).reason)
    elif isinstance(settings.port, str) and (text := faults.is_no_port(settings.port, ports)):
        at.warn("port", text)


def port_of(settings: schema.SerialSource) -> str | schema.UsbPort:
    return settings.port


def frames_of(settings: schema.SerialSource) -> tuple[schema.Frame, schema.Checksum]:
    return settings.frame, settings.checksum


KIND = Kind(schema.SerialSource, build, describe, look, port_of, frames_of, share=SharedPort, recorded="serial")
