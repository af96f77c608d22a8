"""What is plugged in and what is published: ports and topics are listened to, and asked nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edged.commands.init.draft import Found, name_of, samples_of
from edged.commands.init.topics import MAX_TOPICS, Heard, Stream, streams_of
from edged.commands.listen import hear_broker, hear_port, observer
from edged.decode.propose import propose, readings, shown
from edged.errors import Fatal
from edged.serialport.terminal import CONSOLE_FIX, console_at

BAUDRATES = (115200, 9600, 57600, 38400, 19200, 4800, 230400, 460800, 921600, 1200)
"""In the order of how often they are met."""
FIRST_S = 4.0
"""For the first byte: a board that the opening resets is silent for a while."""
LISTEN_S = 1.5
ENOUGH_BYTES, ENOUGH_LINES = 4096, 12
MIN_S, MAX_SAMPLES = 1.0, 64


class _Taken(NamedTuple):
    """What came at one speed. Of the first read nobody knows how long it took: `fresh` is the share of what came after it, in
    `seconds`."""

    data: bytes
    fresh: float
    seconds: float


async def hear_one_port(port: str, baudrate: int | None) -> Found:
    """What a port sends, and how it is read. Raises Fatal where nothing comes, or nothing is sure of it."""
    if why := console_at(port):
        raise Fatal(f"{why}; {CONSOLE_FIX}")
    seen: list[tuple[int, bytes]] = []
    for speed in BAUDRATES if baudrate is None else (baudrate,):
        taken = await _take(port, speed, FIRST_S if not seen else LISTEN_S)
        if not taken.data:
            if seen or baudrate is not None or speed != BAUDRATES[0]:
                continue
            break  # a device that sends is heard at any speed, if wrongly
        seen.append((speed, taken.data))
        keys = {"type": "serial", "port": port, "baudrate": speed}
        for reading in readings(taken.data):
            if samples := samples_of(keys, reading, taken.data):
                rate = len(samples) * taken.fresh / taken.seconds if taken.seconds else 0.0
                remarks = (f"Heard at {speed} baud: {reading.about}; about {rate:.3g} samples per second.",)
                return Found(port_name(port), keys, reading, samples[:MAX_SAMPLES], remarks)
    if not seen:
        raise Fatal(f"{port}: nothing came in {FIRST_S:g} s; if the device must be asked, see edged help send")
    hints = next((f"at {speed} baud: {'; '.join(found)}" for speed, data in seen if (found := propose(data))), "")
    begins = f"at {seen[0][0]} baud it begins {shown(seen[0][1])}"
    raise Fatal(f"{port}: edged does not recognize what it sends; {hints or begins}; write the source by hand: edged help source")


async def _take(port: str, baudrate: int, limit_s: float) -> _Taken:
    data = bytearray()
    reads: list[tuple[float, int]] = []

    def take(piece: bytes) -> bool:
        data.extend(piece)
        reads.append((time.monotonic(), len(piece)))
        heard_s = reads[-1][0] - reads[0][0]
        return heard_s >= MIN_S and (len(data) >= ENOUGH_BYTES or data.count(b"\n") >= ENOUGH_LINES)

    await hear_port(port, baudrate, limit_s, take)
    if not reads:
        return _Taken(b"", 0.0, 0.0)
    return _Taken(bytes(data), 1 - reads[0][1] / len(data), reads[-1][0] - reads[0][0])


def port_name(port: str) -> str:
    """A name for the source of a port: of what is plugged in, where that tells."""
    words = os.path.basename(port).removeprefix("usb-").split("-if")[0]
    return name_of(words.split("_")[0] if port.startswith("/dev/serial/by-id/") else "", "sensor")


async def hear_topics(broker: str, filters: Sequence[str], seconds: float) -> list[Stream]:
    """The streams that a broker has. Raises Fatal where it lets nobody in."""
    heard: dict[str, Heard] = {}

    def take(topic: str, payload: bytes, is_kept: bool) -> bool:
        if topic in heard or len(heard) < MAX_TOPICS:
            heard.setdefault(topic, Heard()).take(payload, is_kept)
        return False

    await hear_broker(observer(Path("edged.toml"), broker, filters, "init"), seconds, take)
    return streams_of(heard, seconds)


def source_of(stream: Stream, broker: str) -> Found:
    """The source of a stream."""
    name = name_of([level for level in stream.topic.split("/") if not level.startswith("{")][-1], "sensor")
    keys = {"type": "mqtt", "broker": broker, "topic": stream.topic}
    return Found(name, keys, stream.reading, (), (f"Heard: {stream.about}.",))
