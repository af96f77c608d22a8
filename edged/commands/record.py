"""`edged record SOURCE`: writes down what a source sends, byte for byte, for a replay source to play. What a simulated source
makes is written as lines of csv, as a sensor on a serial port would send it."""

from __future__ import annotations

import asyncio
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from edged.clock.clock import Clock
from edged.commands.run import on_loop
from edged.config.load import Draft, read, report
from edged.config.schema import MqttSource, ReplaySource, SerialSource, SimulateSource
from edged.config.words import did_you_mean, listed
from edged.errors import EX_OK, ConfigError, Fatal, Problem, Retryable
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.plan.links import plan_links
from edged.plan.sources import plan_sources
from edged.records import Block
from edged.serialport.port import SerialPort, appeared
from edged.sources import simulate, simulation
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.recording import Recorder
from edged.system import log
from edged.system.process import complain

FLUSH_S = 1.0


def record(config: Path, name: str, output: Path, seconds: float | None) -> int:
    """Records until Ctrl-C, SIGTERM or `seconds`. Raises ConfigError or Fatal."""
    draft = read(config)
    log.configure("warning", "auto")
    if any(not p.is_warning for p in draft.problems):
        raise ConfigError(report(draft, [p for p in draft.problems if not p.is_warning]))
    source = draft.config.source.get(name)
    if isinstance(source, ReplaySource):
        raise Fatal(f"source.{name} plays {source.path}, which is a recording already")
    if not isinstance(source, SerialSource | MqttSource | SimulateSource):
        known = [n for n, s in draft.config.source.items() if not isinstance(s, ReplaySource)]
        raise Fatal(f"no source is called {name}{did_you_mean(name, known)}; in {config}: {listed(known)}")
    kind = "mqtt" if isinstance(source, MqttSource) else "serial"
    try:
        with Recorder(output, kind, name, Clock()) as recorder:
            if isinstance(source, MqttSource):
                work = _mqtt(draft, name, recorder)
            elif isinstance(source, SerialSource):
                work = _serial(source, recorder)
            else:
                work = _simulated(name, source, recorder)
            on_loop(_until_stopped(work, recorder, seconds))
    except OSError as error:
        raise Fatal(f"{output}: {error.strerror or error}") from error
    unit = "messages" if kind == "mqtt" else "reads"
    complain(f"{output}: {recorder.count} {unit}, {recorder.size} bytes{_how(source)}")  # once all of it is in the file
    return EX_OK


async def _until_stopped(work: Any, recorder: Recorder, seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    task = loop.create_task(work, name="record")
    task.add_done_callback(lambda _: stop.set())
    flusher = loop.create_task(_flush(recorder), name="flush")
    await stop.wait()
    for t in (task, flusher):
        t.cancel()
    results = await asyncio.gather(task, flusher, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _flush(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        recorder.flush()


async def _serial(source: SerialSource, recorder: Recorder) -> None:
    while True:
        try:
            async with SerialPort(source) as port:
                while True:
                    recorder.add(await port.read())
        except Retryable as error:
            complain(f"{error.state}: {error.reason}; waiting")
            await appeared(source.port)
            await asyncio.sleep(0.5)


async def _simulated(name: str, settings: SimulateSource, recorder: Recorder) -> None:
    def keep(block: Block) -> None:
        recorder.add("".join(",".join(f"{v:.6g}" for v in row) + "\n" for row in block.values.tolist()).encode())

    counts, clock = SourceCounts(name), Clock()
    await simulate.SimulateSource(name, settings, Flow(), counts, clock).run(keep)


def _how(source: SerialSource | MqttSource | SimulateSource) -> str:
    """How what is in no configuration is played: the lines of a simulated source."""
    if not isinstance(source, SimulateSource):
        return ""
    names = ", ".join(f'"{name}"' for name in simulation.FIELDS)
    return f'; a replay source reads it with decode = {{ format = "csv", fields = [{names}] }}'


async def _mqtt(draft: Draft, name: str, recorder: Recorder) -> None:
    """A client of its own beside the daemon's, with a session that ends with it."""
    problems: list[Problem] = []
    config = draft.config
    device = config.device.id or socket.gethostname()
    base_topic = config.device.base_topic.replace("{device}", device)
    sources = plan_sources(config, device, base_topic, frozenset(), problems)
    links = plan_links(config, device, base_topic, {name: sources[name]} if name in sources else {}, problems)
    if problems:
        raise ConfigError(report(draft, problems))
    settings = links[sources[name].broker or ""]

    def keep(batch: list[Inbound]) -> None:
        for topic, payload, *_, receipt, _properties in batch:
            recorder.add(payload, topic)
            receipt.done()

    observer = replace(settings, client_id=f"{settings.client_id}-record", session_expiry_s=0, status_topic="")
    await Link(observer, keep, Clock(), structlog.get_logger("edged")).run()
