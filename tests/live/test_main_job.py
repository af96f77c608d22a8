"""The main job: a sensor's samples in, windows through a real model, results at the broker, the same from a recording."""

from __future__ import annotations

import json
import re
import signal as signals
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edged.sources.simulation import Machine
from tests.support.broker import Broker
from tests.support.daemon import ROOT, Client, Daemon, Sensor, balanced, edged, said, until

SIZE, HOP = 512, 256
LABELS = ["healthy", "imbalance", "bearing", "looseness"]

HEAD = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""

VIBRATION = """
[model.vibration]
path = "{root}/models/vibration"
[pipeline.motor]
source = "accel"
window = {{ size = 512, hop = 256 }}
model = "vibration"
output = "classify"
"""

SERIAL = """
[source.accel]
type = "serial"
port = "{port}"
baudrate = 921600
decode = {{ format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }}
"""

REPLAY = """
[source.accel]
type = "replay"
path = "{path}"
speed = 0
decode = {{ format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }}
"""


def head(broker: Broker) -> str:
    return HEAD.format(port=broker.port)


def lines_of(condition: str, windows: int) -> list[str]:
    """CSV lines of a vibrating machine, as many as make so many windows."""
    values = Machine(np.random.default_rng(5), 1000.0, speed_hz=24.0).take(SIZE + (windows - 1) * HOP, condition)
    return [f"{x:.3f},{y:.3f},{z:.3f}\n" for x, y, z in values.tolist()]


def scores_of(lines: list[str]) -> NDArray[Any]:
    """What the model says of each window, asked directly."""
    rows = np.array([[float(x) for x in line.split(",")] for line in lines], np.float32)
    windows = np.stack([rows[i : i + SIZE] for i in range(0, len(rows) - SIZE + 1, HOP)])
    session = ort.InferenceSession(str(ROOT / "models/vibration/model.onnx"), providers=["CPUExecutionProvider"])
    scores: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: windows})[0]
    return scores


def answers(results: list[Any]) -> list[tuple[str, dict[str, float]]]:
    return [(r["label"], r["scores"]) for r in results]


def test_a_serial_sensor_is_classified_window_by_window(broker: Broker, tmp_path: Path) -> None:
    lines = lines_of("bearing", 8)
    wanted = scores_of(lines)
    text = head(broker) + SERIAL.format(port=tmp_path / "accel") + VIBRATION.format(root=ROOT)
    with Client(broker.port) as client, Sensor(tmp_path / "accel") as sensor, Daemon(tmp_path, text) as daemon:
        sensor.write("".join(lines))
        results = [m.json for m in client.wait("edged/t/motor", len(wanted))]
        health = client.health(lambda h: h["pipelines"]["motor"]["publish"][0]["acked"] == len(wanted))
        assert balanced(health)
        until(lambda: len(daemon.threads) == 1, what="one thread in steady state")
    for result, scores in zip(results, wanted, strict=True):
        assert result["label"] == LABELS[int(scores.argmax())]
        assert result["score"] == pytest.approx(scores.max(), abs=1e-4)
        assert [result["scores"][name] for name in LABELS] == pytest.approx(scores.tolist(), abs=1e-4)
    assert {r["label"] for r in results[1:]} == {"bearing"}

    first = results[0]
    assert list(first) == [
        *("device", "pipeline", "run", "seq", "time", "model", "label", "score", "scores"),
        *(["clock"] if "clock" in first else []),
        "age_ms",
    ]
    assert (first["device"], first["pipeline"]) == ("t", "motor")
    assert re.fullmatch(r"[0-9a-f]{8}", first["run"])
    assert {r["run"] for r in results} == {first["run"]} == {health["run"]}
    assert [r["seq"] for r in results] == list(range(1, 9))
    digest = (ROOT / "models/vibration/model.toml").read_text().partition('sha256 = "')[2][:8]
    assert first["model"] == f"vibration@{digest}"
    age = datetime.now(timezone.utc) - datetime.fromisoformat(first["time"].replace("Z", "+00:00"))
    assert 0 <= age.total_seconds() < 60
    assert 0 < first["age_ms"] < 10_000
    assert health["sources"]["accel"]["rows"] == len(lines)
    assert health["sources"]["accel"]["units"] == {"ax": "m/s2", "ay": "m/s2", "az": "m/s2"}


