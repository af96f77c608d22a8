"""What comes in over MQTT and what goes out: one daemon with every format, output type, filter and join, side by side."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

STEPS = """
import numpy as np

def double(window):
    return window * 2

def total(outputs):
    if outputs["y"][0] < 0:
        raise ValueError("below zero")
    return {"total": outputs["y"].sum(keepdims=True)}
"""

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"

[model.linear]
path = "{zoo}/linear.onnx"
[model.behind]
path = "{zoo}/linear.onnx"
run = "worker"
[model.score]
path = "{zoo}/score.onnx"
[model.same]
path = "{zoo}/same.onnx"
[model.three]
path = "{zoo}/same.onnx"
labels = ["low", "middle", "high"]
[model.two]
path = "{zoo}/two.onnx"

[source.json]
type = "mqtt"
topic = "in/json"
decode = {{ format = "json", fields = [
  "a",
  {{ name = "b", path = "deep.b" }},
  {{ name = "c", path = "list.1", values = {{ on = 1 }} }},
] }}
carry = ["id", "deep.n"]
[source.csv]
type = "mqtt"
topic = "in/csv"
decode = {{ format = "csv", fields = ["a", "_", "b", "c"] }}
[source.msgpack]
type = "mqtt"
topic = "in/msgpack"
decode = {{ format = "msgpack", fields = ["a", "b", "c"] }}
[source.raw]
type = "mqtt"
topic = "in/raw"
qos = 0
decode = {{ format = "raw", dtype = "float32", fields = ["a", "b", "c"] }}
[source.struct]
type = "mqtt"
topic = "in/struct"
decode = {{ format = "struct", endian = "big", fields = [
  {{ name = "a", dtype = "int16", scale = 0.5 }},
  {{ name = "b", dtype = "uint8" }},
  {{ name = "c", dtype = "float64" }},
] }}

[source.pump]
type = "mqtt"
topic = "plant/{{line}}/{{pump}}/in"
max_keys = 4
decode = {{ format = "csv", fields = ["a", "b", "c"] }}
[source.named]
type = "mqtt"
topic = "named/in"
key = "id"
max_keys = 3
decode = {{ format = "json", fields = ["a", "b", "c"] }}
[source.single]
type = "mqtt"
topic = "in/single"
decode = {{ format = "csv", fields = ["v"] }}
[source.pace]
type = "mqtt"
topic = "in/pace"
decode = {{ format = "csv", fields = ["p", "q"] }}
[source.other]
type = "mqtt"
topic = "in/other"
decode = {{ format = "csv", fields = ["r"] }}
[source.left]
type = "mqtt"
topic = "in/left"
decode = {{ format = "csv", fields = ["a1", "a2"] }}
[source.right]
type = "mqtt"
topic = "in/right"
decode = {{ format = "csv", fields = ["b1", "b2"] }}
"""

PIPELINES = """
[pipeline.by_{name}]
source = "{name}"
model = "linear"
publish = {{ topic = "out/{name}" }}
"""

MORE = """
[pipeline.pumps]
source = "pump"
window = { size = 2, hop = 1 }
preprocess = "steps.py:double"
publish = { topic = "out/{line}/pumps/{pump}" }
[pipeline.pumps_by_key]
source = "pump"
model = "linear"
publish = { topic = "out/by-key/{key}" }
[pipeline.by_name]
source = "named"
model = "linear"
publish = { topic = "out/named/{id}" }

[pipeline.carried_by_windows]
source = "json"
window = { size = 2, hop = 1 }
publish = { topic = "out/carried", format = "msgpack" }
[pipeline.carried_on]
source = "by_json"
publish = { topic = "out/carried/on" }
[pipeline.worker]
source = "csv"
model = "behind"
publish = { topic = "out/worker", qos = 0 }
[pipeline.classes]
source = "csv"
model = "three"
output = { type = "classify", top = 2 }
publish = [
  { topic = "out/classes" },
  { topic = "out/classes/high", fields = ["label", "key", "seq"], when = { label = "high" } },
  { topic = "out/classes/change", format = "text", fields = "label", when = { change = true } },
]
[pipeline.values]
source = "csv"
model = "linear"
output = { type = "regress", fields = [{ name = "left", unit = "h" }, { name = "right", scale = 0.1, offset = 1 }] }
publish = [
  { topic = "out/values" },
  { topic = "out/values/msgpack", format = "msgpack" },
  { topic = "out/values/cbor", format = "cbor" },
  { topic = "out/values/raw", format = "raw", fields = "values" },
  { topic = "out/values/text", format = "text", fields = "values.right" },
  { topic = "out/values/large", retain = true, when = { of = "values.left", above = 100 } },
]
[pipeline.normal]
source = "csv"
model = "same"
preprocess = [{ step = "normalize", mean = 1, std = 2 }]
publish = { topic = "out/normal" }
[pipeline.trend]
source = "csv"
window = { size = 4 }
preprocess = "detrend"
publish = { topic = "out/trend" }
[pipeline.after]
source = "csv"
model = "linear"
postprocess = "steps.py:total"
publish = { topic = "out/after" }
[pipeline.alarm]
source = "single"
model = "score"
output = { type = "anomaly", above = 10, release = 5 }
publish = [{ topic = "out/alarm" }, { topic = "out/alarm/on", when = { of = "anomaly" } }]
[pipeline.rebuilt]
source = "csv"
model = "same"
output = { type = "anomaly", error = "mae", above = 0.5 }
publish = { topic = "out/rebuilt" }
[pipeline.plain]
source = "csv"
publish = { topic = "out/plain" }
[pipeline.joined]
source = ["pace", "other"]
align = { tolerance = "1h" }
model = "linear"
publish = { topic = "out/joined" }
[pipeline.two]
source = ["left", "right"]
align = { tolerance = "1h" }
model = "two"
inputs = { a = { fields = ["a1", "a2"] }, b = { fields = ["b1", "b2"] } }
publish = { topic = "out/two" }
[pipeline.nowhere]
source = "csv"
model = "linear"
publish = []
"""

