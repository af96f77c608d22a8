"""A model of several inputs: two sensors, as in the seventh deployment, and constants of every shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced
from tests.support.models import save, value

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.accel]
type = "serial"
port = "{folder}/accel"
rate = 3200
decode = {{ format = "csv", fields = ["ax", "ay", "az"] }}
[source.temperature]
type = "mqtt"
topic = "plant/press3/bearing"
decode = {{ format = "json", fields = [{{ name = "temp", path = "t", unit = "°C", valid = [-40, 180] }}] }}
[model.bearing]
path = "bearing.onnx"
[pipeline.bearing]
source = ["accel", "temperature"]
align = {{ tolerance = "30s" }}
window = {{ size = 4 }}
model = "bearing"
publish = {{ topic = "out/bearing" }}
[pipeline.bearing.inputs]
vibration = {{ fields = ["ax", "ay", "az"] }}
temperature = {{ fields = ["temp"], size = 1 }}
gain = {{ value = 0.5 }}
bias = {{ value = [1000] }}
weights = {{ value = [1, 2, 3] }}
levels = {{ value = [100, 200] }}
"""
PATTERN = np.arange(12, dtype=np.float32).reshape(3, 4)


def bearing(path: Path) -> Path:
    """y = gain * sum(pattern * vibration) + temperature + bias + sum(weights) + sum(levels); each row has weights of its own."""
    nodes = [
        h.make_node("Mul", ["vibration", "pattern"], ["v0"]),
        h.make_node("ReduceSum", ["v0", "axes12"], ["v1"], keepdims=0),
        h.make_node("Unsqueeze", ["v1", "axis1"], ["v2"]),
        h.make_node("Mul", ["v2", "gain"], ["v3"]),
        h.make_node("ReduceSum", ["weights", "axis1"], ["w"], keepdims=1),
        h.make_node("ReduceSum", ["levels", "axis0"], ["l0"], keepdims=1),
        h.make_node("Cast", ["l0"], ["l1"], to=T.FLOAT),
        h.make_node("Sum", ["v3", "temperature", "bias", "w", "l1"], ["y"]),
    ]
    ins = [
        value("vibration", T.FLOAT, ["N", 3, 4]),
        value("temperature", T.FLOAT, ["N", 1]),
        value("gain", T.FLOAT, []),
        value("bias", T.FLOAT, [1]),
        value("weights", T.FLOAT, ["N", 3]),
        value("levels", T.INT32, [2]),
    ]
    axes = {"axes12": [1, 2], "axis1": [1], "axis0": [0]}
    own = [nh.from_array(PATTERN, "pattern"), *(nh.from_array(np.array(v, np.int64), n) for n, v in axes.items())]
    return save(path, nodes, ins, [value("y", T.FLOAT, ["N", 1])], own)


def test_d07_windows_meet_the_latest_of_another_sensor_and_constants(tmp_path: Path) -> None:
    bearing(tmp_path / "bearing.onnx")
    rows = np.random.default_rng(3).integers(-9, 10, (12, 3))
    with (
        Broker(tmp_path) as broker,
        Client(broker.port) as client,
        Sensor(tmp_path / "accel") as sensor,
        Daemon(tmp_path, TEXT.format(port=broker.port, folder=tmp_path)),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        found: list[float] = []
        for i, degrees in enumerate((20, 30.5, -4)):
            client.publish("plant/press3/bearing", f'{{"t": {degrees}}}')
            client.health(lambda h: h["sources"]["temperature"]["rows"] == i + 1)
            sensor.write("".join(f"{a},{b},{c}\n" for a, b, c in rows[4 * i : 4 * i + 4]))
            found.append(client.wait("out/bearing", i + 1)[i].json["outputs"]["y"][0])
        assert balanced(client.health())
    wanted = [
        0.5 * float((rows[4 * i : 4 * i + 4].T * PATTERN).sum()) + degrees + 1000 + 6 + 300
        for i, degrees in enumerate((20, 30.5, -4))
    ]
    assert found == pytest.approx(wanted, rel=1e-6)
