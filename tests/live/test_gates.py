"""A cheap model decides when an expensive one runs: of the very same sample, key by key, with every ledger balanced."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from edged.daemon.control import ask
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

GATED = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/{{pump}}"
max_keys = 8
carry = "id"
decode = {{ format = "json", fields = ["v"] }}
[model.cheap]
path = "{zoo}/score.onnx"
batch = {{ max = 8 }}
[model.expensive]
path = "{zoo}/slow.onnx"
[pipeline.anomaly]
source = "in"
model = "cheap"
output = {{ type = "anomaly", above = 0.5 }}
publish = []
[pipeline.detail]
source = "in"
gate = {{ source = "anomaly", of = "anomaly" }}
model = "expensive"
slots = 4
publish = {{ topic = "out/{{pump}}" }}
"""
COUNT = 150


def test_a_cheap_model_gates_an_expensive_one(tmp_path: Path, broker: Broker, zoo: Path) -> None:
    inputs = [{"id": n, "v": random.Random(n).choice([0.0, 1.0])} for n in range(COUNT)]
    pumps = [random.Random(n + COUNT).randrange(3) for n in range(COUNT)]
    with Client(broker.port) as client, Daemon(tmp_path, GATED.format(port=broker.port, zoo=zoo)) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for pump in range(3):
            client.publish_all(f"in/{pump}", [json.dumps(i) for i, p in zip(inputs, pumps, strict=True) if p == pump])
        health = client.health(
            lambda h: (
                h["pipelines"]["detail"]["due"] == COUNT
                and not h["pipelines"]["detail"]["waiting"]
                and not h["brokers"]["main"]["unacked"]
            )
        )
        for pump in range(3):
            wanted = [i["id"] for i, p in zip(inputs, pumps, strict=True) if p == pump and i["v"]]
            assert [seen.json["carried"]["id"] for seen in client.wait(f"out/{pump}", len(wanted))] == wanted
        detail = health["pipelines"]["detail"]
        assert detail["gated"] == sum(not i["v"] for i in inputs)
        assert health["models"]["expensive"]["rows"] == COUNT - detail["gated"]
        assert (detail["dropped"], balanced(health)) == ({}, True)
        said = client.wait("edged/t/model/cheap")[-1].json["batching"]
        assert said.startswith("rows that wait run together: ")
        assert said in daemon.log
        _change_it(daemon, client, detail["gated"])


def _change_it(daemon: Daemon, client: Client, gated: int) -> None:
    """The gate, the priority and the wait for a batch, while it runs."""
    text = daemon.config.read_text()
    after = text.replace('of = "anomaly"', "above = 2").replace("slots = 4", "slots = 4\npriority = 5")
    daemon.config.write_text(after.replace("max = 8 }", 'max = 8, delay = "50ms" }'))
    answer: dict[str, Any] = ask(daemon.config, {"command": "reload", "wait": True})
    assert answer["changed"] == ["model.cheap: delay", "pipeline.detail: gate, priority"]
    assert "pipeline.anomaly" in answer["kept"]
    client.forget()
    for n, v in enumerate((1, 3, 2, 4)):
        client.publish("in/0", json.dumps({"id": n, "v": v}))
    assert [seen.json["carried"]["id"] for seen in client.wait("out/0", 2)] == [1, 3]
    health = client.health(lambda h: h["pipelines"]["detail"]["gated"] == gated + 2 and not h["brokers"]["main"]["unacked"])
    assert balanced(health)
    answer = ask(daemon.config, {"command": "reload", "wait": True})
    assert answer["changed"] == []