FORMATS = ("json", "csv", "msgpack", "raw", "struct")


class Stage:
    def __init__(self, daemon: Daemon, client: Client) -> None:
        self.daemon = daemon
        self.client = client

    def results(self, topic: str, count: int) -> list[Any]:
        return [m.json for m in self.client.wait(topic, count)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "steps.py").write_text(STEPS)
    with Broker(folder, "max_queued_messages 0") as broker:
        text = CONFIG.format(port=broker.port, zoo=zoo)
        text += "".join(PIPELINES.format(name=name) for name in FORMATS) + MORE
        with Client(broker.port) as client, Daemon(folder, text) as daemon:
            client.until(lambda: next((m for m in client.of("edged/t/status") if m.payload == b"online"), None))
            yield Stage(daemon, client)
            assert balanced(client.health())


@pytest.fixture(autouse=True)
def _fresh(stage: Stage) -> None:
    """Begins when the results of the test before have come."""
    stage.client.health(
        lambda h: all(
            p["waiting"] + sum(e["queued"] + e["in_flight"] for e in p["publish"]) == 0 for p in h["pipelines"].values()
        )
    )
    stage.client.forget()


def y(a: float, b: float, c: float) -> list[float]:
    return [a + 2 * b + 3 * c, 2 * a + 3 * b + 4 * c]


@pytest.mark.parametrize(
    ("name", "payload", "rows"),
    [
        ("json", b'{"a": 1.5, "deep": {"b": 2}, "list": [9, "on"]}', [(1.5, 2, 1)]),
        ("json", b'{"a": [1, 2], "deep": {"b": [3, 4]}, "list": [0, [5, 6]]}', [(1, 3, 5), (2, 4, 6)]),
        ("csv", b"1,text,2,3", [(1, 2, 3)]),
        ("csv", b"1,x,2,3\n-4,x,5e0,6.0\r\n", [(1, 2, 3), (-4, 5, 6)]),
        ("msgpack", msgspec.msgpack.encode({"a": 1, "b": 2.5, "c": True}), [(1, 2.5, 1)]),
        ("raw", struct.pack("<6f", 1, 2, 3, 4, 5, 6), [(1, 2, 3), (4, 5, 6)]),
        ("struct", struct.pack(">hBd", -7, 200, 0.25), [(-3.5, 200, 0.25)]),
    ],
)
def test_every_format_in(stage: Stage, name: str, payload: bytes, rows: list[tuple[float, float, float]]) -> None:
    stage.client.publish("in/" + name, payload)
    results = stage.results(f"out/{name}", len(rows))
    assert [r["outputs"]["y"] for r in results] == [pytest.approx(y(*row)) for row in rows]
    assert results[0]["pipeline"] == f"by_{name}"
    assert results[0]["model"].startswith("linear@")


