"""Ten thousand lines of log that nobody reads: results go on, memory stays, and the count is told."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
preprocess = "steps.py:storm"
publish = {{ topic = "out/p" }}
"""
STEP = """
import structlog

def storm(row):
    for number in range(100):
        structlog.get_logger("edged").error("storm", number=number)
    return row
"""


def test_a_log_that_nobody_reads(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEP)
    with Sensor(tmp_path / "imu") as sensor, Client(broker.port) as client:
        read, write = os.pipe()
        os.set_blocking(read, False)
        with Daemon(tmp_path, CONFIG.format(port=broker.port, tty=tmp_path / "imu"), stderr=write):
            client.health(lambda h: h["sources"]["imu"]["state"] in ("running", "silent"))
            for number in range(100):
                sensor.write(f"{number}\n")
            client.wait("out/p", 100)
            health = client.health(lambda h: h["pipelines"]["p"]["published"] == 100)
            assert balanced(health)
            assert health["memory"]["highest_mib"] <= health["memory"]["planned_mib"]
            text = b""

            def told() -> bool:
                nonlocal text
                with contextlib.suppress(BlockingIOError):
                    text += os.read(read, 1 << 20)
                sensor.write("1\n")
                return b" lines_lost=" in text

            until(told, what="the count of the lines that were lost")
        os.close(read)
        os.close(write)