def test_a_recording_gives_what_the_sensor_gave_and_twice_the_same(broker: Broker, tmp_path: Path) -> None:
    lines = lines_of("looseness", 5)
    config = tmp_path / "live.toml"
    config.write_text(head(broker) + SERIAL.format(port=tmp_path / "accel") + VIBRATION.format(root=ROOT))
    with Sensor(tmp_path / "accel") as sensor:
        process = edged("record", "accel", "-c", str(config), "-o", str(tmp_path / "run.rec"))
        sensor.write("".join(lines))
        until(lambda: (tmp_path / "run.rec").exists() and sizes(tmp_path / "run.rec") >= len("".join(lines)))
        process.send_signal(signals.SIGINT)
        code, _, told = said(process)
    assert code == 0
    assert f"{len(''.join(lines))} bytes" in told

    wanted = scores_of(lines)
    text = head(broker) + REPLAY.format(path=tmp_path / "run.rec") + VIBRATION.format(root=ROOT)
    runs = []
    for _ in range(2):
        with Client(broker.port) as client:
            daemon = Daemon(tmp_path, text)
            daemon.spawn()
            assert daemon.wait() == 0  # a recording ends
            runs.append([m.payload for m in client.wait("edged/t/motor", len(wanted))])
    for payloads in runs:
        found = [json.loads(p) for p in payloads]
        assert np.allclose([[f["scores"][n] for n in LABELS] for f in found], wanted, atol=1e-4)
    first, second = ([without_run_and_age(p) for p in payloads] for payloads in runs)
    assert first == second


def test_a_long_file_at_full_speed_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    """Many more windows in one read than there are slots: the file waits for the model."""
    (tmp_path / "long.csv").write_text("".join(f"{i % 1000},0,0\n" for i in range(20_000)))
    source = REPLAY.format(path=tmp_path / "long.csv").replace("speed = 0", "speed = 0\nrate = 1000")
    pipeline = VIBRATION.format(root=ROOT).replace("hop = 256", "hop = 32").replace('"classify"', '"classify"\nslots = 32')
    count = (20_000 - SIZE) // 32 + 1
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, head(broker) + source + pipeline)
        daemon.spawn()
        assert daemon.wait() == 0
        results = [m.json for m in client.wait("edged/t/motor", count)]
    assert [r["seq"] for r in results] == list(range(1, count + 1))
    assert f"results={count} dropped=0" in daemon.log


def sizes(path: Path) -> int:
    return path.stat().st_size


def without_run_and_age(payload: bytes) -> bytes:
    """`run` is new at each start, and `age_ms` is how long it took; all else of a replayed result must be the same bytes."""
    return re.sub(rb'"run":"\w+"|"age_ms":[0-9.]+', b"", payload)


def test_a_simulated_sensor_needs_nothing(broker: Broker, tmp_path: Path) -> None:
    source = '[source.accel]\ntype = "simulate"\nsignal = "vibration"\nrate = 4000\n'
    # The model wants the unit of its training, which a simulated signal has by itself.
    with Client(broker.port) as client, Daemon(tmp_path, head(broker) + source + VIBRATION.format(root=ROOT)):
        results = [m.json for m in client.wait("edged/t/motor", 4)]
        health = client.health(lambda h: h["state"] == "healthy" and h["pipelines"]["motor"]["rate"] > 0)
    assert {r["label"] for r in results} <= set(LABELS)
    assert balanced(health)
    assert health["models"]["vibration"]["provider"] == "cpu"


def test_a_recording_of_mqtt_is_played(broker: Broker, tmp_path: Path, zoo: Path) -> None:
    common = """
decode = { format = "json", fields = ["a", "b", "c"] }
"""
    tail = f"""
[model.m]
path = "{zoo}/linear.onnx"
[pipeline.p]
source = "in"
model = "m"
publish = {{ topic = "out/p" }}
"""
    payloads = [json.dumps({"a": i, "b": 2 * i, "c": 1}) for i in range(50)]
    live = tmp_path / "live.toml"
    live.write_text(head(broker) + '[source.in]\ntype = "mqtt"\ntopic = "in/x"' + common + tail)
    with Client(broker.port) as client:
        process = edged("record", "in", "-c", str(live), "-o", str(tmp_path / "run.rec"), "--seconds", "60")
        until(lambda: "SUBACK to edged-t-record" in broker.log)
        client.publish_all("in/x", payloads)
        until(lambda: payloads[-1].encode() in (tmp_path / "run.rec").read_bytes())
        process.send_signal(signals.SIGTERM)
        assert said(process)[0] == 0

        play = f'[source.in]\ntype = "replay"\npath = "{tmp_path}/run.rec"\nspeed = 0' + common
        daemon = Daemon(tmp_path, head(broker) + play + tail)
        daemon.spawn()
        assert daemon.wait() == 0
        outputs = [m.json["outputs"]["y"] for m in client.wait("out/p", 50)]
    assert outputs == [[i + 4 * i + 3, 2 * i + 6 * i + 4] for i in range(50)]
