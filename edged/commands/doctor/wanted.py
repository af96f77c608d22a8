"""What a configuration names outside of itself: ports, brokers, folders, and how much its brokers are to keep for us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edged.commands.doctor.facts import Configuration
from edged.commands.doctor.look import STATE
from edged.config.load import read, report
from edged.config.ports import shared_port
from edged.config.schema import Broker, Config, MqttSource, UsbPort
from edged.daemon.preflight import state_dir
from edged.errors import ConfigError
from edged.mqtt.settings import LinkSettings
from edged.sources.kinds import kind_of
from edged.topics import parse_filter

CREDENTIALS = Path("/run/credentials/edged.service")
NO_CREDENTIALS = "CREDENTIALS_DIRECTORY is not set"


class Wanted(msgspec.Struct, frozen=True):
    """`ports` by who opens them, `folders` by what is kept there; `rates`: messages per second at QoS 1 by broker, or None."""

    configuration: Configuration
    ports: Mapping[str, str | UsbPort]
    links: tuple[LinkSettings, ...]
    folders: Mapping[str, Path]
    rates: Mapping[str, float | None]


def wanted(path: Path, is_asked_for: bool, has_unit: bool, environ: Mapping[str, str] = os.environ) -> Wanted:
    """As far as the file can be read; what else is wrong with it, `edged check` says."""
    around = dict(environ)
    if has_unit:
        around.setdefault("STATE_DIRECTORY", str(STATE))
    if os.access(CREDENTIALS, os.R_OK):
        around.setdefault("CREDENTIALS_DIRECTORY", str(CREDENTIALS))
    if _is_absent(path) and not is_asked_for:
        return _of(Config(), Configuration(str(path), False, False), around)
    try:
        draft = read(path, around)
    except ConfigError as error:
        return _of(Config(), Configuration(str(path), is_asked_for, not _is_absent(path), tuple(error.lines)), around)
    problems = [p for p in draft.problems if not p.is_warning]
    unseen = [p for p in problems if NO_CREDENTIALS in p.text]
    lines = tuple(map(str, report(draft, [p for p in problems if p not in unseen])))
    about = Configuration(str(path), is_asked_for, True, lines, tuple(map(str, report(draft, unseen))))
    return _of(draft.config, about, around)


def _is_absent(path: Path) -> bool:
    """Not merely out of this user's sight."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _of(config: Config, about: Configuration, environ: Mapping[str, str]) -> Wanted:
    state = state_dir(config, environ)
    folders = {"state": state}
    if config.spool.mode != "off" and config.spool.path is not None:
        folders["spool"] = config.spool.path
    return Wanted(
        about,
        _ports(config),
        tuple(_link(name, broker) for name, broker in config.broker.items()),
        folders,
        _rates(config),
    )


def _ports(config: Config) -> dict[str, str | UsbPort]:
    """By who opens them: a source, or a `[port.NAME]` that several share."""
    mine = {f"source.{n}": port(s) for n, s in config.source.items() if (port := kind_of(s).port) and not shared_port(s)}
    return mine | {f"port.{name}": one.port for name, one in config.port.items()}


def _link(name: str, broker: Broker) -> LinkSettings:
    """As much as it takes to connect; nobody says hello."""
    return LinkSettings(
        *(name, broker.url, ""),
        ca=broker.ca,
        cert=broker.cert,
        key=broker.key,
        key_password=broker.key_password,
        alpn=broker.alpn or "",
    )


def _rates(config: Config) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for source in config.source.values():
        if isinstance(source, MqttSource) and source.qos == 1:
            broker = source.broker or next(iter(config.broker), "")
            before, rate = found.get(broker, 0.0), _rate(source)
            found[broker] = None if before is None or rate is None else before + rate
    return found


def _rate(source: MqttSource) -> float | None:
    """Of all its keys together; None as well where nobody says how many there are."""
    is_keyed = bool(source.key) or any(parse_filter(topic, {"device": "d", "base_topic": "b"}).captures for topic in source.topic)
    if source.rate is None or (is_keyed and source.max_keys is None):
        return None
    return source.rate * ((source.max_keys or 1) if is_keyed else 1)
