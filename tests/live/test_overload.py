"""More than can be done: live inputs wait a bounded time, and what is slow holds up nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from onnx import TensorProto

from tests.live.conftest import burner
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced
from tests.support.deployments import net
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
keepalive = "1s"
"""
FLOOD = """
[source.flood]
type = "mqtt"
topic = "flood/{n}"
retained = true
max_keys = 64
decode = { format = "json", fields = ["v"] }
[source.live]
type = "mqtt"
topic = "in/live"
decode = { format = "json", fields = ["v"] }
[pipeline.of_flood]
source = "flood"
publish = { topic = "results/flood/{n}", qos = 0 }
[pipeline.of_live]
source = "live"
publish = { topic = "out/live" }
"""
SLOW = """
[source.imu]
type = "serial"
port = "TTY"
decode = { format = "csv", fields = ["v"] }
[source.in]
type = "mqtt"
topic = "in/slow"
decode = { format = "csv", fields = ["v"] }
[model.slow]
path = "slow.onnx"
batch = { max = 1 }
[pipeline.of_imu]
source = "imu"
publish = { topic = "out/imu" }
[pipeline.of_slow]
source = "in"
model = "slow"
publish = { topic = "out/slow" }
"""


def test_a_flood_of_retained_messages_at_subscribe(tmp_path: Path) -> None:
    count = scale("retained topics")
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        for n in range(count):
            client.publish(f"flood/{n}", '{"v": 1}', qos=0 if n < count - 1 else 1, retain=True)
        text = HEAD.format(port=broker.port) + FLOOD + '[memory]\nbudget = "128MiB"\n'
        with Daemon(tmp_path, text):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            slowest_s = 0.0
            for n in range(20):
                at = time.monotonic()
                client.publish("in/live", json.dumps({"v": n}))
                client.wait("out/live", n + 1)
                slowest_s = max(slowest_s, time.monotonic() - at)
            health = client.health(lambda h: h["sources"]["flood"]["read"] == count)
            print(f"{count} retained topics: live inputs waited {slowest_s:.3f} s, highest {health['memory']['highest_mib']} MiB")
            assert balanced(health)
            assert slowest_s <= 2.0
            assert health["sources"]["flood"]["rows"] == 64  # keys; the others have no place and are counted
            assert health["sources"]["flood"]["dropped"] == {"too_many_keys": count - 64}
            assert health["memory"]["highest_mib"] < 128


def test_a_slow_model_costs_the_others_nothing(tmp_path: Path) -> None:
    """A model of 50 ms at four fifths of what it can do, beside a sensor: no byte is lost, and the broker hears from us."""
    burner(tmp_path / "slow.onnx", products=100)
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port) as client,
        Sensor(tmp_path / "imu") as sensor,
        Daemon(tmp_path, HEAD.format(port=broker.port) + SLOW.replace("TTY", str(tmp_path / "imu"))),
    ):
        run_s = client.health(lambda h: h["brokers"]["main"]["state"] == "connected") and _run_s(client)
        sent, slow, start = 0, 0, time.monotonic()
        while (passed := time.monotonic() - start) < 3.0:
            while sent < passed * 500:
                sensor.write(f"{sent}\n")
                sent += 1
            while slow < passed * 0.8 / run_s:
                client.publish("in/slow", str(slow))
                slow += 1
        client.wait("out/imu", sent)
        client.wait("out/slow", slow)
        assert [m.json["outputs"]["v"] for m in client.of("out/imu")] == list(range(sent))
        assert [m.json["outputs"]["y"][0] for m in client.of("out/slow")] == list(range(slow))
        health = client.health()
        print(f"a run of {run_s * 1e3:.0f} ms: {sent} lines and {slow} runs, loop lag {health['loop_lag']}")
        assert health["brokers"]["main"]["connects"] == 1
        assert health["models"]["slow"]["run"] == "worker"
        assert balanced(health)


def _run_s(client: Client) -> float:
    """What one run takes, as measured at load."""
    return float(client.wait("edged/t/model/slow")[0].json["p50_us"]) / 1e6


def test_a_backlog_of_sound_of_two_rooms_is_windowed_in_turn(broker: Broker, tmp_path: Path) -> None:
    """16 kHz, a second of each room, messages of 10 ms at QoS 1, few slots: all windows come, all inputs are acknowledged."""
    net(tmp_path / "loud" / "model.onnx", {"x": (TensorProto.FLOAT, ["N", 1600])}, {"y": ["N", 1]})
    text = (
        HEAD.replace("PORT", str(broker.port)).format(port=broker.port)
        + """
[source.sound]
type = "mqtt"
topic = "rooms/{room}/sound"
qos = 1
max_keys = 2
decode = { format = "raw", fields = [{ name = "v", dtype = "int16" }] }
[model.loud]
path = "loud"
[pipeline.loud]
source = "sound"
window = { size = 1600, hop = 800 }
slots = 4
model = "loud"
publish = { topic = "out/{room}" }
"""
    )
    with Client(broker.port) as client:
        with Daemon(tmp_path, text):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for room in ("a", "b"):  # it is away, and the broker keeps them
            client.publish_all(f"rooms/{room}/sound", [np.full(160, i, np.int16).tobytes() for i in range(100)])
        with Daemon(tmp_path, text):
            found = {room: client.wait(f"out/{room}", 19) for room in ("a", "b")}
            health = client.health(lambda h: h["pipelines"]["loud"]["published"] == 38 and not h["brokers"]["main"]["unacked"])
    assert balanced(health)
    assert health["sources"]["sound"]["rows"] == 32_000
    assert health["pipelines"]["loud"]["dropped"] == {}
    for messages in found.values():
        assert [m.json["seq"] for m in messages] == sorted(m.json["seq"] for m in messages)
        assert len(messages) == 19
