"""Inputs that a model was unsure of, from the sensor to a labelled recording that the commands read."""

from __future__ import annotations

import io
import json
import random
import subprocess
from pathlib import Path
from typing import Any

from onnx import TensorProto as T
from onnx import helper as h

from edged.sources.recording import Header, Record, read_header, read_records
from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, edged, said, until

CONFIG = """
[device]
id = "t"
state_dir = "state"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""
KEYED = """
[source.pump]
type = "mqtt"
topic = "plant/{pump}/rms"
decode = { format = "json", fields = ["bad", "good"] }
[model.wear]
path = "wear.onnx"
labels = ["bad", "good"]
[pipeline.fault]
source = "pump"
model = "wear"
output = { type = "classify", softmax = false }
samples = { %s }
publish = { topic = "out/{pump}" }
"""
SERIAL = """
[source.accel]
type = "serial"
port = "{path}"
baudrate = 921600
decode = {{ format = "csv", fields = ["a"] }}
[pipeline.mean]
source = "accel"
window = {{ size = 50 }}
model = "m"
output = "regress"
samples = {{ when = {{ above = 0.5 }}, max_bytes = "1MiB" }}
publish = {{ topic = "out/mean" }}
[model.m]
path = "m.onnx"
"""
KEPT = 'when = { below = 0.6 }, limit = "3/h", max_bytes = "1MiB", labels = "plant/labels"'


def classifier(path: Path) -> None:
    """Says what it is told: the numbers are the probabilities."""
    models.save(
        path,
        [h.make_node("Identity", ["x"], ["y"])],
        [models.value("x", T.FLOAT, ["n", 2])],
        [models.value("y", T.FLOAT, ["n", 2])],
    )


def read(data: bytes) -> tuple[Header, list[Record]]:
    file = io.BytesIO(data)
    header = read_header(file)
    assert header is not None
    return header, list(read_records(file, header.kind))


def say(client: Client, pump: str, bad: float) -> Any:
    """Publishes, and returns the result."""
    client.forget()
    client.publish(f"plant/{pump}/rms", json.dumps({"bad": bad, "good": round(1 - bad, 3)}))
    return client.wait(f"out/{pump}")[0].json


def details(folder: Path) -> Any:
    code, out, err = said(edged("status", "--json", "-c", str(folder / "edged.toml")))
    assert code == 0, err
    return json.loads(out)["details"]["pipelines"]["fault"]["samples"]


def test_kept_labelled_and_evaluated(tmp_path: Path, broker: Broker) -> None:
    classifier(tmp_path / "wear.onnx")
    text = CONFIG.format(port=broker.port) + KEYED % KEPT
    folder = tmp_path / "state" / "samples" / "fault"

    def kept() -> list[Path]:
        return sorted(folder.glob("*.rec"))

    with Client(broker.port, "edged/#", "out/#", "away/#") as client, Daemon(tmp_path, text) as daemon:
        client.health(lambda x: x["brokers"]["main"]["state"] == "connected")
        results = [say(client, pump, bad) for pump, bad in (("p1", 0.9), ("p2", 0.45), ("p1", 0.52), ("p2", 0.1), ("p1", 0.5))]
        client.until(lambda: len(kept()) == 3, what="three that it was unsure of")
        say(client, "p1", 0.55)
        assert details(tmp_path) == {"kept": 3, "labelled": 0, "left_out": 1, "dropped": {}}
        header, records = read(kept()[0].read_bytes())
        assert header.sample is not None
        assert (header.kind, header.source, header.sample.pipeline, header.sample.why, header.sample.key) == (
            "mqtt", "pump", "fault", "unsure", "p2",
        )  # fmt: skip
        result = json.loads(bytes(header.sample.result))
        assert (result["seq"], result["label"], result["key"]) == (results[1]["seq"], "good", results[1]["key"])
        assert [(one.topic, json.loads(one.data)) for one in records] == [(b"plant/p2/rms", {"bad": 0.45, "good": 0.55})]
        for i, label in ((1, "bad"), (2, "bad"), (4, "good")):
            client.publish("plant/labels", json.dumps({"run": results[i]["run"], "seq": results[i]["seq"], "label": label}))
        client.publish("plant/labels", '{"run": "00", "seq": 1, "label": "bad"}')
        client.publish("plant/labels", "rubbish")
        client.until(
            lambda: (
                details(tmp_path) == {"kept": 3, "labelled": 3, "left_out": 1, "dropped": {"bad_label": 1, "unknown_label": 1}}
            )
        )
        reload(daemon, text.replace("below = 0.6", "below = 0.95").replace("3/h", "4/h"))
        say(client, "p3", 0.9)
        client.until(lambda: len(kept()) == 4, what="the new condition to hold")
        reload(daemon, text.replace(KEPT, 'audit = "1/s", topic = "away/{device}"'))
        collecting = collect(broker, tmp_path / "collected")
        for _ in range(400):
            say(client, "p4", 0.99)
            if client.of("away/t"):
                break
        header, records = read(client.wait("away/t")[0].payload)
        assert header.sample is not None
        assert (header.sample.why, header.sample.key, records[0].topic) == ("audit", "p4", b"plant/p4/rms")
        assert len(kept()) == 4
        (path,) = client.until(lambda: [*(tmp_path / "collected").glob("*.rec")][:1], what="a file of the collector's")
        client.publish("plant/labels", json.dumps({**{n: read_result(path)[n] for n in ("run", "seq")}, "label": "good"}))
        client.until(lambda: b'"label":"good"' in path.read_bytes(), what="its label")
        collecting.terminate()
        collecting.communicate()
    out = check(tmp_path)
    assert "leave this device: main: away/t" in out
    (tmp_path / "edged.toml").write_text(text)
    assert "0 MiB" not in check(tmp_path)
    code, told, err = said(edged("evaluate", "wear", str(folder), "-c", str(tmp_path / "edged.toml"), "--json"))
    assert code == 0, err
    (model,) = json.loads(told)["models"]
    assert model["results"] == 4
    cells = {(one["truth"], one["said"]): one["count"] for one in model["confusion"]}
    assert cells == {("bad", "good"): 1, ("bad", "bad"): 1, ("good", "bad"): 1}


def test_of_a_window_all_of_its_samples(tmp_path: Path, broker: Broker) -> None:
    """Reads of a port are cut anywhere; what is kept has every line of the window in it, and is learned from as any recording."""
    nodes = [h.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)]
    models.save(tmp_path / "m.onnx", nodes, [models.value("x", T.FLOAT, ["n", 50, 1])], [models.value("y", T.FLOAT, ["n", 1])])
    text = CONFIG.format(port=broker.port) + SERIAL.format(path=tmp_path / "accel")
    rng = random.Random(16)
    values = [rng.random() / 2 + (0.5 if 200 <= i < 250 else 0.0) for i in range(400)]
    data = "".join(f"{value:.4f}\n" for value in values).encode()
    with Client(broker.port) as client, Sensor(tmp_path / "accel") as sensor, Daemon(tmp_path, text):
        while data:
            piece, data = data[: (n := rng.randint(1, 90))], data[n:]
            sensor.write(piece)
        results = [one.json for one in client.wait("out/mean", 8)]
        (path,) = client.until(lambda: [*(tmp_path / "state/samples/mean").glob("*.rec")])
    header, records = read(path.read_bytes())
    assert header.sample is not None
    assert json.loads(bytes(header.sample.result))["seq"] == results[4]["seq"]
    lines = b"".join(one.data for one in records).split(b"\n")
    wanted = [f"{value:.4f}".encode() for value in values[200:250]]
    first = lines.index(wanted[0])
    assert lines[first : first + 50] == wanted
    assert abs(header.utc_ns - header.sample.time_ns) < 60 * 10**9
    _, out, err = said(
        edged(
            "learn",
            "accel",
            str(tmp_path / "state/samples/mean"),
            "--window",
            "1",
            "-o",
            str(tmp_path / "n"),
            "-c",
            str(tmp_path / "edged.toml"),
        )
    )
    assert "samples" in out + err, out + err


def read_result(path: Path) -> Any:
    header, _ = read(path.read_bytes())
    assert header.sample is not None
    return json.loads(bytes(header.sample.result))


def collect(broker: Broker, folder: Path) -> subprocess.Popen[bytes]:
    """`edged fleet collect`, once it listens."""
    where = ["--broker", f"mqtt://127.0.0.1:{broker.port}", "--to", "away/+", "--labels", "plant/labels", "-o", str(folder)]
    process = edged("fleet", "collect", *where)
    until(lambda: " 0 away/+" in broker.log, what="the collector to subscribe")
    return process


def reload(daemon: Daemon, text: str) -> None:
    daemon.config.write_text(text)
    code, out, err = said(edged("reload", "--wait", "-c", str(daemon.config)))
    assert code == 0, out + err


def check(folder: Path) -> str:
    code, out, err = said(edged("check", "-c", str(folder / "edged.toml")))
    assert code == 0, err
    return out
