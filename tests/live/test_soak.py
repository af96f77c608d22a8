"""Long under load, with a broker and a cable that come and go: memory, descriptors and threads stay as they were."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.oracle import SOURCE, Witness
from tests.support.pause import pause
from tests.support.scale import IS_SOAK, scale

TEXT = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
keepalive = "2s"
[source.one]
type = "serial"
port = "{folder}/one"
decode = {{ format = "csv", fields = ["v"] }}
[source.other]
type = "serial"
port = "{folder}/other"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.of_one]
source = "one"
window = {{ size = 64, hop = 16 }}
publish = {{ topic = "results/one" }}
[pipeline.of_other]
source = "other"
publish = {{ topic = "results/other" }}
"""
RATE = 50.0


def test_s04_faults_by_turns_leave_no_trace(tmp_path: Path, zoo: Path) -> None:
    seconds = float(scale("soak seconds"))
    every_s = min(30.0, seconds / 4)  # in the long form a connection serves for a minute, as in life: else edged waits that long
    text = TEXT.replace("{folder}", str(tmp_path)) + SOURCE.replace("ZOO", str(zoo)).replace("{", "{{").replace("}", "}}")
    with (
        Broker(tmp_path, "max_queued_messages 0", "persistence true", f"persistence_location {tmp_path}/") as broker,
        Client(broker.port, "edged/#") as client,
        Sensor(tmp_path / "one") as one,
        Sensor(tmp_path / "other") as other,
        Daemon(tmp_path, text.format(port=broker.port)) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        seen: list[tuple[float, float]] = []  # hours, MiB
        with Witness(broker.port, RATE) as witness:
            start, faults, sent = time.monotonic(), 0, 0
            usual = (0, 0)
            while (passed := time.monotonic() - start) < seconds or faults < 3:
                while sent < passed * RATE:
                    one.write(f"{sent % 1000}\n")
                    other.write(f"{sent % 1000}\n")
                    sent += 1
                if passed > every_s * (faults + 1):
                    _fault(faults, broker, client, other, daemon)
                    faults += 1
                    if 3 <= faults <= 6:  # each kind has been, and in the long form twice: the spool has its file open
                        client.health(is_all_open)
                        usual = max(usual[0], daemon.fds), max(usual[1], len(daemon.threads))
                seen.append((passed / 3600, daemon.resident_kib / 1024))
                pause(start + passed + 0.02 - time.monotonic(), "between two looks")
            report = witness.report()
        health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0 and balanced(h))
        print(f"{seconds:.0f} s, {faults} faults, {report}, {daemon.fds} descriptors after {usual[0]}")
        until(lambda: daemon.fds <= usual[0] and len(daemon.threads) <= usual[1], what=f"{usual} descriptors and threads")
    late = [(at, mib) for at, mib in seen if at > seconds / 3600 / 3]
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope
    tenths = " ".join(f"{mib:.1f}" for _, mib in seen[:: len(seen) // 10])
    print(f"{slope:.2f} MiB an hour, highest {health['memory']['highest_mib']} MiB; by tenths: {tenths}")
    assert (report.lost, report.wrong) == (0, 0)
    assert max(mib for _, mib in late) - min(mib for _, mib in late) < 8
    if IS_SOAK:  # too short a time says nothing about hours
        assert slope <= 1.0


def is_all_open(health: Any) -> bool:
    """Whether the broker and both ports have their descriptors."""
    is_closed = {source["state"] for source in health["sources"].values()} & {"unplugged", "connecting", "missing"}
    return not is_closed and all(broker["state"] == "connected" for broker in health["brokers"].values())


def _fault(number: int, broker: Broker, client: Client, sensor: Sensor, daemon: Daemon) -> None:
    match number % 3:
        case 0:
            sensor.unplug()
            sensor.plug()
        case 1:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            noticed = daemon.log.count("no answer to a ping")
            broker.freeze()
            until(lambda: daemon.log.count("no answer to a ping") > noticed)
            broker.thaw()
        case 2:
            broker.restart()
            client.wait_subscribed()
