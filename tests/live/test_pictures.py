"""Pictures over MQTT and over a serial port to boxes in their own pixels; what is made to hurt is refused and counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from onnx import TensorProto

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced
from tests.support.deployments import net
from tests.support.models import Axes
from tests.support.pictures import BLUE, RED, hostile, jpeg, laden, pixels, png

CONFIG = """
[device]
id = "t"
[memory]
budget = "400MiB"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
receive_maximum = 20
[source.cameras]
type = "mqtt"
topic = "cameras/{{camera}}/picture"
max_keys = 4
max_bytes = "1MiB"
decode = {{ format = "image", max_pixels = 1000000 }}
[source.uart]
type = "serial"
port = "{folder}/camera"
frame = {{ type = "length", sync = [0xAA, 0x55], length = "uint32" }}
decode = {{ format = "image", max_pixels = 100000 }}
[source.ask]
type = "mqtt"
topic = "ask"
reply = "out/answers"
max_bytes = "64KiB"
decode = {{ format = "image", max_pixels = 100000 }}
[model.colours]
path = "{folder}/colours"
[pipeline.things]
source = "cameras"
preprocess = {{ step = "resize", size = [64, 64], fit = "letterbox" }}
model = "colours"
output = {{ type = "detect", above = 0.6 }}
publish = {{ topic = "out/{{camera}}" }}
[pipeline.reds]
source = "cameras"
preprocess = {{ step = "resize", size = [64, 64], fit = "stretch" }}
model = "colours"
output = {{ type = "detect", above = 0.6, label = "red" }}
publish = {{ topic = "out/{{camera}}/reds", when = {{ above = 0.5 }} }}
[pipeline.asked]
source = "ask"
preprocess = {{ step = "resize", size = [64, 64] }}
model = "colours"
output = {{ type = "detect", above = 0.6 }}
[pipeline.near]
source = "uart"
preprocess = {{ step = "resize", size = [64, 64] }}
model = "colours"
output = {{ type = "detect", above = 0.6 }}
publish = {{ topic = "out/near" }}
"""


MANIFEST = """
labels = ["red", "green", "blue"]
[normalize]
min = 0
max = 255
"""


def test_pictures_become_boxes(broker: Broker, tmp_path: Path) -> None:
    models.cells(tmp_path / "colours" / "model.onnx")
    (tmp_path / "colours" / "model.toml").write_text(MANIFEST)
    bad = hostile()
    text = CONFIG.format(port=broker.port, folder=tmp_path)
    with Sensor(tmp_path / "camera") as uart, Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        # 640 x 320 is seen as 64 x 32 in the middle: a cell of the model is 80 x 80 pixels of the picture.
        red = jpeg(pixels(640, 320, (80, 160, 160, 240, RED)))
        client.publish("cameras/hall/picture", red)
        first = client.wait("out/hall")[0].json
        assert (first["key"], first["count"]) == ("hall", 1)
        assert first["detections"][0]["label"] == "red"
        assert first["detections"][0]["box"] == [80, 160, 160, 240]
        assert first["score"] == first["detections"][0]["score"] > 0.9
        assert first["carried"] == {"width": 640, "height": 320}
        # Stretched, the same square is two cells high.
        reds = client.wait("out/hall/reds")[0].json["detections"]
        assert sorted(d["box"] for d in reds) == [[80, 160, 160, 200], [80, 200, 160, 240]]

        client.publish_all("cameras/hall/picture", [payload for payload, _, _ in bad.values()])
        for payload in laden().values():  # green, and nothing the model knows: what is in them beside pixels costs nothing
            if len(payload) < 1 << 20:
                client.publish("cameras/laden/picture", payload)
        client.publish("cameras/yard/picture", png(pixels(64, 64, (8, 8, 16, 16, BLUE), (48, 40, 56, 48, RED))))
        found = client.wait("out/yard")[0].json
        boxes = {d["label"]: d["box"] for d in found["detections"]}
        assert boxes == {"blue": [8, 8, 16, 16], "red": [48, 40, 56, 48]}
        assert len(client.of("out/hall")) == 1

        small = png(pixels(64, 64, (0, 0, 8, 8, RED)))
        uart.write(b"".join(b"\xaa\x55" + len(p).to_bytes(4, "little") + p for p in (small, b"no picture", small)))
        assert [m.json["detections"][0]["box"] for m in client.wait("out/near", 2)] == [[0, 0, 8, 8]] * 2

        client.ask("ask", small, "out/answers", b"good")
        client.ask("ask", bad["a bomb"][0], "out/answers", b"bomb")
        answers = {m.correlation: m.json for m in client.wait("out/answers", 2)}
        assert answers[b"good"]["detections"][0]["box"] == [0, 0, 8, 8]
        assert answers[b"bomb"]["error"]["code"] == "too_large"

        health = client.health(lambda h: h["sources"]["uart"]["rejected"] == 1 and not h["brokers"]["main"].get("unacked"))
        assert balanced(health)
        reasons = Counter(reason for _, reason, _ in bad.values())
        assert health["sources"]["cameras"]["dropped"] == dict(reasons)
        good = 2 + sum(len(payload) < 1 << 20 for payload in laden().values())
        assert (health["sources"]["cameras"]["rows"], health["sources"]["cameras"]["waiting"]) == (good, 0)
        assert all(line.startswith("timestamp=") for line in daemon.log.splitlines())  # no library speaks there
        assert not [name for name in daemon.threads if name.startswith("decode")]


def test_a_daemon_that_stops_decodes_what_it_was_sent(broker: Broker, tmp_path: Path) -> None:
    """More large pictures in one go than are decoded in a turn: all of them are answered, in order, none twice."""
    models.cells(tmp_path / "colours" / "model.onnx")
    (tmp_path / "colours" / "model.toml").write_text(MANIFEST)
    noise = np.random.default_rng(0).integers(0, 40, (600, 600, 3)).astype(np.uint8)
    pictures = []
    for i in range(8):
        picture = noise.copy()
        picture[: 75 * (i + 1), :75] = RED
        pictures.append(jpeg(picture))
    with Client(broker.port) as client:
        with Sensor(tmp_path / "camera"), Daemon(tmp_path, CONFIG.format(port=broker.port, folder=tmp_path)) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            client.publish_all("cameras/hall/picture", pictures)
            client.wait("out/hall")
            assert daemon.stop() == 0
        with Sensor(tmp_path / "camera"), Daemon(tmp_path, CONFIG.format(port=broker.port, folder=tmp_path)):
            counts = [m.json["count"] for m in client.wait("out/hall", len(pictures))]
        assert counts == list(range(1, 9))


def test_a_detector_that_runs_only_when_something_moves(broker: Broker, tmp_path: Path) -> None:
    """Both see the same picture, each in its own size: the gate is judged by the very picture that is to be run."""
    models.cells(tmp_path / "colours" / "model.onnx")
    (tmp_path / "colours" / "model.toml").write_text(MANIFEST)
    frames: dict[str, tuple[int, Axes]] = {"frames": (TensorProto.FLOAT, ["N", 2, 16, 16, 3])}
    net(tmp_path / "bright" / "model.onnx", frames, {"score": ["N", 1]})
    (tmp_path / "bright" / "model.toml").write_text("[normalize]\nmin = 0\nmax = 255\n")
    text = f"""
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{broker.port}"
[source.cameras]
type = "mqtt"
topic = "cameras/{{camera}}/picture"
qos = 0
max_keys = 4
decode = {{ format = "image", max_pixels = 100000 }}
[model.colours]
path = "colours"
[model.bright]
path = "bright"
[pipeline.bright]
source = "cameras"
window = {{ size = 2, hop = 1 }}
preprocess = {{ step = "resize", size = [16, 16], fit = "stretch" }}
model = "bright"
output = {{ type = "anomaly", above = 0.7 }}
publish = []
[pipeline.things]
source = "cameras"
gate = {{ source = "bright", of = "anomaly" }}
preprocess = {{ step = "resize", size = [64, 64] }}
model = "colours"
output = {{ type = "detect", above = 0.9 }}
publish = {{ topic = "out/{{camera}}" }}
"""
    dark, bright = (jpeg(pixels(64, 64, (0, 0, 64, 64, (n, n, n)), (0, 0, 8, 8, RED))) for n in (0, 200))
    with Client(broker.port) as client, Daemon(tmp_path, text):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("cameras/hall/picture", [dark, dark, bright, bright, bright, dark, dark])
        client.publish("cameras/yard/picture", bright)
        health = client.health(lambda h: h["pipelines"]["things"]["due"] == 8 and not h["pipelines"]["things"]["waiting"])
        assert balanced(health)
        assert health["pipelines"]["things"]["gated"] == 6
        found = [m.json["detections"][0] for m in client.wait("out/hall", 2)]
        assert [(d["label"], d["box"]) for d in found] == [("red", [0, 0, 8, 8])] * 2
        assert not client.of("out/yard")
