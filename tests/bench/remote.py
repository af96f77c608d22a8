"""What a peer that misbehaves costs the local work: the age of local results, and memory, with each of `http_peer.HOSTILE`.

    .venv/bin/python -m tests.bench.remote [PEER ...]

Prints a line for each peer: medians of three rounds, in each of which every peer has its turn. 100 samples per second go to a
local pipeline with a model, and to a remote model."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon
from tests.support.http_peer import HOSTILE, Behaviour, HttpPeer, infers, slow
from tests.support.pause import pause

RATE, SECONDS, ROUNDS = 100, 8, 3
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


class Figures(NamedTuple):
    """Of one run: ages of local results in ms, processor time in ms per second, resident memory and that of the plan in MiB."""

    p50: float
    p99: float
    longest: float
    cpu: float
    memory: float
    planned: float


def measure(broker: Broker, behaviour: Behaviour | None, said: str) -> Figures:
    with tempfile.TemporaryDirectory() as name, HttpPeer(behaviour or infers(lambda x: x)) as peer:
        folder = Path(name)
        models.linear(folder / "near.onnx")
        text = CONFIG.format(port=broker.port, folder=folder) + (REMOTE.format(url=peer.url) if behaviour else "")
        if said == "down":
            text = text.replace(f":{peer.port}", ":9")
        with Client(broker.port) as client, Daemon(folder, text):
            begun = client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for n in range(RATE * SECONDS):
                client.publish_all("in", [f'{{"a":{n % 7},"b":2,"c":3}}'], qos=0)
                pause(1 / RATE, "the pace of a sensor")
            health = client.health(lambda h: h["pipelines"]["near"]["published"] >= RATE * SECONDS)
            ages = np.array([one.json["age_ms"] for one in client.of("out/near")])
            p50, p99, longest = np.percentile(ages, [50, 99, 100])
            cpu = 1e3 * (health["cpu_s"] - begun["cpu_s"]) / (health["uptime_s"] - begun["uptime_s"])
            memory = health["memory"]
            return Figures(p50, p99, longest, cpu, memory["highest_mib"], memory["planned_mib"])


def main() -> None:
    peers: dict[str, Behaviour | None] = {
        "none": None,
        "good": infers(lambda x: x, shape=(-1, 3)),
        "30 s": slow(infers(lambda x: x), 30),
    }
    peers |= HOSTILE | {"down": infers(lambda x: x)}
    wanted = sys.argv[1:] or list(peers)
    found: dict[str, list[Figures]] = {said: [] for said in dict.fromkeys(["none", *wanted])}
    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        for _ in range(ROUNDS):  # one beside the other, since the machine is not always the same
            for said, runs in found.items():
                runs.append(measure(broker, peers[said], said))
    alone = Figures(*np.median(found["none"], axis=0))
    for said, runs in found.items():
        each = " ".join(f"{run.p99:.2f}" for run in runs)
        f = Figures(*np.median(runs, axis=0))
        figures = f"p50 {f.p50:.2f} p99 {f.p99:.2f} ({f.p99 - alone.p99:+.2f}; {each}) longest {f.longest:.2f} ms"
        print(f"{said:20} {figures}; cpu {f.cpu:.0f} ms per s; {f.memory:.0f} of {f.planned:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
