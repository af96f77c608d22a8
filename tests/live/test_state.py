"""Models that remember, as rooms do that are listened to: the fifth deployment, against onnxruntime called by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced
from tests.support.deployments import written
from tests.support.models import total
from tests.support.pause import pause

ROOMS = ("kitchen", "hall", "attic")
SIZE, HOP, SMOOTH = 576, 512, 4
SILENCE_S = 0.6  # the gap is 500 ms


class Reference:
    """One room by hand: windows cut out of its samples, the state passed from run to run, the last four results averaged."""

    def __init__(self, model: Path) -> None:
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._last: deque[np.ndarray] = deque(maxlen=SMOOTH)
        self.hears_nothing()

    def hears_nothing(self) -> None:
        self._heard = np.empty(0, np.float32)
        self._h = self._c = np.zeros((1, 1, 8), np.float32)

    def hears(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        self._heard = np.concatenate([self._heard, samples.astype(np.float32) / 32768])
        while len(self._heard) >= SIZE:
            audio, self._heard = self._heard[None, :SIZE], self._heard[HOP:]
            feeds = {"audio": audio, "sr": np.array([16000]), "h": self._h, "c": self._c}
            scores, self._h, self._c = self._session.run(["scores", "h_out", "c_out"], feeds)
            self._last.append(scores[0])
            yield np.mean(self._last, axis=0)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Client]:
    written("keyword", tmp_path)
    text = (tmp_path / "edged.toml").read_text("utf-8")
    text = text[: text.index("publish = ")] + 'publish = { topic = "home/{room}/keyword" }\n'  # every result
    with Broker(tmp_path) as broker, Client(broker.port, "home/#", "edged/#") as client:
        text = text.replace("mqtt://localhost", f"mqtt://127.0.0.1:{broker.port}")
        with Daemon(tmp_path, '[device]\nid = "t"\n[health]\ninterval = "100ms"\n' + text):
            client.health(lambda h: h["brokers"]["home"]["state"] == "connected")
            yield client


def test_d05_each_room_is_heard_by_a_memory_of_its_own(rooms: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    references = {room: Reference(tmp_path / "models" / "keyword.onnx") for room in ROOMS}
    wanted: dict[str, list[np.ndarray]] = {room: [] for room in ROOMS}
    for follows_silence in (False, True):
        if follows_silence:
            pause(SILENCE_S, "the rooms are silent for so long")
        for _ in range(15):  # all within milliseconds: pieces of any length, the rooms in any order
            for room in rng.permutation(ROOMS):
                samples = rng.integers(-32768, 32768, rng.integers(1, 700)).astype("<i2")
                wanted[room] += references[room].hears(samples)
                rooms.publish(f"audio/{room}/pcm", samples.tobytes(), qos=0)
        for room in ROOMS:
            rooms.wait(f"home/{room}/keyword", len(wanted[room]))
            references[room].hears_nothing()
    names = ["silence", "other", "lights on", "lights off"]
    for room in ROOMS:
        results = [m.json for m in rooms.of(f"home/{room}/keyword")]
        assert [r["key"] for r in results] == [room] * len(wanted[room])
        found = [[r["scores"][name] for name in names] for r in results]
        np.testing.assert_allclose(found, wanted[room], atol=2e-6)
    rooms.publish("audio/hall/pcm", b"\0" * 1023, qos=0)
    health = rooms.health(lambda h: h["sources"]["mic"]["rejected"] == 1)
    assert balanced(health)
    assert health["pipelines"]["keyword"]["published"] == sum(map(len, wanted.values()))
    assert health["models"]["keyword"]["batch_mean"] >= 1


SUMS = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/{{room}}"
decode = {{ format = "csv", fields = ["v"] }}
[model.sum]
path = "sum"
[pipeline.sum]
source = "in"
model = "sum"
publish = {{ topic = "out/{{room}}" }}
"""


def test_it_goes_on_after_a_planned_stop_and_begins_anew_with_another_file(tmp_path: Path) -> None:
    total(tmp_path / "sum" / "model.onnx", layers=2)
    (tmp_path / "sum" / "model.toml").write_text('state = { sum_out = "sum" }')

    def sums() -> list[float]:
        return [m.json["outputs"]["y"][0] / 3 for m in client.of("out/hall")]

    with Broker(tmp_path) as broker, Client(broker.port) as client, Daemon(tmp_path, SUMS.format(port=broker.port)) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for number in (1, 2):
            client.publish("in/attic", "100")
            client.publish("in/hall", str(number))
        client.wait("out/hall", 2)
        daemon.stop()
        client.publish("in/hall", "4")
        daemon.start()
        client.wait("out/hall", 3)
        assert sums() == [1, 3, 7]
        total(tmp_path / "new.onnx", layers=2, metadata={"version": "2"}).replace(tmp_path / "sum" / "model.onnx")
        client.until(lambda: any(m.json["event"] == "reload" and m.json["ok"] for m in client.of("edged/t/event")) or None)
        client.publish("in/hall", "8")
        client.wait("out/hall", 4)
        assert sums() == [1, 3, 7, 8]
        assert balanced(client.health())
