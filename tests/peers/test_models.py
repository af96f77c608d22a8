"""Models that ship inside packages, through the real daemon: the same numbers as plain onnxruntime gives."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tests.peers.install import wheel
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon

LIMIT_S = 120.0
SILERO, NUDENET, RAPIDOCR, MAGIKA = (
    ("silero-vad", "6.2.3"),
    ("nudenet", "3.4.2"),
    ("rapidocr-onnxruntime", "1.4.4"),
    ("magika", "1.0.3"),
)

CONFIG = """
[device]
id = "t"
[memory]
budget = "1GiB"
[health]
interval = "1s"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.audio]
type = "mqtt"
topic = "audio"
max_bytes = "64KiB"
decode = {{ format = "json", fields = [{{ name = "audio", shape = 576 }}] }}
[source.bytes]
type = "mqtt"
topic = "bytes"
max_bytes = "64KiB"
decode = {{ format = "json", fields = [{{ name = "bytes", shape = 2048 }}] }}
[source.cam]
type = "mqtt"
topic = "cam/{{camera}}"
max_keys = 2
max_bytes = "1MiB"
decode = {{ format = "image", max_pixels = 1000000 }}
[source.line]
type = "mqtt"
topic = "line"
max_bytes = "1MiB"
decode = {{ format = "image", max_pixels = 1000000, color = "bgr" }}

[model.vad]
path = "{silero}/silero_vad/data/silero_vad.onnx"
state = {{ stateN = "state" }}
[model.type]
path = "{magika}/magika/models/standard_v3_3/model.onnx"
[model.nude]
path = "{nudenet}/nudenet/320n.onnx"
[model.words]
path = "{rapidocr}/rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
[model.turned]
path = "{rapidocr}/rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"

[pipeline.vad]
source = "audio"
model = "vad"
inputs = {{ input = {{ fields = "audio" }}, sr = {{ value = 16000 }} }}
publish = {{ topic = "out/vad" }}
[pipeline.type]
source = "bytes"
model = "type"
publish = {{ topic = "out/type" }}
[pipeline.nude]
source = "cam"
model = "nude"
output = {{ type = "detect", above = 0.00001 }}
publish = {{ topic = "out/nude/{{camera}}" }}
[pipeline.defaults]
source = "cam"
model = "nude"
publish = {{ topic = "out/defaults/{{camera}}" }}
[pipeline.words]
source = "line"
preprocess = [{{ step = "resize", size = [320, 48], fit = "stretch" }}, {{ step = "normalize", mean = 127.5, std = 127.5 }}]
model = "words"
output = "text"
publish = {{ topic = "out/words" }}
[pipeline.turned]
source = "line"
preprocess = [{{ step = "resize", size = [192, 48], fit = "stretch" }}, {{ step = "normalize", mean = 127.5, std = 127.5 }}]
model = "turned"
output = "classify"
publish = {{ topic = "out/turned" }}
"""


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options)


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def written(text: str) -> Image.Image:
    picture = Image.new("RGB", (320, 48), "white")
    ImageDraw.Draw(picture).text((10, 4), text, "black", ImageFont.load_default(34))
    return picture


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    return {name.partition("-")[0]: wheel(name, version) for name, version in (SILERO, NUDENET, RAPIDOCR, MAGIKA)}


class _Daemon(Daemon):
    """One that tries five models before it is ready."""

    def start(self, limit_s: float = LIMIT_S) -> None:
        super().start(limit_s)


def test_as_plain_onnxruntime(tmp_path: Path, folders: dict[str, Path]) -> None:
    rng = np.random.default_rng(0)
    with (
        Broker(tmp_path) as broker,
        Client(broker.port, "out/#", "edged/t/health") as client,
        _Daemon(tmp_path, CONFIG.format(port=broker.port, **folders)),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected", limit_s=LIMIT_S)
        _hear(client, folders["silero"] / "silero_vad/data/silero_vad.onnx", rng)
        _tell(client, folders["magika"] / "magika/models/standard_v3_3/model.onnx", rng)
        _see(client, folders["nudenet"] / "nudenet/320n.onnx", rng)
        _read(client, folders["rapidocr"] / "rapidocr_onnxruntime/models")


def _hear(client: Client, path: Path, rng: np.random.Generator) -> None:
    chunks = (rng.standard_normal((5, 576)) / 10).astype(np.float32)
    for chunk in chunks:
        client.publish("audio", json.dumps({"audio": [float(x) for x in chunk]}))
    found = [seen.json["outputs"]["output"][0] for seen in client.wait("out/vad", 5, LIMIT_S)]
    plain, state, expected = session(path), np.zeros((2, 1, 128), np.float32), []
    for chunk in chunks:
        given = {"input": chunk[None], "state": state, "sr": np.array(16000, np.int64)}
        output, state = plain.run(["output", "stateN"], given)
        expected.append(output[0][0])
    assert np.array_equal(np.array(found, np.float32), expected)


def _tell(client: Client, path: Path, rng: np.random.Generator) -> None:
    given = rng.integers(0, 257, (1, 2048)).astype(np.int32)
    client.publish("bytes", json.dumps({"bytes": given[0].tolist()}))
    [seen] = client.wait("out/type", 1, LIMIT_S)
    expected = session(path).run(None, {"bytes": given})[0][0]
    assert np.array_equal(np.array(seen.json["outputs"]["target_label"], np.float32), expected)


def _see(client: Client, path: Path, rng: np.random.Generator) -> None:
    """The size, the labels and the task come from the file; a picture of that size needs no other."""
    pixels = rng.integers(0, 256, (10, 10, 3), np.uint8).repeat(32, 0).repeat(32, 1)
    client.publish("cam/yard", png(Image.fromarray(pixels)))
    [seen], [plain] = client.wait("out/nude/yard", 1, LIMIT_S), client.wait("out/defaults/yard", 1, LIMIT_S)
    assert plain.json["count"] <= seen.json["count"]
    given = (pixels.transpose(2, 0, 1)[None].astype(np.float32) - np.float32(0)) * np.float32(1 / 255)
    row: NDArray[Any] = session(path).run(None, {"images": given})[0][0]
    best = max(row[4:].max(axis=0))
    assert seen.json["score"] == pytest.approx(float(best), abs=1e-7)
    x, y, w, h = row[:4, row[4:].max(axis=0).argmax()]
    box = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 320)
    assert seen.json["detections"][0]["box"] == pytest.approx(box, abs=0.051)


def _read(client: Client, folder: Path) -> None:
    client.publish("line", png(written("HELLO 4711")))
    [words], [turned] = client.wait("out/words", 1, LIMIT_S), client.wait("out/turned", 1, LIMIT_S)
    assert words.json["text"].replace(" ", "") == "HELLO4711"
    assert words.json["score"] > 0.8
    assert turned.json["label"] == "0"
