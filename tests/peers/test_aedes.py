"""aedes, a broker in JavaScript that speaks MQTT 3.1.1 and nothing newer: what edged promises holds there, too."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.peers.install import npm
from tests.support.broker import free_port
from tests.support.daemon import Daemon, balanced, leave, until

VERSION = "1.2.0"
NAME = "edged-under-test"
CUTS = 5
CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
version = "{version}"
client_id = "{name}"
[source.in]
type = "mqtt"
topic = "in/v"
qos = 1
decode = {{ format = "json", fields = ["v"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/p", qos = 1 }}
"""
WIDER = """
[source.wider]
type = "mqtt"
topic = "in/{k}"
decode = { format = "json", fields = ["v"] }
[pipeline.w]
source = "wider"
publish = { topic = "wider/{k}", qos = 1 }
"""


class Aedes:
    """The broker's process."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self._process = process

    def cut(self, name: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"cut {name}\n")
        self._process.stdin.flush()


@pytest.fixture
def aedes() -> Iterator[Aedes]:
    folder = npm("aedes", VERSION)
    program = shutil.copy(Path(__file__).with_name("aedes.mjs"), folder)  # imports are found from where it stands
    port = free_port()
    with subprocess.Popen(["node", program, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Aedes(port, process)
        assert process.stdin is not None
        process.stdin.close()


class Witness:
    """A client of MQTT 3.1.1: publishes numbers, and keeps what comes on `out/p` and the last health."""

    def __init__(self, port: int) -> None:
        self.values: list[float] = []
        self.made: list[int] = []
        """Which result of its pipeline each of them is."""
        self.health: Any = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.max_inflight_messages_set(1000)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe([("out/p", 1), ("edged/t/health", 0)])
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Witness:
        self._client.loop_start()
        until(self._client.is_connected, what="the witness")
        return self

    def __exit__(self, *_: object) -> None:
        leave(self._client)

    def publish(self, values: range) -> None:
        """Returns when the broker has them."""
        for info in [self._client.publish("in/v", f'{{"v": {v}}}', 1) for v in values]:
            info.wait_for_publish(20.0)
            assert info.is_published()

    @property
    def connects(self) -> int:
        """How often edged has been connected, and is."""
        broker = self.health.get("brokers", {}).get("main", {})
        return broker["connects"] if broker.get("state") == "connected" else 0

    def _on_message(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == "out/p":
            result = json.loads(message.payload)
            self.values.append(result["outputs"]["v"])
            self.made.append(result["seq"])
        else:
            self.health = json.loads(message.payload)


def counted(health: Any) -> list[int]:
    return [health["sources"][name]["messages"] for name in ("in", "wider")] if health else []


def has_settled(health: Any) -> bool:
    try:
        return balanced(health) and health["pipelines"]["p"]["waiting"] == 0
    except AssertionError:
        return False


def test_what_was_in_flight_at_a_cut_comes_once_more_and_nothing_is_lost(aedes: Aedes, tmp_path: Path) -> None:
    """In the order in which edged was given them. That is not the order in which they were published: once edged is there again,
    aedes passes on what comes now beside what it had kept. Results wait on disk for the broker, so `order` is strict."""
    text = CONFIG.format(port=aedes.port, version="3.1.1", name=NAME) + '[spool]\norder = "strict"\n'
    with Witness(aedes.port) as witness, Daemon(tmp_path, text):
        for i in range(CUTS):
            until(lambda i=i: witness.connects == i + 1, what="edged at the broker")  # type: ignore[misc]
            witness.publish(range(100 * i, 100 * i + 50))
            aedes.cut(NAME)
            witness.publish(range(100 * i + 50, 100 * i + 100))  # edged is away
        until(lambda: set(witness.values) == set(range(100 * CUTS)), what="every number")
        until(lambda: has_settled(witness.health), what="ledgers that balance")
        first = [n for n, value in enumerate(witness.values) if value not in witness.values[:n]]
        made = [witness.made[n] for n in first]
        assert made == sorted(made)  # but for what came again


def test_it_is_spoken_to_in_3_1_1_without_a_word_of_configuration(aedes: Aedes, tmp_path: Path) -> None:
    """Two sources whose topics overlap have each message once."""
    text = CONFIG.format(port=aedes.port, version="auto", name=NAME) + WIDER
    with Witness(aedes.port) as witness, Daemon(tmp_path, text) as daemon:
        until(lambda: witness.connects == 1, what="edged at the broker")
        witness.publish(range(20))
        until(lambda: witness.values == list(range(20)), what="every number once")
        until(lambda: counted(witness.health) == [20, 20], what="every message counted once by both sources")
        daemon.wait_log("version=3.1.1")


def test_mqtt_5_is_refused_in_words(aedes: Aedes, tmp_path: Path) -> None:
    text = CONFIG.format(port=aedes.port, version="5", name=NAME)
    with Daemon(tmp_path, text) as daemon:
        daemon.wait_log("the broker does not speak this version of MQTT")
