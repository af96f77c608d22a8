"""A broker for the demo: mosquitto where it is installed, else the one from the package index in this environment."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

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
START_S = 10.0


class NoBroker(Exception):
    """No broker can be started; the text says why and what to do."""


@contextlib.contextmanager
def broker(folder: Path, port: int) -> Iterator[str]:
    """Runs a broker on `port` of this machine; gives what it is: "mosquitto", or "amqtt", which speaks MQTT 3.1.1 only."""
    if _answers(port):
        raise NoBroker(f"port {port} of this machine is taken, perhaps by another `make run`: end that first")
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    amqtt = Path(sys.executable).with_name("amqtt")
    if path:
        name, config, command = "mosquitto", MOSQUITTO, [path, "-c"]
    elif amqtt.exists():
        name, config, command = "amqtt", AMQTT, [str(amqtt), "-c"]
    else:
        raise NoBroker("no broker is here: apt install mosquitto, or pip install 'edged[demo]'")
    file = folder / "broker.conf"
    file.write_text(config.format(port=port))
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoBroker(f"{name} did not start: see {folder / 'broker.log'}")
            time.sleep(0.05)
        yield name
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0
