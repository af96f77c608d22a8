"""Models as exporters write them, through the real daemon: the same numbers as plain onnxruntime, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced
from tests.support.models import save, value
from tests.support.pictures import RED, pixels, png

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.accel]
type = "mqtt"
topic = "accel"
decode = {{ format = "json", fields = ["ax", "ay", "az"] }}
[source.cam]
type = "mqtt"
topic = "cam"
max_bytes = "256KiB"
decode = {{ format = "image", max_pixels = 100000 }}

[model.sequence]
path = "{folder}/sequence.onnx"
[model.named]
path = "{folder}/named.onnx"
[model.maps]
path = "{folder}/maps.onnx"
[model.dynamic]
path = "{folder}/dynamic.onnx"
[model.columns]
path = "{folder}/columns.onnx"
[model.yolox]
path = "{folder}/yolox.onnx"
labels = ["cat", "dog", "cow"]

[pipeline.sequence]
source = "accel"
window = {{ size = 8 }}
model = "sequence"
publish = {{ topic = "out/sequence" }}
[pipeline.named]
source = "accel"
model = "named"
output = "classify"
publish = {{ topic = "out/named" }}
[pipeline.maps]
source = "accel"
model = "maps"
publish = {{ topic = "out/maps" }}
[pipeline.dynamic]
source = "accel"
model = "dynamic"
publish = {{ topic = "out/dynamic" }}
[pipeline.columns]
source = "accel"
model = "columns"
publish = {{ topic = "out/columns" }}
[pipeline.yolox]
source = "cam"
preprocess = [{{ step = "resize", size = [64, 64] }}, {{ step = "normalize", mean = 0, std = 1 }}]
model = "yolox"
output = {{ type = "detect", above = 0.5 }}
publish = {{ topic = "out/yolox" }}
"""


def columns(path: Path) -> None:
    """y = az - 2 ax, an input for each column, in another order than the sensor has them."""
    nodes = [h.make_node("Mul", ["ax", "two"], ["twice"]), h.make_node("Sub", ["az", "twice"], ["y"])]
    ins = [value(n, T.FLOAT, ["n", 1]) for n in ("az", "ax")]
    save(path, nodes, ins, [value("y", T.FLOAT, ["n", 1])], [nh.from_array(np.float32(2), "two")])


def yolox(path: Path) -> None:
    """A YOLOX of three classes over 64 x 64 pixels, raw: the eleventh cell sees a dog of 16 x 24 pixels where there is red."""
    grid = np.full((1, 84, 8), -1, np.float32)
    grid[:, :, 4:] = 0
    grid[0, 10] = [0.5, 0.5, np.log(2), np.log(3), 0.9, 0, 1, 0]
    save(
        path,
        [
            h.make_node("ReduceMax", ["images"], ["most"], axes=[1, 2, 3], keepdims=0),
            h.make_node("Div", ["most", "full"], ["share"]),
            h.make_node("Unsqueeze", ["share", "last"], ["shares"]),
            h.make_node("Mul", ["grid", "shares"], ["output"]),
        ],
        [value("images", T.FLOAT, ["n", 3, 64, 64])],
        [value("output", T.FLOAT, ["n", 84, 8])],
        [nh.from_array(grid, "grid"), nh.from_array(np.float32(255), "full"), nh.from_array(np.array([1, 2], np.int64), "last")],
    )


def plain(path: Path, **given: Any) -> list[Any]:
    return list(ort.InferenceSession(str(path)).run(None, given))


def test_as_plain_onnxruntime(broker: Broker, tmp_path: Path) -> None:
    builds: dict[str, Any] = {
        "sequence": models.sequence,
        "named": models.named,
        "maps": models.zip_map,
        "dynamic": models.dynamic,
    }
    for name, build in builds.items():
        build(tmp_path / f"{name}.onnx")
    columns(tmp_path / "columns.onnx")
    yolox(tmp_path / "yolox.onnx")
    rows = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)
    rows[3] *= 100  # what is quantised by the range of a batch would show it in the others
    with (
        Client(broker.port, "out/#", "edged/t/health") as client,
        Daemon(tmp_path, CONFIG.format(port=broker.port, folder=tmp_path)),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("accel", [json.dumps(dict(zip(("ax", "ay", "az"), map(float, row), strict=True))) for row in rows])
        client.publish("cam", png(pixels(64, 64, (20, 10, 40, 40, RED))))
        [seen] = client.wait("out/sequence")
        [expected] = plain(tmp_path / "sequence.onnx", x=rows[:, None])
        assert np.array_equal(np.array(seen.json["outputs"]["last"], np.float32), expected[0])
        labels, probabilities = plain(tmp_path / "named.onnx", x=rows)
        named = [seen.json for seen in client.wait("out/named", 8)]
        assert [one["label"] for one in named] == labels.tolist()
        assert [one["scores"]["worn"] for one in named] == [round(float(p), 7) for p in probabilities[:, 1]]
        maps = [seen.json["outputs"] for seen in client.wait("out/maps", 8)]
        assert maps == [{"y": int(y)} for y in plain(tmp_path / "maps.onnx", x=rows)[0]]
        dynamic = [seen.json["outputs"]["y"] for seen in client.wait("out/dynamic", 8)]
        alone = [plain(tmp_path / "dynamic.onnx", x=row[None])[0][0] for row in rows]
        assert np.array_equal(np.array(dynamic, np.float32), alone)
        column = [seen.json["outputs"]["y"][0] for seen in client.wait("out/columns", 8)]
        assert np.array_equal(np.array(column, np.float32), rows[:, 2] - 2 * rows[:, 0])
        [seen] = client.wait("out/yolox")
        assert seen.json["detections"] == [{"label": "dog", "score": 0.9, "box": [12.0, 0.0, 28.0, 24.0]}]
        assert balanced(client.health(lambda h: h["pipelines"]["yolox"]["published"] == 1))
