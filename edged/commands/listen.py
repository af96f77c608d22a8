"""Listens to what no configuration needs to name yet: a serial port, or the topics of a broker. For commands that look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.config.external import broker_url
from edged.config.load import read, report
from edged.config.parsers.value import Surroundings
from edged.errors import ConfigError, Fatal, Problem, Retryable
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.mqtt.settings import KEPT_ALWAYS, LinkSettings, Subscription
from edged.plan.links import plan_links
from edged.serialport.port import SerialPort

CONNECT_S = 5.0


class Line(msgspec.Struct, frozen=True):
    """A serial line of which only the speed is known. DTR and RTS stay low where the driver can: on many boards they reset it."""

    port: str
    baudrate: int
    bytesize: int = 8
    parity: str = "none"
    stopbits: float = 1
    flow: str = "none"
    dtr: bool = False
    rts: bool = False
    rs485: bool = False


async def hear_port(port: str, baudrate: int, seconds: float | None, take: Callable[[bytes], bool]) -> None:
    """Hands on what comes until `take` has enough (True), or so long. Raises Fatal where the port cannot be opened."""
    try:
        async with SerialPort(Line(port, baudrate)) as opened:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_read(opened, take), seconds)
    except Retryable as error:
        raise Fatal(f"{port}: {error.reason}") from None


async def _read(port: SerialPort, take: Callable[[bytes], bool]) -> None:
    while not take(await port.read()):
        pass


async def hear_broker(settings: LinkSettings, seconds: float | None, take: Callable[[str, bytes, bool], bool]) -> None:
    """Hands on topic, payload and whether the broker had kept it, until `take` has enough, or so long. Raises Fatal where the
    broker lets nobody in."""
    enough = asyncio.Event()

    def on_messages(batch: list[Inbound]) -> None:
        for topic, payload, _, retain, _, receipt, _ in batch:
            receipt.done()
            if not enough.is_set() and take(topic.decode(errors="replace"), payload, retain):
                enough.set()

    link = Link(settings, on_messages, Clock(), structlog.get_logger("edged"))
    running = asyncio.get_running_loop().create_task(link.run())
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_connected(link), CONNECT_S)
        if link.state != "connected":
            raise Fatal(f"{settings.url}: {link.state}" + (f": {link.reason}" if link.reason else ""))
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(enough.wait(), seconds)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _connected(link: Link) -> None:
    while link.state != "connected":  # noqa: ASYNC110 (a link tells nobody; this is a command that a person waits for)
        await asyncio.sleep(0.02)


def observer(config: Path, broker: str, filters: Sequence[str], who: str) -> LinkSettings:
    """How to reach a broker beside whoever else does: its address, or a name of the configuration, with the credentials there."""
    subscriptions = tuple(Subscription(one, qos=0, retain_handling=KEPT_ALWAYS) for one in filters)
    client_id = f"edged-{who}-{time.time_ns() % 10**9}"
    if ":" in broker:
        try:
            url = broker_url(broker, Surroundings(Path.cwd(), {}))
        except ValueError as error:
            raise Fatal(f"--broker: {error}") from None
        return LinkSettings("broker", url, client_id=client_id, session_expiry_s=0, subscriptions=subscriptions)
    draft = read(config)
    if broker not in draft.config.broker:
        raise ConfigError([f"{config}: there is no broker {broker}; give an address such as mqtt://plant, or a name of the file"])
    problems: list[Problem] = []
    links = plan_links(draft.config, who, f"edged/{who}", {}, problems)
    if wrong := [p for p in problems if not p.is_warning]:
        raise ConfigError(report(draft, wrong))
    return replace(links[broker], client_id=client_id, session_expiry_s=0, status_topic="", subscriptions=subscriptions)
