"""Health tells the truth: whatever stage stops moving is named, with the reason, and so is its return. Story S11."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until

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
MIN_S = 2.0


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
        long = int(300 * 2.5 * MIN_S / (time.monotonic() - start))
        healthy(client)
        client.publish("in/x", str(long))
        since = time.monotonic()
        found = turns(client, lambda found: found["state"] == "degraded", since, MIN_S)
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
            found = turns(client, lambda found: found["state"] == "degraded", since, MIN_S)
            reason = "broker main refuses results on out/p (not authorised): check its access rules and quotas"
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


EVERY_ROW = """
[source.imu]
type = "serial"
port = "{tty}"
{rate}
decode = {{ format = "csv", fields = ["v"] }}
[model.m]
path = "{path}"
[pipeline.nan]
source = "imu"
model = "m"
output = "regress"
[pipeline.raw]
source = "imu"
model = "m"
[pipeline.windows]
source = "imu"
window = {{ size = 2, gap = "1h" }}
preprocess = "steps.py:before"
[pipeline.after]
source = "imu"
model = "m"
postprocess = "steps.py:after"
[pipeline.next]
source = "after"
[pipeline.well]
source = "imu"
publish = {{ topic = "out/well" }}
"""
ALWAYS = """
def before(window):
    if window.max() < -1:
        raise ValueError("never again")
    return window

def after(outputs):
    if outputs["y"].max() != 0:
        raise ValueError("never again")
    return outputs
"""


@pytest.mark.parametrize("rate", ["", "rate = 5"])
def test_where_every_row_is_dropped(broker: Broker, tmp_path: Path, rate: str) -> None:
    """By a model that answers only NaN, by steps that always raise, with and without a rate: said within seconds, and why."""
    (tmp_path / "steps.py").write_text(ALWAYS)
    models.root(tmp_path / "m.onnx")
    text = HEAD.format(port=broker.port) + EVERY_ROW.format(tty=tmp_path / "imu", rate=rate, path=tmp_path / "m.onnx")
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text):

        def speaking(value: str, condition: Callable[[Any], object]) -> Callable[[Any], object]:
            def look(found: Any) -> object:
                sensor.write(f"{value}\n")
                return condition(found)

            return look

        client.health(speaking("0", lambda found: all(p["state"] == "running" for p in found["pipelines"].values())))
        since = time.monotonic()
        bad = ("nan", "raw", "windows", "after")
        found = turns(
            client, speaking("-4", lambda found: all(found["pipelines"][p]["state"] == "failing" for p in bad)), since, MIN_S
        )
        reasons = {name: found["pipelines"][name]["reason"].partition("the newest as ")[2] for name in bad}
        assert reasons == {
            "nan": "not_finite: an output of the model is NaN or infinite",
            "raw": "not_finite: all outputs are NaN or infinite; raw results show them as null",
            "windows": "preprocess: steps.py:before: ValueError: never again (line 4 of steps.py)",
            "after": "postprocess: steps.py:after: ValueError: never again (line 9 of steps.py)",
        }
        assert found["state"] == "degraded"
        assert found["pipelines"]["well"]["state"] == "running"
        assert found["pipelines"]["next"]["state"] == "waiting"
        assert found["pipelines"]["next"]["reason"].startswith("pipeline after is failing: ")
        client.health(speaking("0", lambda found: found["state"] == "healthy"))
        assert balanced(healthy(client))


FAULTY = """
from edged.pipeline.admission import Admission

push = Admission._push

def fail(self, source, block):
    if self._counts.drops._name == "pipeline.bad" and (block.values == 13).any():
        raise ZeroDivisionError("a fault of edged, put in by a test")
    push(self, source, block)

Admission._push = fail

def same(row):
    return row
"""
CONSUMERS = """
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.bad]
source = "imu"
preprocess = "steps.py:same"
publish = {{ topic = "out/bad" }}
[pipeline.good]
source = "imu"
publish = {{ topic = "out/good" }}
"""


def test_a_consumer_with_a_fault_costs_its_own_row(broker: Broker, tmp_path: Path) -> None:
    """The first of a serial source: its neighbour has every row, the process goes on, and the fault is told."""
    (tmp_path / "steps.py").write_text(FAULTY)
    text = HEAD.format(port=broker.port) + CONSUMERS.format(tty=tmp_path / "imu")
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text) as daemon:
        client.health(lambda found: found["brokers"]["main"]["state"] == "connected")
        sensor.write("".join(f"{value}\n" for value in (11, 12, 13, 14, 15)))
        good, bad = (client.wait(f"out/{name}", count) for name, count in (("good", 5), ("bad", 4)))
        assert [m.json["outputs"]["v"] for m in good] == [11, 12, 13, 14, 15]
        assert [m.json["outputs"]["v"] for m in bad] == [11, 12, 14, 15]
        for _ in range(3):
            sensor.write("13\n")
        found = client.health(lambda found: found["pipelines"]["bad"]["state"] == "failing")
        assert "internal_error: ZeroDivisionError('a fault of edged, put in by a test')" in found["pipelines"]["bad"]["reason"]
        assert found["pipelines"]["bad"]["dropped"] == {"internal_error": 4}
        assert found["pipelines"]["good"]["state"] == "running"
        assert balanced(found)
        sensor.write("16\n")
        client.wait("out/bad", 5)
        client.health(lambda found: found["pipelines"]["bad"]["state"] == "running")
        assert "please report it" in daemon.log
