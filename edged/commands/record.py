"""`edged record SOURCE`: writes down what a source or a shared port sends, byte for byte, for a replay source to play. What a
simulated source makes is written as lines of csv, as a sensor on a serial port would send it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.commands.loop import STOP, on_loop, until_stopped
from edged.config.load import Draft, read, report
from edged.config.ports import settled
from edged.config.schema import AnySource, ModbusSource, ReplaySource, SimulateSource
from edged.errors import EX_OK, ConfigError, Fatal, Problem, Retryable
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.notation.words import did_you_mean, listed
from edged.plan.links import plan_links
from edged.plan.make import fixed_names
from edged.plan.sources import plan_sources
from edged.records import Block
from edged.serialport.port import SerialPort
from edged.sources import simulate, simulation
from edged.sources.asked import Asked
from edged.sources.asking import Conversation, beside, questions
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.kinds import kind_of
from edged.sources.modbus import Bus
from edged.sources.opening import opened
from edged.sources.recording import Recorder
from edged.sources.rtu import Refusal, poll_of
from edged.system import log
from edged.system.process import complain

FLUSH_S = 1.0
AGAIN_S = 0.5
UNITS = {"serial": "reads", "mqtt": "messages", "modbus": "samples"}


def record(config: Path, name: str, output: Path, seconds: float | None) -> int:
    """Records until Ctrl-C, SIGTERM or `seconds`. Raises ConfigError or Fatal."""
    draft = read(config)
    log.configure("warning", "auto")
    if any(not p.is_warning for p in draft.problems):
        raise ConfigError(report(draft, [p for p in draft.problems if not p.is_warning]))
    source = draft.config.source.get(name)
    if isinstance(source, ReplaySource):
        raise Fatal(f"source.{name} plays {source.path}, which is a recording already")
    kind = _kind(draft, name)
    if kind is None:
        known = [n for n in (*draft.config.source, *draft.config.port) if _kind(draft, n)]
        raise Fatal(f"no source is called {name}{did_you_mean(name, known)}; in {config}: {listed(known)}")
    try:
        with Recorder(output, kind, name, Clock()) as recorder:
            work = _work(draft, name, kind, recorder)
            on_loop(until_stopped(work, _flush(recorder), seconds, (*STOP, signal.SIGHUP)))
    except OSError as error:
        raise Fatal(f"{output}: {error.strerror or error}") from error
    complain(f"{output}: {recorder.count} {UNITS[kind]}, {recorder.size} bytes{_how(source)}")  # once all of it is in the file
    return EX_OK


async def _flush(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        recorder.flush()


def _kind(draft: Draft, name: str) -> str | None:
    """What is recorded under a name, which is that of a source, or of a port that several share."""
    source = draft.config.source.get(name)
    if source is None:
        return "serial" if name in draft.config.port else None
    return kind_of(source).recorded or None


def _work(draft: Draft, name: str, kind: str, recorder: Recorder) -> Coroutine[Any, Any, None]:
    if kind == "mqtt":
        return _mqtt(draft, name, recorder)
    made = draft.config.source.get(name)
    if isinstance(made, SimulateSource):
        return _simulated(name, made, recorder)
    source = draft.config.source.get(name)
    settings: Any = draft.config.port[name] if source is None else settled(source, draft.config.port)
    if kind == "modbus":
        return _modbus(name, settings, recorder)
    return _again(lambda: opened(settings, _told, partial(_read, settings, recorder)))


async def _again(once: Callable[[], Awaitable[None]]) -> None:
    """For ever, whatever becomes of the port."""
    while True:
        try:
            await once()
        except Retryable:
            await asyncio.sleep(AGAIN_S)


def _told(state: str, reason: str) -> None:
    if reason:
        complain(f"{state}: {reason}; waiting")


async def _read(settings: Any, recorder: Recorder, port: SerialPort) -> None:
    """What is data, as the daemon reads it: what is to be sent is sent, and the answers that come before data are left out."""
    talk = Conversation(questions(settings.send), Asked(), Clock(), Flow())
    talk.begin()

    async def read() -> None:
        while True:
            data = talk.take(await port.read())
            if data:
                recorder.add(data)
                talk.heard()

    await beside(talk.run(port), read())


class _Samples:
    """Writes down what units of a bus answer: of each sample the address, and the registers of each field."""

    def __init__(self, name: str, settings: ModbusSource, recorder: Recorder) -> None:
        self.name = name
        self.settings = settings
        self.poll = poll_of(settings.decode.fields)
        self.flow = Flow()
        self._recorder = recorder

    def open(self) -> None:
        pass

    def turn(self, state: str, reason: str) -> None:
        _told(state, reason)

    def took(self, address: int, answers: Sequence[bytes], arrival: int) -> Block | None:
        self._recorder.add(self.poll.sample(address, answers))
        return None

    def missed(self, address: int, refusal: Refusal) -> None:
        complain(f"{refusal.reason}: {refusal.detail}")


async def _modbus(name: str, settings: ModbusSource, recorder: Recorder) -> None:
    counts, clock = SourceCounts(name), Clock()
    bus = Bus(name, settings, [_Samples(name, settings, recorder)], counts, clock)
    await _again(lambda: bus.run({}))


async def _simulated(name: str, settings: SimulateSource, recorder: Recorder) -> None:
    def keep(block: Block) -> None:
        recorder.add(simulate.as_lines(block.values))

    counts, clock = SourceCounts(name), Clock()
    await simulate.SimulateSource(name, settings, Flow(), counts, clock).run(keep)


def _how(source: AnySource | None) -> str:
    """How what is in no configuration is played: samples of a bus, the lines of a simulated source."""
    if isinstance(source, ModbusSource):
        return '; it is played by type = "replay" with the same decode, and format = "modbus" in it'
    if not isinstance(source, SimulateSource):
        return ""
    names = ", ".join(f'"{name}"' for name in simulation.FIELDS)
    return f'; a replay source reads it with decode = {{ format = "csv", fields = [{names}] }}'


async def _mqtt(draft: Draft, name: str, recorder: Recorder) -> None:
    """A client of its own beside the daemon's, with a session that ends with it."""
    problems: list[Problem] = []
    config, fixed = draft.config, fixed_names(draft.config, socket.gethostname())
    sources = plan_sources(config, fixed, frozenset(), problems)
    own = {name: sources[name]} if name in sources else {}
    links = plan_links(config, fixed["device"], fixed["base_topic"], own, problems)
    if wrong := [p for p in problems if not p.is_warning]:
        raise ConfigError(report(draft, wrong))
    settings = links[sources[name].broker or ""]

    def keep(batch: list[Inbound]) -> None:
        for topic, payload, *_, receipt, _properties in batch:
            recorder.add(payload, topic)
            receipt.done()

    observer = replace(settings.apart, client_id=f"{settings.client_id}-record", session_expiry_s=0, status_topic="")
    await Link(observer, keep, Clock(), structlog.get_logger("edged")).run()
