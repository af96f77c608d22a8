"""Starts a broker, a sensor and the daemon with models/demo.toml, and prints the results that arrive at the broker."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import tomli
from paho.mqtt.enums import CallbackAPIVersion

from edged.demo.broker import NoBroker, broker
from edged.demo.sensor import Sensor

CONFIG = Path(__file__).resolve().parents[2] / "models" / "demo.toml"
BAR = 20


class Screen:
    """What is printed; results and health come on paho's thread, the sensor's word on the sensor's."""

    def __init__(self) -> None:
        self.results = 0
        self.right = 0
        self.health: dict[str, Any] = {}
        self._truth = ""
        self._colour = sys.stdout.isatty()

    def truth(self, condition: str) -> None:
        self._truth = condition
        self._print(f"-- the machine is now: {condition} --", dim=True)

    def on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        facts = json.loads(message.payload)
        if message.topic.endswith("/health"):
            self.health = facts
            return
        self.results += 1
        self.right += facts["label"] == self._truth
        bar = "#" * round(facts["score"] * BAR)
        at = facts["time"][11:19]
        memory = self.health.get("memory", {})
        used = f"{memory['resident_mib']:.0f} of {memory['budget_mib']:.0f} MiB" if memory else ""
        self._print(f"{at}  {facts['label']:10}  {facts['score']:4.2f} {bar:{BAR}}  {facts['age_ms']:6.2f} ms  {used}")

    def summary(self) -> str:
        memory = self.health.get("memory")
        used = f", {memory['resident_mib']:.0f} of {memory['budget_mib']:.0f} MiB" if memory else ""
        cpu = self.health.get("cpu_s")
        share = (
            f", {100 * cpu / self.health['uptime_s']:.1f} % of a core, start included" if cpu and self.health["uptime_s"] else ""
        )
        return f"{self.results} results, {self.right} as the machine was{used}{share}"

    def _print(self, text: str, dim: bool = False) -> None:
        print(f"\033[2m{text}\033[0m" if dim and self._colour else text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description="The daemon at its main job, before your eyes.")
    parser.add_argument("--seconds", type=float, help="end by itself after so long; else Ctrl-C ends it")
    seconds = parser.parse_args().seconds
    settings = tomli.loads(CONFIG.read_text("utf-8"))
    port = int(settings["broker"]["main"]["url"].rpartition(":")[2])
    tty = Path(settings["source"]["accel"]["port"])
    tty.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with broker(tty.parent, port) as name:
            config = _config_for(name, tty.parent)
            print(f"broker: {name} on port {port}; sensor: {tty}; configuration: {os.path.relpath(CONFIG)}")
            return _watch(config, tty, port, settings["device"]["id"], seconds)
    except NoBroker as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _config_for(broker_name: str, folder: Path) -> Path:
    """models/demo.toml itself; for a broker that speaks MQTT 3.1.1 only, a copy that says so."""
    if broker_name == "mosquitto":
        return CONFIG
    text = CONFIG.read_text("utf-8").replace("[source.accel]", 'version = "3.1.1"\n\n[source.accel]', 1)
    text = text.replace('path = "vibration"', f'path = "{CONFIG.parent / "vibration"}"', 1)
    copy = folder / "demo.toml"
    copy.write_text(text, "utf-8")
    return copy


def _watch(config: Path, tty: Path, port: int, device: str, seconds: float | None) -> int:
    screen = Screen()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe([(f"edged/{device}/vibration", 0), (f"edged/{device}/health", 0)])
    client.on_message = screen.on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    ended = threading.Event()
    with Sensor(tty, screen.truth):
        daemon = subprocess.Popen([_edged(), "run", "-c", str(config)], start_new_session=True)
        threading.Thread(target=_tell_end, args=(daemon, ended), daemon=True).start()
        try:
            ended.wait(seconds)
        except KeyboardInterrupt:
            print()
        finally:
            if daemon.poll() is None:
                daemon.terminate()
            code = daemon.wait(15)
            time.sleep(0.2)  # the last health is on its way
            client.disconnect()
            client.loop_stop()
    print(screen.summary())
    if code or not screen.results:
        print(f"make run: the daemon ended with status {code}" if code else "make run: no result arrived", file=sys.stderr)
        return 1
    return 0


def _tell_end(daemon: subprocess.Popen[bytes], ended: threading.Event) -> None:
    daemon.wait()
    ended.set()


def _edged() -> str:
    beside = Path(sys.executable).with_name("edged")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("edged") or "edged"


if __name__ == "__main__":
    sys.exit(main())
