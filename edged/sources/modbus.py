"""Units on a Modbus RTU bus, asked one after the other.

A bus is a port and the sources that ask on it. Each unit of each source is asked at its own pace; one that does not answer is
asked less and less often, and while it fails no longer than until another one is due, so that it delays nobody. The states of a
source, besides those of `serialport/port.py`:

    running   units answer
    silent    none does
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from edged.clock.clock import Clock
from edged.clock.spent import spends
from edged.clock.timed_event import TimedEvent
from edged.config import schema
from edged.decode import make_payload_decoder
from edged.records import Block, Reject, Rows
from edged.serialport.port import SerialPort
from edged.sources import rtu, serial
from edged.sources.asking import WRITE_S, Turns, beside
from edged.sources.counts import Arrival, SourceCounts, stamped
from edged.sources.flow import Flow
from edged.sources.kind import Kind, Parts, Planned, Push
from edged.sources.opening import opened

KEPT_BYTES = 1024
"""Of what comes while an answer is waited for: no frame is longer than 256."""
MIN_PROBE_NS = 100 * 10**6
"""A unit that fails is given at least so long, however soon another one is due."""


class Asker(Protocol):
    """Whoever wants samples of units of a bus."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> schema.ModbusSource: ...
    @property
    def poll(self) -> rtu.Poll: ...
    @property
    def flow(self) -> Flow: ...
    def open(self) -> None:
        """The port was opened."""

    def turn(self, state: str, reason: str) -> None:
        """What is to be said of the port."""

    def took(self, address: int, answers: Sequence[bytes], arrival: int) -> Block | None:
        """The registers of a unit; what is to be handed on."""

    def missed(self, address: int, refusal: rtu.Refusal) -> None:
        """A unit gave none."""


