"""Starts a broker, a sensor and the daemon with demo.toml, and prints the results that arrive at the broker.

Whatever happens (a result, a line of the daemon's log, Ctrl-C, the daemon's end) is put into one queue and handled here, one
after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import tomli
from paho.mqtt.enums import CallbackAPIVersion

from edged.demo import place
from edged.demo.broker import NoBroker, broker, find
from edged.demo.child import child, stop
from edged.demo.screen import Screen
from edged.demo.sensor import Sensor
from edged.errors import EX_SOFTWARE
from edged.system.process import complain, give_up

CONFIG = Path(__file__).with_name("demo.toml").resolve()
"""In the repository a link to models/demo.toml."""
START_S = 60.0
"""A small device that starts it for the first time may take so long."""
STOP_S = 12.0
"""The daemon allows itself 10 s."""
LAST_WORD_S = 1.0

Events = queue.SimpleQueue[tuple[str, Any]]  # its put may be called by a signal handler


def main() -> int:
    """`python -m edged.demo`, which is `make run`."""
    parser = argparse.ArgumentParser(prog="make run", description="The daemon at its main job, before your eyes.")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    parser.add_argument("--broker", choices=["mosquitto", "amqtt"], help="else mosquitto where it is installed")
    arguments = parser.parse_args()
    return demonstrate(arguments.seconds, arguments.broker, parser.prog)


def demonstrate(seconds: float | None, broker_name: str | None, called: str) -> int:
    """Exit status: 0 if results came and the daemon ended well, else 1. `called`: how its user calls it."""
    events: Events = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: events.put(("signal", None)))
    screen = Screen(sys.stdout)
    try:
        why = _demonstrate(screen, events, broker_name, seconds)
    except (NoBroker, ValueError) as error:
        why = str(error)
    except BrokenPipeError:  # `make run | head`: nobody looks any more
        give_up(1)
        return 0 if screen.results else 1
    except OSError as error:
        complain(f"{called}: {error}")
        give_up(1)
        return EX_SOFTWARE
    if why:
        complain(f"{called}: {why}")
    return 1 if why else 0


def _demonstrate(screen: Screen, events: Events, broker_name: str | None, seconds: float | None) -> str:
    """Why it did not work; empty if it did."""
    settings = tomli.loads(CONFIG.read_text("utf-8"))
    url, wanted_tty = settings["broker"]["main"]["url"], Path(settings["source"]["accel"]["port"])
    wanted_port = int(url.rpartition(":")[2])
    program = find(broker_name, os.environ.get("PATH", ""), Path(sys.executable).parent)
    with place.folder(wanted_tty.parent) as folder:
        tty, port = folder / wanted_tty.name, place.port(wanted_port)
        changes = {}
        if port != wanted_port or program.version != "5":
            changes[f'url = "{url}"'] = f'url = "mqtt://localhost:{port}"\nversion = "{program.version}"'
        if tty != wanted_tty:
            changes[str(wanted_tty)] = str(tty)
        if changes:
            model = settings["model"]["vibration"]["path"]
            changes[f'path = "{model}"'] = f'path = "{CONFIG.parent / model}"'
        config = place.configuration(CONFIG, folder, changes)
        screen.title(
            "broker", f"{program.name} on port {port}" + (f", since {wanted_port} is taken" if port != wanted_port else "")
        )
        screen.title("sensor", f"{tty}, simulated, on a pseudo-terminal")
        screen.title(
            "configuration", os.path.relpath(CONFIG) if config == CONFIG else f"{config}, made from {os.path.relpath(CONFIG)}"
        )
        screen.title("daemon's log", str(folder / "edged.log"))
        with broker(program, folder, port), Sensor(tty, lambda condition: events.put(("truth", condition))):
            return _watch(screen, events, config, folder / "edged.log", port, settings["device"]["id"], seconds)


def _watch(screen: Screen, events: Events, config: Path, log: Path, port: int, device: str, seconds: float | None) -> str:
    root = f"edged/{device}"
    with _listener(events, port, root), _daemon(events, config, log) as daemon:
        what = _show(screen, events, time.monotonic() + START_S, until={"signal", "ended", "online"})
        if what == "online":  # from here on its user counts
            deadline = None if seconds is None else time.monotonic() + seconds
            what = _show(screen, events, deadline, until={"signal", "ended"})
        if what == "signal":
            screen.interrupted()
        code = daemon.wait() if what == "ended" else _stop(screen, events, daemon)
    screen.summary()
    if code and what != "signal":  # who presses Ctrl-C early or twice asks for a hard end
        return f"the daemon ended with status {code}"
    return "" if screen.results else "no result arrived"


def _show(screen: Screen, events: Events, deadline: float | None, until: set[str]) -> str | None:
    """Prints what happens, until one of `until` happens, which is returned, or the deadline (monotonic s)."""
    shown = {"result": screen.result, "health": screen.health, "truth": screen.truth, "log": screen.log}
    while True:
        try:
            what, value = events.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if what in shown:
            shown[what](value)
        if what in until:
            return what


def _stop(screen: Screen, events: Events, daemon: subprocess.Popen[bytes]) -> int:
    """Ends the daemon and shows its last words; a further Ctrl-C ends it at once. Returns its exit status."""
    daemon.terminate()
    awaited = {"ended", "goodbye"}
    deadline = time.monotonic() + STOP_S
    while awaited and (what := _show(screen, events, deadline, until={"signal", *awaited})):
        awaited.discard(what)
        if what == "signal":
            daemon.terminate()
        elif what == "ended":  # its goodbye was sent before
            deadline = time.monotonic() + LAST_WORD_S
    if daemon.poll() is None:
        daemon.kill()
    return daemon.wait()


@contextlib.contextmanager
def _daemon(events: Events, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`edged run` as anybody would start it, its log copied to a file and into the queue."""
    command = [sys.executable, "-m", "edged", "run", "-c", str(config)]
    environ = {**os.environ, "STATE_DIRECTORY": str(log.parent / "state")}  # nothing of it shall stay behind elsewhere
    process = child(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ)

    def read() -> None:
        assert process.stdout
        with log.open("wb") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                events.put(("log", line.decode(errors="replace").rstrip()))
        process.wait()
        events.put(("ended", None))

    reader = threading.Thread(target=read, name="log", daemon=True)
    reader.start()
    try:
        yield process
    finally:
        stop(process, STOP_S)
        reader.join()


@contextlib.contextmanager
def _listener(events: Events, port: int, root: str) -> Iterator[None]:
    """Puts what arrives at the broker into the queue: results, health, that the daemon is there, and its goodbye."""

    def on_message(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        what = message.topic.removeprefix(f"{root}/")
        if what != "status":
            events.put(("health" if what == "health" else "result", message.payload))
        elif message.payload == b"stopped":
            events.put(("goodbye", None))
        elif message.payload == b"online":
            events.put(("online", None))

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe([(f"{root}/{topic}", 0) for topic in ("vibration", "health", "status")])
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


if __name__ == "__main__":
    sys.exit(main())