def test_fields_of_the_input_are_carried(stage: Stage) -> None:
    def message(**deep: object) -> bytes:
        return json.dumps({"a": 1, "list": [0, 1], "id": deep.pop("id", None), "deep": {"b": 1, **deep}}).encode()

    client = stage.client
    client.publish("in/json", message(id="x-1"))
    client.publish("in/json", message(id=2**60, n=1.5))
    client.publish("in/json", message(id="y" * 300))
    client.publish("in/json", b'{"a": 1, "deep": {"b": 2}, "list": [0, 1]}')
    client.publish("in/json", message(id="z", n=[1]))
    expected = [{"id": "x-1"}, {"id": 2**60, "deep.n": 1.5}, None, {"id": "z"}]
    assert [r.get("carried") for r in stage.results("out/json", 4)] == expected
    assert [r.get("carried") for r in stage.results("out/carried/on", 4)] == expected
    client.until(
        lambda: [msgspec.msgpack.decode(m.payload).get("carried") for m in client.of("out/carried")][-3:] == expected[1:]
    )
    client.health(lambda h: h["sources"]["json"]["dropped"].get("carry_too_large") == 1)


def test_each_key_has_its_own_window_topic_and_bound(stage: Stage) -> None:
    client = stage.client
    for i in range(3):
        for pump in ("p1", "p2"):
            client.publish(f"plant/north/{pump}/in", f"{i},0,{10 if pump == 'p1' else 20}")
    client.publish("plant/süd/p1/in", "7,0,0")
    for pump, c in (("p1", 10), ("p2", 20)):
        first, second = stage.results(f"out/north/pumps/{pump}", 2)
        assert (first["outputs"], second["outputs"]) == (
            {"a": [0, 2], "b": [0, 0], "c": [2 * c, 2 * c]},
            {"a": [2, 4], "b": [0, 0], "c": [2 * c, 2 * c]},
        )
        assert first["key"] == f"north/{pump}"
        assert len(stage.results(f"out/by-key/north/{pump}", 3)) == 3
    assert stage.results("out/by-key/süd/p1", 1)[0]["key"] == "süd/p1"
    client.publish("plant/a/1/in", "1,1,1")
    client.publish("plant/a/2/in", "1,1,1")  # the fifth key of four
    health = client.health(lambda h: h["sources"]["pump"]["dropped"])
    assert health["sources"]["pump"]["dropped"] == {"too_many_keys": 1}
    assert health["sources"]["pump"]["keys"] == 4
    assert not client.of("out/by-key/a/2")


def test_a_key_from_the_payload_cannot_leave_its_level(stage: Stage) -> None:
    client = stage.client
    bad = ["a/b", "+", "#", "a\0b", "", "../x", "out/json", "a\x01b", "a\x85", "\ufdd0", "\U0001ffff"]
    for name in bad:
        client.publish("named/in", json.dumps({"id": name, "a": 1, "b": 1, "c": 1}))
    client.publish("named/in", json.dumps({"id": "plain one", "a": 1, "b": 1, "c": 1}))
    client.wait("out/named/plain one")
    topics = {m.topic for m in client.messages if m.topic.startswith(("out/named", "..", "a/"))}
    health = client.health(lambda h: h["sources"]["named"]["rejected"])
    rejected = health["sources"]["named"]["dropped"]
    assert rejected.get("bad_key", 0) >= 10
    assert topics <= {"out/named/plain one", "out/named/"}
    assert health["brokers"]["main"]["connects"] == 1  # the broker had no reason to end the connection


def test_output_types_and_filters(stage: Stage) -> None:
    client = stage.client
    for line in ("3,x,2,1", "0,x,1,2", "0,x,1,3"):
        client.publish("in/csv", line)
    classes = stage.results("out/classes", 3)
    assert [c["label"] for c in classes] == ["low", "high", "high"]
    assert list(classes[0]["scores"]) == ["low", "middle"]
    assert sum(np.exp([3, 2]) / np.exp([3, 2, 1]).sum()) == pytest.approx(sum(classes[0]["scores"].values()), abs=1e-5)
    high = stage.results("out/classes/high", 2)
    assert [h["label"] for h in high] == ["high", "high"]
    assert set(high[0]) == {"label", "seq"}
    changes = [m.payload for m in client.wait("out/classes/change", 1)]
    assert changes in ([b"low", b"high"], [b"high"])  # the second, if the test before ended with "low"

    values = stage.results("out/values", 3)
    assert values[0]["values"] == pytest.approx({"left": 10, "right": 1 + 1.6})
    assert [r["outputs"]["total"] for r in stage.results("out/after", 3)] == [[26], [19], [26]]
    assert stage.results("out/normal", 1)[0]["outputs"]["y"] == [1, 0.5, 0]
    assert stage.results("out/plain", 1)[0]["outputs"] == {"a": 3, "b": 2, "c": 1}
    assert "model" not in stage.results("out/plain", 1)[0]
    assert stage.results("out/rebuilt", 1)[0] | {"score": 0, "anomaly": False} == stage.results("out/rebuilt", 1)[0]
    assert stage.results("out/worker", 3)[0]["outputs"]["y"] == [10, 16]