class ModbusSource:
    """Asks for the registers of one or several units; alone on its bus it opens the port itself."""

    def __init__(self, plan: Planned, parts: Parts) -> None:
        assert plan.decode is not None
        self.name = plan.name
        self.counts = parts.counts
        self.settings: schema.ModbusSource = plan.settings
        self.poll = rtu.poll_of(plan.settings.decode.fields)
        self.flow = parts.flow
        self.state = "connecting"
        self.reason = ""
        self._decoder = make_payload_decoder(plan.decode, is_one=True)
        self._stamper = parts.stamper
        self._clock = parts.clock
        self._failing: dict[int, str] = {}

    async def run(self, push: Push) -> None:
        """Raises Retryable when the port cannot be opened or goes away."""
        await Bus(self.name, self.settings, [self], self.counts, self._clock).run({self.name: push})

    def turn(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason

    def open(self) -> None:
        """The port was opened."""
        self.counts.opened = self._clock.now()
        self._failing.clear()
        self._stamper.reset()
        self.turn("running", "")

    def took(self, address: int, answers: Sequence[bytes], arrival: int) -> Block | None:
        """The sample of a unit."""
        self._failing.pop(address, None)
        self.counts.last_arrival = arrival
        if self.state != "running":
            self.turn("running", "")
        payload = self.poll.sample(address, answers)
        if self.counts.watch.on_data:
            self.counts.watch.decodes(Arrival(payload, arrival))
        try:
            return self._stamped(self._decode(payload), arrival)
        except Exception as error:  # a fault of ours costs this sample
            self.counts.lose(error, payload)
            return None

    def missed(self, address: int, refusal: rtu.Refusal) -> None:
        """A unit gave no sample."""
        self.counts.read += 1
        self.counts.reject([Reject(refusal.reason, refusal.detail)])
        self._failing[address] = refusal.detail
        if len(self._failing) == len(self.settings.address):
            self.turn("silent", next(iter(self._failing.values())))

    @spends("decode")
    def _decode(self, payload: bytes) -> Rows:
        return self._decoder.decode([payload])

    @spends("decode")
    def _stamped(self, rows: Rows, arrival: int) -> Block | None:
        return stamped(rows, self._stamper, self.counts, arrival, self._clock.offset(), self._clock.is_synced())


class Unit(msgspec.Struct, frozen=True):
    """One address that one source asks."""

    source: Asker
    address: int


class Bus:
    """Opens the port and asks. `settings` are those of the line."""

    def __init__(self, name: str, settings: Any, sources: Sequence[Asker], counts: SourceCounts, clock: Clock) -> None:
        self.name = name
        self.counts = counts
        self.state = "connecting"
        self.reason = ""
        self._settings = settings
        self._sources = sources
        self._clock = clock
        self._units = [Unit(source, address) for source in sources for address in source.settings.address]
        self._turns = Turns([unit.source.settings.every for unit in self._units])
        self._buffer = bytearray()
        self._came = TimedEvent()
        self._heard = 0

    async def run(self, pushes: Mapping[str, Push]) -> None:
        """Raises Retryable when the port cannot be opened or goes away."""
        await opened(self._settings, self._turn, partial(self._work, pushes))

    async def _work(self, pushes: Mapping[str, Push], port: SerialPort) -> None:
        self.counts.opens += 1
        for source in self._sources:
            source.open()
        self._turn("running", port.trouble)
        await beside(self._ask_all(port, pushes), self._listen(port))

    async def _listen(self, port: SerialPort) -> None:
        while True:
            data = await port.read()
            self._heard = self._clock.now()
            self.counts.bytes += len(data)
            if self.counts.watch.on_raw:
                self.counts.watch.came(Arrival(data, self._heard))
            self._buffer += data
            del self._buffer[:-KEPT_BYTES]
            self._came.set()

    async def _ask_all(self, port: SerialPort, pushes: Mapping[str, Push]) -> None:
        self._turns.begin(self._clock.now())
        while True:
            which, due = self._turns.next()
            await asyncio.sleep(max(0, due - self._clock.now()) / 1e9)
            unit = self._units[which]
            if not unit.source.flow.is_open:
                await unit.source.flow.wait()
            answers = await self._ask(port, unit, self._limit_ns(which))
            arrival = self._clock.now()
            self._turns.done(which, arrival, not isinstance(answers, rtu.Refusal))
            if isinstance(answers, rtu.Refusal):
                unit.source.missed(unit.address, answers)
            elif (block := unit.source.took(unit.address, answers, arrival)) is not None:
                pushes[unit.source.name](block)

    def _limit_ns(self, which: int) -> int:
        """How long an answer is waited for: of a unit that fails no longer than until another one is due."""
        timeout = self._units[which].source.settings.timeout
        other = self._turns.next_of_others(which)
        if not self._turns.is_failing(which) or other is None:
            return timeout
        return min(timeout, max(other - self._clock.now(), MIN_PROBE_NS))

    async def _ask(self, port: SerialPort, unit: Unit, limit_ns: int) -> list[bytes] | rtu.Refusal:
        answers: list[bytes] = []
        for request in unit.source.poll.requests:
            answer = await self._exchange(port, request, unit.address, limit_ns / 1e9)
            if isinstance(answer, rtu.Refusal):
                return answer
            answers.append(answer)
        return answers

    async def _exchange(self, port: SerialPort, request: rtu.Request, address: int, limit_s: float) -> bytes | rtu.Refusal:
        asked = self.counts.asked
        await self._rest()
        asked.skipped += len(self._buffer)  # late answers
        self._buffer.clear()
        sent = request.written(address)
        if not await port.write(sent, max(WRITE_S, limit_s)):
            return rtu.Refusal("no_answer", f"unit {address}: the port takes no bytes: flow control?")
        asked.messages += 1
        asked.bytes += len(sent)
        on_the_line = (len(sent) + rtu.answer_bytes(request)) * rtu.character_s(self._settings)
        end = self._clock.now() + int((limit_s + on_the_line) * 1e9)
        while True:
            answer = request.answer(bytes(self._buffer), sent)
            if answer is not None:
                asked.answered += 1
                self._buffer.clear()
                return answer
            self._came.clear()
            if not await self._came.wait((end - self._clock.now()) / 1e9):
                asked.unanswered += 1
                return request.no_answer(bytes(self._buffer), sent, limit_s)

    async def _rest(self) -> None:
        """Waits until the line has been silent as long as it must between two frames."""
        gap_ns = int(rtu.gap_s(self._settings) * 1e9)
        left = self._heard + gap_ns - self._clock.now()
        while left > 0:
            await asyncio.sleep(left / 1e9)
            left = self._heard + gap_ns - self._clock.now()

    def _turn(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        for source in self._sources:
            source.turn(state, reason)


def describe(plan: Planned) -> str:
    settings: schema.ModbusSource = plan.settings
    units = ", ".join(map(str, settings.address))
    which = f"unit{'s' if len(settings.address) > 1 else ''} {units}"
    port = serial.describe(plan)
    return f"Modbus {which} on {port}"


KIND = Kind(schema.ModbusSource, ModbusSource, describe, serial.look, serial.port_of, share=Bus, recorded="modbus")
