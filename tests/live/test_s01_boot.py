"""The broker was not up yet when the device booted: it starts, keeps what it makes, and delivers all of it. Story S1."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.scale import scale

TEXT = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
publish = {{ topic = "out/p" }}
"""
RATE = 50.0
READY_S = 5.0
FIRST_S = 2.0


def test_s01_the_broker_comes_later(tmp_path: Path) -> None:
    absent_s = float(scale("absent seconds"))
    broker = Broker(tmp_path, "persistence true", f"persistence_location {tmp_path}/", "max_queued_messages 0")
    with broker, Sensor(tmp_path / "imu") as sensor, Client(broker.port, name="witness", session_s=3600) as client:
        broker.stop()  # it knows what the witness wants to hear, also of those who come back before it
        daemon = Daemon(tmp_path, TEXT.format(port=broker.port, tty=tmp_path / "imu"))
        start = time.monotonic()
        with daemon:
            assert time.monotonic() - start < READY_S
            start, sent = time.monotonic(), 0

            def feed() -> float:
                nonlocal sent
                passed = time.monotonic() - start
                while sent < passed * RATE:
                    sensor.write(f"{sent}\n")
                    sent += 1
                return passed

            until(lambda: feed() > absent_s, absent_s + 20.0)
            until(
                lambda: any(n.startswith("STATUS=broker main: refused") for n in daemon.notices),
                what="the state in the status line",
            )
            broker.start()
            appeared = time.monotonic()
            until(lambda: (feed(), client.of("out/p"))[1], what="the first result")
            first_s = time.monotonic() - appeared
            until(lambda: feed() > absent_s + 2.0)
            client.wait("out/p", sent, absent_s + 20.0)
            health = client.health(lambda h: h["state"] == "healthy" and h["spool"]["state"] == "idle")
        results = [m.json for m in client.of("out/p")]
        numbers = [int(r["outputs"]["v"]) for r in results]
        kept = [number for number, r in zip(numbers, results, strict=True) if r.get("replayed")]
        live = [number for number, r in zip(numbers, results, strict=True) if not r.get("replayed")]
    print(f"absent for {absent_s:.0f} s: {len(kept)} of {sent} results kept, the first {first_s:.2f} s after the broker came")
    assert balanced(health)
    assert first_s < FIRST_S + 1  # to connect anew, on a busy machine
    assert (sorted(numbers), kept, live) == (list(range(sent)), sorted(kept), sorted(live))
    assert len(kept) > absent_s * RATE / 2
