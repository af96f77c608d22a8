"""A broker for the demo: mosquitto where it is installed, else the one from the package index in this environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edged.demo.child import child, stop

MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
"""
AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""
START_S = 20.0
STOP_S = 5.0
SBIN = "/usr/sbin:/usr/local/sbin"  # Debian keeps mosquitto where only root looks


class NoBroker(Exception):
    """No broker can be started; the text says why and what to do."""


class Program(msgspec.Struct, frozen=True):
    """A broker that is installed: its configuration, with `{port}`, and how it is called with one."""

    name: str
    path: str
    config: str
    version: str
    """The newest MQTT version that it speaks."""


def find(name: str | None, path: str, environment: Path) -> Program:
    """The broker called `name`, or the best one that is there: in the folders of `path`, or in those of Debian for root,
    or, for amqtt, in the folder `environment`. Raises NoBroker."""
    mosquitto = shutil.which("mosquitto", path=f"{path}:{SBIN}" if path else None)
    amqtt = environment / "amqtt"
    if mosquitto and name in (None, "mosquitto"):
        return Program("mosquitto", mosquitto, MOSQUITTO, "5")
    if amqtt.exists() and name in (None, "amqtt"):
        return Program("amqtt", str(amqtt), AMQTT, "3.1.1")
    raise NoBroker(
        f"{name or 'a broker'} is not installed: sudo apt install mosquitto, or take the one from PyPI along: "
        'pip install "edged[demo]", uv tool install "edged[demo]"'
    )


@contextlib.contextmanager
def broker(program: Program, folder: Path, port: int) -> Iterator[None]:
    """Runs a broker for this machine alone on `port`; it takes connections when this yields. Raises NoBroker."""
    file, log_file = folder / "broker.conf", folder / "broker.log"
    config = program.config.format(port=port)
    if program.name == "mosquitto" and os.geteuid() == 0:
        config += "user root\n"  # else it becomes another user, and what ends it with us is lost
    file.write_text(config, "utf-8")
    with log_file.open("wb") as log:
        process = child([program.path, "-c", str(file)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoBroker(
                    f"{program.name} did not start; the end of its log:\n{log_file.read_text(errors='replace')[-2000:]}"
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield
    finally:
        stop(process, STOP_S)


def _answers(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0
