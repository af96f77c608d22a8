"""Some of the cases of `cases/mqtt` through a real broker and the real daemon: held values, a batch, bytes in a member."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.sources.test_mqtt_cases import CASES, messages, same
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

PLAYED = ("esphome_join", "telegraf_json_batch", "ruuvi_gateway", "azure_body", "senml", "victron_tree", "gzip_json")
CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""


def test_samples_of_publishers(tmp_path: Path, broker: Broker) -> None:
    cases = {case.name: case for case in CASES if case.name in PLAYED}
    assert len(cases) == len(PLAYED)
    text = CONFIG.format(port=broker.port)
    for name, case in cases.items():
        source = (case / "edged.toml").read_text("utf-8").split("[pipeline.p]")[0]
        text += source.replace("[source.s]", f"[source.{name}]")
        text += f'[pipeline.of_{name}]\nsource = "{name}"\npublish = {{ topic = "out/{name}{_of_key(source)}" }}\n'
    with Client(broker.port, "out/#", "edged/#") as client, Daemon(tmp_path, text):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and len(h["sources"]) == len(PLAYED))
        for case in cases.values():
            for topic, payload in messages(case):
                client.publish(topic, payload)
        wanted = {
            name: [json.loads(line) for line in (c / "expected.jsonl").read_text().splitlines()] for name, c in cases.items()
        }
        count = sum(map(len, wanted.values()))
        client.until(lambda: len([m for m in client.messages if m.topic.startswith("out/")]) >= count or None, what="all results")
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
        for message in client.messages:
            if message.topic.startswith("out/"):
                result = message.json
                found[message.topic.split("/")[1]].append(
                    result["outputs"] | {k: result[k] for k in ("key", "degraded") if k in result}
                )
        client.health(balanced)
    for name, samples in wanted.items():
        assert len(found[name]) == len(samples), name
        assert all(
            same(one, {k: v for k, v in two.items() if k != "time"}) for one, two in zip(found[name], samples, strict=True)
        ), name


def _of_key(source: str) -> str:
    first = next(line for line in source.splitlines() if line.startswith("topic"))
    return "/{key}" if "key = " in source or "{" in first.replace("{field}", "").replace("{field...}", "") else ""
