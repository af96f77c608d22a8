"""Up to ten times what a slow model can take, at QoS 0: what comes out, how old it is, what memory and the loop do.

    python -m tests.bench.overload            # or: make overload

The model takes some 5 to 10 ms a run. Inputs come from a process of their own, at steady rates; medians of three rounds,
the worst of them for memory and the loop.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.live.conftest import burner
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

SECONDS = 6.0
SHORT_S = 4.0
FLOOD = 1000.0
"""Inputs per second, more than the model takes."""
ROUNDS = 3
LOADS = (0.9, 1.5, 3.0, 10.0)
DEADLINE_MS = 500
CONFIG = """
[device]
id = "t"
[health]
interval = "500ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/x"
qos = 0
decode = {{ format = "csv", fields = ["v"] }}
[model.slow]
path = "{folder}/slow.onnx"
[pipeline.p]
source = "in"
model = "slow"
slots = 16
deadline = "{deadline}ms"
publish = {{ topic = "out/p", qos = 0 }}
"""


def send(port: int, rate: float, seconds: float) -> None:
    """The sender's process: numbers on `in/x`, so many a second."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    start = time.monotonic()
    sent = 0
    while (passed := time.monotonic() - start) < seconds:
        while sent < passed * rate:
            client.publish("in/x", str(sent % 1000))
            sent += 1
        time.sleep(0.005)
    client.disconnect()
    client.loop_stop()


def measure(broker: Broker, client: Client, rate: float, seconds: float = SECONDS) -> tuple[float, float, dict[str, Any]]:
    """Results per second and the 99th percentile of their age in ms, of the time after the first two seconds; and health."""
    client.forget()
    sender = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.overload", "send", str(broker.port), str(rate), str(seconds + 2)]
    )
    client.wait("out/p", 1)
    time.sleep(2.0)
    client.forget()
    start = time.monotonic()
    time.sleep(seconds - 1.0)
    seen = client.of("out/p")
    took = time.monotonic() - start
    health = client.health()
    sender.wait()
    ages = sorted(m.json["age_ms"] for m in seen)
    return len(seen) / took, ages[len(ages) * 99 // 100], health


@contextmanager
def running(folder: Path) -> Iterator[tuple[Broker, Client, float]]:
    """The daemon, its broker and a client, and how many results per second it makes when it is flooded. At the end its ledgers
    must balance."""
    burner(folder / "slow.onnx")
    with (
        Broker(folder, "max_queued_messages 0", "log_type error") as broker,
        Client(broker.port) as client,
        Daemon(folder, CONFIG.format(port=broker.port, folder=folder, deadline=DEADLINE_MS), name="overload.toml"),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        yield broker, client, measure(broker, client, FLOOD)[0]
        assert balanced(client.health(lambda h: h["pipelines"]["p"]["waiting"] == 0))


def overload(folder: Path) -> dict[str, float]:
    """For `make bench`: what comes out at ten times the pace that can be taken, as a share of the best; its age, and memory."""
    with running(folder) as (broker, client, capacity):
        fitting, _, at_rest = measure(broker, client, capacity, SHORT_S)
        over, age, health = measure(broker, client, LOADS[-1] * capacity, SHORT_S)
    return {
        "best_share": over / max(fitting, over, capacity),
        "age_share": age / DEADLINE_MS,
        "growth_mib": health["memory"]["resident_mib"] - at_rest["memory"]["resident_mib"],
        "mib": health["memory"]["resident_mib"],
        "per_s": over,
    }


def main() -> None:
    if sys.argv[1:2] == ["send"]:
        send(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
        return
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as (broker, client, capacity):
        print(f"capacity {capacity:.0f} results/s")
        print("load  results/s  of the best  run p50 ms  age p99 ms  resident MiB  loop lag p99 / max ms  dropped so far")
        rounds = [{load: measure(broker, client, load * capacity) for load in LOADS} for _ in range(ROUNDS)]
        rates = {load: statistics.median(r[load][0] for r in rounds) for load in LOADS}
        for load in LOADS:
            found = [r[load] for r in rounds]
            age = statistics.median(one[1] for one in found)
            run_ms = statistics.median(one[2]["models"]["slow"]["time"]["p50_ms"] for one in found)
            resident = max(one[2]["memory"]["resident_mib"] for one in found)
            lag = [max(one[2]["loop_lag"][key] for one in found) for key in ("p99_ms", "max_ms")]
            best = rates[load] / max(rates.values())
            print(
                f"{load:4.1f}  {rates[load]:9.0f}  {best:11.2f}  {run_ms:10.2f}  {age:10.0f}  {resident:12.1f}"
                f"  {lag[0]:8.0f} / {lag[1]:8.0f}     {found[-1][2]['pipelines']['p']['dropped']}"
            )


if __name__ == "__main__":
    main()
