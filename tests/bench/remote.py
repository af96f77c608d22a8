"""What a peer that misbehaves costs the local work: the age of local results, and memory, with each of `http_peer.HOSTILE`.

    .venv/bin/python -m tests.bench.remote [PEER ...]

Prints a line for each peer. 100 samples per second go to a local pipeline with a model, and to a remote model."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon
from tests.support.http_peer import HOSTILE, Behaviour, HttpPeer, infers, slow
from tests.support.pause import pause

RATE, SECONDS = 100, 15
CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[memory]
budget = "160MiB"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in"
decode = {{ format = "json", fields = ["a", "b", "c"] }}
[model.near]
path = "{folder}/near.onnx"
[pipeline.near]
source = "in"
model = "near"
publish = {{ topic = "out/near", qos = 0 }}
"""
REMOTE = """
[model.far]
url = "{url}/v2/models/m"
protocol = "kserve"
timeout = "30s"
cooldown = "1s"
[pipeline.far]
source = "in"
model = "far"
publish = {{ topic = "out/far", qos = 0 }}
"""


def measure(broker: Broker, behaviour: Behaviour | None, said: str) -> None:
    with tempfile.TemporaryDirectory() as name, HttpPeer(behaviour or infers(lambda x: x)) as peer:
        folder = Path(name)
        models.linear(folder / "near.onnx")
        text = CONFIG.format(port=broker.port, folder=folder) + (REMOTE.format(url=peer.url) if behaviour else "")
        if said == "down":
            text = text.replace(f":{peer.port}", ":9")
        with Client(broker.port) as client, Daemon(folder, text):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for n in range(RATE * SECONDS):
                client.publish_all("in", [f'{{"a":{n % 7},"b":2,"c":3}}'], qos=0)
                pause(1 / RATE, "the pace of a sensor")
            health = client.health(lambda h: h["pipelines"]["near"]["published"] >= RATE * SECONDS)
            ages = np.array([one.json["age_ms"] for one in client.of("out/near")])
            p50, p99, most = np.percentile(ages, [50, 99, 100])
            memory = health["memory"]
            far = health["models"].get("far", {})
            counts = {k: far[k] for k in ("asked", "answered", "unanswered", "rests") if k in far}
            figures = f"p50 {p50:.2f}, p99 {p99:.2f}, longest {most:.2f} ms"
            used = f"{memory['highest_mib']:.0f} of {memory['planned_mib']:.0f} MiB"
            print(f"{said:20} {figures}; {used}  {counts}", flush=True)


def main() -> None:
    peers: dict[str, Behaviour | None] = {
        "none": None,
        "good": infers(lambda x: x, shape=(-1, 3)),
        "30 s": slow(infers(lambda x: x), 30),
    }
    peers |= HOSTILE | {"down": infers(lambda x: x), "none again": None}
    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        for said, behaviour in peers.items():
            if len(sys.argv) > 1 and said not in sys.argv[1:]:
                continue
            measure(broker, behaviour, said)


if __name__ == "__main__":
    main()
