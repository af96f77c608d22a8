"""What the command `edged fleet` does: leads the devices of a group through their broker, from a laptop.

There is no server: announcements and reports are retained messages, and the files lie on any static https server.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from edged.clock.clock import Clock
from edged.commands.listen import observer
from edged.commands.loop import on_loop
from edged.config.load import parsed
from edged.errors import EX_OK, EX_SOFTWARE, EX_UNAVAILABLE, Fatal
from edged.fleet.announcement import CONFIGURATION, Announcement
from edged.fleet.ledger import LOCAL
from edged.fleet.rollout import Group, Progress, entries
from edged.fleet.signatures import BadKey, make_key, sign
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.records import Message
from edged.system import log
from edged.system.process import say
from edged.system.readable import readable

GATHER_S = 1.0
"""How long the broker has after its last retained message to send another one."""
CONNECT_S = 10.0
LOOK_S = 0.05


class Where(NamedTuple):
    """The broker (an address, or a name in `config`) and the topic of the group."""

    config: Path
    broker: str
    topic: str


class Target(NamedTuple):
    """Who is meant, and for how long."""

    percent: float = 100.0
    devices: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    days: float = 30.0


def make_keys(path: Path) -> int:
    """Writes a new pair of keys, PATH.key and PATH.pub."""
    private, public = make_key()
    for suffix, data, mode in ((".key", private, 0o600), (".pub", public, 0o644)):
        file = path.with_name(path.name + suffix)
        try:
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(data)
        except OSError as error:
            raise Fatal(f"{file}: {(error.strerror or 'cannot be written').lower()}") from None
        say(str(file))
    return EX_OK


def announce(file: Path, model: str, version: str, url: str, topic: str, target: Target) -> Announcement:
    """What is said of a file. Raises Fatal, and ConfigError where it is to be a configuration and no TOML."""
    try:
        data = file.read_bytes()
    except OSError as error:
        fix = "; pack a folder: tar -C FOLDER -cf NAME.tar model.onnx model.toml" if file.is_dir() else ""
        raise Fatal(f"{file}: {(error.strerror or 'cannot be read').lower()}{fix}") from None
    if model == CONFIGURATION:
        parsed(file, data)  # what only the device knows is checked there
    digest = hashlib.sha256(data).hexdigest()
    return _for(target, topic, model, version or digest[:8], digest, len(data), url + file.name if url.endswith("/") else url)


def _for(target: Target, topic: str, model: str, version: str, digest: str = "", size: int = 0, url: str = "") -> Announcement:
    now = int(time.time())
    return Announcement(
        topic, model, version, now, now, now + int(target.days * 86400), digest, size, url,
        target.devices, dict(target.tags), target.percent, not url, model == CONFIGURATION,
    )  # fmt: skip


def signed(one: Announcement, key: Path) -> bytes:
    """As it is published. Raises Fatal."""
    text = msgspec.json.encode(one).decode()
    try:
        return msgspec.json.encode({"signed": text, "signature": sign(key.read_bytes(), text)})
    except (OSError, BadKey) as error:
        raise Fatal(f"{key}: {error.strerror if isinstance(error, OSError) else error}") from None


def status(where: Where, as_json: bool) -> int:
    """Every device of the group that ever reported."""

    async def show(group: Group, link: Link) -> int:
        rows = list(group.rows())
        if as_json:
            say(json.dumps(list(group.reports.values())))
            return EX_OK
        for row in rows:
            reason = f": {row['reason']}" if row.get("reason") else ""
            runs = f"{row['running']:>10} of {row['wanted']:10}"
            say(readable(f"{row['device']:20} {row['model'] or 'configuration':16} {runs} {row['state']}{reason}"))
        if not rows:
            say(f"no device has reported on {where.topic}/report/+")
        return EX_OK

    return _with_group(where, show)


def watch(where: Where, as_json: bool, seconds: float | None) -> int:
    """Every report as it comes."""

    def tell(group: Group, device: str) -> None:
        said = group.reports[device]
        if as_json:
            say(json.dumps(said))
            return
        for model, entry in entries(said).items():
            reason = f": {entry['reason']}" if entry.get("reason") else ""
            say(
                readable(f"{device} {model or 'configuration'} {entry['running']} of {entry['wanted']}, {entry['state']}{reason}")
            )

    async def wait(group: Group, link: Link) -> int:
        await asyncio.sleep(seconds if seconds is not None else 10**9)
        return EX_OK

    return _with_group(where, wait, tell)


def push(where: Where, one: Announcement, key: Path, waits: bool, timeout_s: float, as_json: bool) -> int:
    """Announces. With `waits` the canary first (`percent` of the devices, at least one), then the rest, and nothing more once a
    report is bad."""

    async def lead(group: Group, link: Link) -> int:
        counter = group.next_counter(one.model, time.time())
        first = msgspec.structs.replace(one, counter=counter, version=one.version or _running(group, one.model))
        if waits:
            first = msgspec.structs.replace(first, percent=group.canary(first, one.percent))
        steps = [first]
        if waits and first.percent < 100:
            steps.append(msgspec.structs.replace(first, counter=counter + 1, percent=100.0))
        code = EX_OK
        for step in steps:
            subject = f"model/{one.model}" if one.model else "configuration"
            await _publish(link, f"{where.topic}/{subject}", signed(step, key))
            if waits:
                progress = await _settled(group, step, timeout_s)
                _tell_progress(step, progress, as_json)
                if progress.bad or progress.waiting:
                    code = EX_SOFTWARE
                    break
            else:
                _tell_progress(step, group.progress(step), as_json)
        return code

    return _with_group(where, lead)


def _running(group: Group, model: str) -> str:
    """The version of the fleet's that most devices run. Raises Fatal."""
    found = Counter(str(row["running"]) for row in group.rows() if row["model"] == model and row["running"] != LOCAL)
    if not found:
        what = f"version of {model}" if model else "configuration of the fleet's"
        raise Fatal(f"no device of {group.topic} runs a {what} that it could roll back")
    return found.most_common(1)[0][0]


