"""From a bare sensor to an alarm, with no model at hand: `edged learn` beside a real port and a real broker, then the daemon."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edged.sources.simulation import Machine
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, edged, said, until
from tests.support.pause import pause

HEAD = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""
SERIAL = """
[source.accel]
type = "serial"
port = "{path}"
baudrate = 921600
rate = 1000
decode = {{ format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }}
"""
MQTT = """
[source.tank]
type = "mqtt"
topic = "tank/{place}"
decode = { format = "json", fields = ["level", "flow"] }
"""


def lines(machine: Machine, seconds: float, condition: str) -> str:
    return "".join(f"{x:.3f},{y:.3f},{z:.3f}\n" for x, y, z in machine.take(round(1000 * seconds), condition).tolist())


def test_a_serial_sensor(tmp_path: Path, broker: Broker) -> None:
    config = tmp_path / "edged.toml"
    text = HEAD.format(port=broker.port) + SERIAL.format(path=tmp_path / "accel")
    config.write_text(text)
    machine = Machine(np.random.default_rng(5), 1000.0, 27.0)
    with Sensor(tmp_path / "accel") as sensor:
        process = edged("learn", "accel", "-c", str(config), "-o", str(tmp_path / "normal"), "--for", "4s")
        sensor.write(lines(machine, 60, "healthy"))
        code, out, told = said(process)
    assert code == 0, told
    assert "60000 samples, 233 windows of 512 samples" in out
    text += out[out.index("[model.normal]") :].replace("smooth = 5", "smooth = 1")
    with Client(broker.port) as client, Sensor(tmp_path / "accel") as sensor, Daemon(tmp_path, text):
        sensor.write(lines(machine, 3, "healthy"))
        usual = [m.json["anomaly"] for m in client.wait("edged/t/normal", 10)]
        sensor.write(lines(machine, 3, "bearing"))
        after = [m.json["anomaly"] for m in client.wait("edged/t/normal", 22)]
    assert not any(usual)
    assert all(after[13:])


def test_topics_of_a_broker_beside_the_daemon(tmp_path: Path, broker: Broker) -> None:
    config = tmp_path / "edged.toml"
    text = HEAD.format(port=broker.port) + MQTT + '[pipeline.raw]\nsource = "tank"\n'
    config.write_text(text)
    rng = np.random.default_rng(6)
    with Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
        folder = tmp_path / "normal"
        process = edged("learn", "tank", "-c", str(config), "-o", str(folder), "--for", "4s", "--json")
        while process.poll() is None:
            level = rng.normal(4, 0.5)
            client.publish(f"tank/{rng.integers(3)}", json.dumps({"level": level, "flow": 2 * level + rng.normal(0, 0.1)}))
            pause(0.002, "tanks speak now and then")
        code, out, told = said(process)
        assert code == 0, told
        facts = json.loads(out)
        assert facts["keys"] == 3
        assert facts["windows"] == facts["samples"] > 200
        health = client.health()
        assert health["brokers"]["main"]["state"] == "connected"
        assert health["brokers"]["main"]["connects"] == 1  # it was not disturbed
        output = '[model.normal]\npath = "normal"\n[pipeline.odd]\nsource = "tank"\nmodel = "normal"\n'
        config.write_text(text + output + 'output = { type = "anomaly", above = 1.5 }\n')
        daemon.wait_log("odd")
        until(lambda: client.health()["pipelines"].get("odd"))
        client.publish("tank/0", '{"level": 4.1, "flow": 8.2}')
        client.publish("tank/0", '{"level": 4.1, "flow": 4.0}')  # each by itself is usual, together they are not
        assert [m.json["anomaly"] for m in client.wait("edged/t/odd/0", 2)] == [False, True]