def test_every_format_out(stage: Stage) -> None:
    client = stage.client
    client.publish("in/csv", "10,x,20,30")
    plain = stage.results("out/values", 1)[0]
    left, right = 140.0, 200 * 0.1 + 1
    for name, decode in (("msgpack", msgspec.msgpack.decode), ("cbor", cbor2.loads)):
        found = decode(client.wait(f"out/values/{name}")[0].payload)
        assert found["values"] == pytest.approx({"left": left, "right": right})
        assert {k: v for k, v in found.items() if k not in ("values", "age_ms")} == {
            k: v for k, v in plain.items() if k not in ("values", "age_ms")
        }
    assert np.frombuffer(client.wait("out/values/raw")[0].payload, "<f4").tolist() == pytest.approx([left, right])
    assert float(client.wait("out/values/text")[0].payload) == pytest.approx(right)
    assert client.wait("out/values/large")[0].json["values"]["left"] == left
    with Client(client.port, "out/values/#") as late:
        assert late.wait("out/values/large")[0].is_retained
        assert {m.topic for m in late.messages} == {"out/values/large"}


def test_an_alarm_holds_until_its_release(stage: Stage) -> None:
    for value in (1, 11, 7, 4, 12):
        stage.client.publish("in/single", str(value))
    results = stage.results("out/alarm", 5)
    assert [r["anomaly"] for r in results] == [False, True, True, False, True]
    assert [r["score"] for r in results] == [1, 11, 7, 4, 12]
    assert [r["score"] for r in stage.results("out/alarm/on", 3)] == [11, 7, 12]


def test_a_step_after_the_model_may_refuse_a_row(stage: Stage) -> None:
    client = stage.client
    client.publish_all("in/csv", ["1,x,0,0", "-100,x,0,0", "2,x,0,0"])
    totals = stage.results("out/after", 2)
    assert [r["outputs"]["total"] for r in totals] == [[3], [6]]
    health = client.health(lambda h: h["pipelines"]["after"]["dropped"])
    assert health["pipelines"]["after"]["dropped"] == {"postprocess": 1}


def test_two_sources_are_joined(stage: Stage) -> None:
    client = stage.client
    client.publish("in/pace", "1,2")  # nothing known of the other yet
    client.health(lambda h: h["pipelines"]["joined"]["join"]["dropped"] or h["sources"]["pace"]["rows"])
    client.publish("in/other", "3")
    time_of_other = client.health(lambda h: h["sources"]["other"]["rows"] == 1)
    assert time_of_other
    client.publish("in/pace", "4,5")
    assert stage.results("out/joined", 1)[-1]["outputs"]["y"] == y(4, 5, 3)
    assert len(client.of("out/joined")) == 1


def test_two_inputs_of_other_types(stage: Stage) -> None:
    client = stage.client
    client.publish("in/right", "3,-4")
    client.health(lambda h: h["sources"]["right"]["rows"] == 1)
    client.publish("in/left", "0.5,2")
    outputs = stage.results("out/two", 1)[0]["outputs"]
    assert outputs == {"sum": [3.5, -2], "product": [1.5, -8]}


def line_taken_out(values: list[float]) -> list[float]:
    t = np.arange(len(values))
    return [v - f for v, f in zip(values, np.polyval(np.polyfit(t, values, 1), t), strict=True)]


def test_a_window_is_detrended(stage: Stage) -> None:
    client = stage.client
    rows = client.health()["sources"]["csv"]["rows"]
    client.publish_all("in/csv", ["0,x,0,0"] * (-rows % 4))  # so that the window begins here
    if rows % 4:
        client.wait("out/trend")
        client.forget()
    client.publish("in/csv", "0,x,5,1\n1,x,5,2\n2,x,5,3\n3,x,5,9\n")
    outputs = stage.results("out/trend", 1)[0]["outputs"]
    assert outputs["a"] == pytest.approx([0, 0, 0, 0], abs=1e-5)
    assert outputs["b"] == pytest.approx([0, 0, 0, 0], abs=1e-5)
    assert outputs["c"] == pytest.approx(line_taken_out([1, 2, 3, 9]), abs=1e-4)


def test_batches_form_and_nothing_is_lost(stage: Stage) -> None:
    client, count = stage.client, 500
    client.publish_all("in/csv", [f"{i},x,0,0" for i in range(count)])
    for topic in ("out/worker", "out/normal", "out/plain"):
        assert len(stage.results(topic, count)) == count
    assert [r["outputs"]["y"][0] for r in stage.results("out/worker", count)] == list(range(count))
    health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
    assert balanced(health)
    assert health["models"]["behind"]["run"] == "worker"
    assert health["models"]["behind"]["batch_mean"] > 1
