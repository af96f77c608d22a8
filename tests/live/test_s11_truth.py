"""Health tells the truth: whatever stage stops moving is named, with the reason, and so is its return. Story S11."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests import models
from tests.broker import Broker
from tests.live.daemon import Client, Daemon, Sensor, balanced, until

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""
SERIAL = """
[source.imu]
type = "serial"
port = "{tty}"
rate = 1
decode = {{ format = "csv", fields = ["v"] }}
[source.door]
type = "mqtt"
topic = "in/door"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
publish = {{ topic = "out/p" }}
[pipeline.q]
source = "door"
publish = {{ topic = "out/q" }}
"""
INPUT = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "in"
{model}
publish = {{ topic = "out/p" }}
"""
MODEL = """
[model.m]
path = "{path}"
run = "worker"
"""
EXPECTED_S = 3.0  # three periods of `rate`, before which nobody is called silent
NO_FRAME_S = 5.0
LEAST_S = 2.0


def turns(client: Client, condition: Callable[[Any], object], since: float, expected_s: float) -> Any:
    """The health message in which it is said, no later than twice the interval after which something was to be expected."""
    found = client.health(condition)
    assert time.monotonic() - since < 2 * expected_s
    return found


def healthy(client: Client) -> Any:
    return client.health(lambda found: found["state"] == "healthy")


def test_a_reader_that_falls_silent_and_a_door_that_stays_shut(broker: Broker, tmp_path: Path) -> None:
    """The door has no rate: it is silent by nature, and that is no fault."""
    text = HEAD.format(port=broker.port) + SERIAL.format(tty=tmp_path / "imu")
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text):
        client.health(lambda found: found["brokers"]["main"]["state"] == "connected")
        client.publish("in/door", "1")
        sensor.write("1\n")
        healthy(client)
        since = time.monotonic()
        found = turns(client, lambda found: found["state"] == "degraded", since, EXPECTED_S)
        assert (found["sources"]["imu"]["state"], found["pipelines"]["p"]["state"]) == ("silent", "waiting")
        assert found["pipelines"]["p"]["reason"].startswith("source imu is silent: nothing has come in for")
        assert (found["sources"]["door"]["state"], found["pipelines"]["q"]["state"]) == ("running", "running")
        sensor.write("2\n")
        healthy(client)


def test_a_decoder_that_gets_only_garbage(broker: Broker, tmp_path: Path) -> None:
    text = HEAD.format(port=broker.port) + SERIAL.format(tty=tmp_path / "imu")
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text):
        client.health(lambda found: found["brokers"]["main"]["state"] == "connected")
        client.publish("in/door", "1")
        sensor.write("1\n")
        healthy(client)
        since = time.monotonic()

        def spoil(state: str) -> Callable[[Any], bool]:
            def look(found: Any) -> bool:
                sensor.write("\x00\xff?!\n")
                return bool(found["sources"]["imu"]["state"] == state)

            return look

        found = turns(client, spoil("bad values"), since, EXPECTED_S)
        assert found["sources"]["imu"]["reason"].startswith("no good sample for")
        assert (found["state"], found["pipelines"]["p"]["state"]) == ("degraded", "waiting")
        found = turns(client, spoil("no valid frame"), since, NO_FRAME_S)
        assert "frames is good, the last: " in found["sources"]["imu"]["reason"]
        sensor.write("2\n")
        healthy(client)


def counter(path: Path) -> None:
    """y = x, after x times a product of matrices: a model that takes as long as its input says."""
    width = 256
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["goes"]), h.make_node("MatMul", ["state", "w"], ["next"])],
        "body",
        [models.value("i", T.INT64, []), models.value("go", T.BOOL, []), models.value("state", T.FLOAT, [width, width])],
        [models.value("goes", T.BOOL, []), models.value("next", T.FLOAT, [width, width])],
    )
    nodes = [
        h.make_node("Cast", ["x"], ["whole"], to=T.INT64),
        h.make_node("Reshape", ["whole", "scalar"], ["times"]),
        h.make_node("Loop", ["times", "", "w"], ["end"], body=body),
        h.make_node("ReduceMean", ["end"], ["mean"]),
        h.make_node("Mul", ["mean", "nought"], ["nothing"]),
        h.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = [
        nh.from_array(np.full((width, width), 1 / width, np.float32), "w"),
        nh.from_array(np.float32(0), "nought"),
        nh.from_array(np.empty(0, np.int64), "scalar"),
    ]
    models.save(path, nodes, [models.value("x", T.FLOAT, [1, 1])], [models.value("y", T.FLOAT, [1, 1])], constants)


def test_a_run_that_does_not_end(broker: Broker, tmp_path: Path) -> None:
    """It is said while it goes on, and no more once it has ended after all."""
    counter(tmp_path / "m.onnx")
    text = HEAD.format(port=broker.port) + INPUT.format(model='model = "m"') + MODEL.format(path=tmp_path / "m.onnx")
    with Client(broker.port) as client, Daemon(tmp_path, text):
        client.health(lambda found: found["brokers"]["main"]["state"] == "connected")
        start = time.monotonic()
        client.publish("in/x", "300")
        client.wait("out/p", 1)
        long = int(300 * 2.5 * LEAST_S / (time.monotonic() - start))
        healthy(client)
        client.publish("in/x", str(long))
        since = time.monotonic()
        found = turns(client, lambda found: found["state"] == "degraded", since, LEAST_S)
        assert found["models"]["m"]["state"] == "hanging"
        assert found["models"]["m"]["reason"].startswith("a run began")
        assert found["pipelines"]["p"]["state"] == "stalled"
        assert found["pipelines"]["p"]["reason"].startswith("model m hangs: a run began")
        assert found["sources"]["in"]["state"] == "running"
        client.wait("out/p", 2, limit_s=60)
        assert balanced(healthy(client))


ALLOWED = "topic readwrite #\n"
FORBIDDEN = "topic readwrite edged/#\ntopic readwrite in/#\ntopic read out/#\n"


def test_a_broker_that_takes_no_result(tmp_path: Path) -> None:
    """It says so for each, and everything else of it is well."""
    rules = tmp_path / "rules"
    rules.write_text(ALLOWED)
    with Broker(tmp_path, f"acl_file {rules}") as broker, Client(broker.port) as client:
        text = HEAD.format(port=broker.port) + INPUT.format(model="")
        with Daemon(tmp_path, text):
            client.health(lambda found: found["brokers"]["main"]["state"] == "connected")
            client.publish("in/x", "1")
            client.wait("out/p", 1)
            healthy(client)
            set_rules(broker, rules, FORBIDDEN)
            client.publish("in/x", "2")
            since = time.monotonic()
            found = turns(client, lambda found: found["state"] == "degraded", since, LEAST_S)
            reason = "broker main takes no result on out/p (not authorised): check its access rules and quotas"
            assert (found["pipelines"]["p"]["state"], found["pipelines"]["p"]["reason"]) == ("refused", reason)
            assert found["brokers"]["main"]["state"] == "connected"
            assert found["pipelines"]["p"]["publish"][0]["dropped"] == {"refused": 1}
            set_rules(broker, rules, ALLOWED)
            client.publish("in/x", "3")
            client.wait("out/p", 2)
            assert balanced(healthy(client))


def set_rules(broker: Broker, file: Path, rules: str) -> None:
    """Returns when the broker has read them."""
    assert broker.process
    read = broker.log.count("Reloading config")
    file.write_text(rules)
    broker.process.send_signal(signal.SIGHUP)
    until(lambda: broker.log.count("Reloading config") > read, what="the broker to read its rules")