async def _settled(group: Group, one: Announcement, timeout_s: float) -> Progress:
    """Until all that are meant run it, one of them does badly, or it takes too long."""
    deadline = time.monotonic() + timeout_s
    while (progress := group.progress(one)).waiting and not progress.bad and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)  # reports come in between; a laptop may look
    return progress


def _tell_progress(one: Announcement, progress: Progress, as_json: bool) -> None:
    facts = {
        "model": one.model,
        "version": one.version,
        "counter": one.counter,
        "percent": one.percent,
        "meant": len(progress.meant),
        "running": len(progress.done),
        "bad": dict(progress.bad),
        "waiting": list(progress.waiting),
    }
    if as_json:
        say(json.dumps(facts))
        return
    what = f"{one.model or 'configuration'} {'back from ' if one.back else ''}{one.version} to {one.percent:.4g} %"
    say(f"{what}: {facts['meant']} devices, {facts['running']} run it")
    for device, why in progress.bad.items():
        say(readable(f"  {device} {why}"))
    if progress.waiting:
        say(readable(f"  not yet: {', '.join(progress.waiting[:20])}{' ...' if len(progress.waiting) > 20 else ''}"))


def rollback(
    where: Where, model: str, version: str, key: Path, target: Target, waits: bool, timeout_s: float, as_json: bool
) -> int:
    """Every device that is meant and runs this version goes back to the one before; without a version the one that most
    of them run."""
    return push(where, _for(target, where.topic, model, version), key, waits, timeout_s, as_json)


async def _publish(link: Link, topic: str, payload: bytes) -> None:
    link.send(Message(topic.encode(), payload, qos=1, retain=True))
    while not link.sender.is_empty:  # noqa: ASYNC110 (its PUBACK)
        await asyncio.sleep(LOOK_S)


def _with_group(where: Where, work: Callable[[Group, Link], Any], tell: Callable[[Group, str], None] | None = None) -> int:
    """Does something with a group of which all is known that its broker keeps. Raises Fatal where there is no broker."""
    log.configure("error")
    return on_loop(_gathered(where, work, tell))


async def _gathered(where: Where, work: Callable[[Group, Link], Any], tell: Callable[[Group, str], None] | None) -> int:
    group, heard = Group(where.topic), [time.monotonic()]

    def take(batch: list[Inbound]) -> None:
        heard[0] = time.monotonic()
        for topic, payload, *_, receipt, _properties in batch:
            receipt.done()
            device = group.take(topic.decode(errors="replace"), payload)
            if device is not None and tell is not None:
                tell(group, device)

    link = Link(observer(where.config, where.broker, [f"{where.topic}/#"], "fleet"), take, Clock(), structlog.get_logger("edged"))
    running = asyncio.get_running_loop().create_task(link.run())
    try:
        deadline = time.monotonic() + CONNECT_S
        while not link.is_connected and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        if not link.is_connected:
            raise Fatal(f"{where.broker}: {link.state}: {link.reason}", EX_UNAVAILABLE)
        heard[0] = time.monotonic()
        while time.monotonic() - heard[0] < GATHER_S:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        code: int = await work(group, link)
        return code
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
