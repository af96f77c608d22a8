"""Samples that wait to be put in order, in the real daemon: by its own timer, and at its stop."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/{{k}}"
stale_after = "1h"
lateness = "{lateness}"
decode = {{ format = "json", time = {{ field = "t", format = "unix_s" }}, fields = ["v"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/{{k}}", qos = 1 }}
"""
ORDER = (0, 3, 1, 2, 4)


def publish(client: Client) -> None:
    began = int(time.time()) - 100
    for v in ORDER:
        client.publish("in/a", f'{{"t": {began + v}, "v": {v}}}')


def test_they_leave_in_order_after_their_time_and_when_the_daemon_stops(tmp_path: Path) -> None:
    for lateness in ("2s", "30min"):
        with Broker(tmp_path) as broker, Client(broker.port) as client:
            with Daemon(tmp_path, TEXT.format(port=broker.port, lateness=lateness)) as daemon:
                client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
                publish(client)
                client.health(lambda h: h["sources"]["in"]["messages"] == len(ORDER))
                if lateness == "30min":
                    assert daemon.stop() == 0
                client.wait("out/a", len(ORDER))
                if lateness == "2s":
                    assert balanced(client.health(lambda h: h["pipelines"]["p"]["published"] == len(ORDER)))
            assert [one.json["outputs"]["v"] for one in client.of("out/a")] == sorted(ORDER)
