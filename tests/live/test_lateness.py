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
[source.fast]
type = "mqtt"
topic = "fast/{{k}}"
rate = 40
stale_after = "1h"
decode = {{ format = "json", time = {{ field = "t", format = "unix_s" }}, fields = ["w"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/{{k}}", qos = 1 }}
[pipeline.join]
source = ["in", "fast"]
publish = {{ topic = "out/join/{{k}}", qos = 1 }}
[pipeline.window]
source = "in"
window = {{ size = 2, hop = 1 }}
publish = {{ topic = "out/window/{{k}}", qos = 1 }}
"""
ORDER = (0, 3, 1, 2, 4)
FAST = 20
"""Samples a second of the stream that is joined: all have come when the first late row is made."""


def publish(client: Client) -> None:
    began = int(time.time()) - 100
    for i in range(len(ORDER) * FAST):
        client.publish("fast/a", f'{{"t": {began + i / FAST}, "w": {i}}}')
    for v in ORDER:
        client.publish("in/a", f'{{"t": {began + v}, "v": {v}}}')


def test_they_leave_in_order_after_their_time_and_when_the_daemon_stops(tmp_path: Path) -> None:
    for lateness in ("2s", "30min"):
        with Broker(tmp_path) as broker, Client(broker.port) as client:
            folder = tmp_path / lateness
            folder.mkdir()
            with Daemon(folder, TEXT.format(port=broker.port, lateness=lateness)) as daemon:
                client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
                publish(client)
                client.health(lambda h: h["sources"]["in"]["messages"] == len(ORDER))
                if lateness == "30min":
                    assert daemon.stop() == 0
                for topic, count in (("out/a", len(ORDER)), ("out/join/a", len(ORDER)), ("out/window/a", len(ORDER) - 1)):
                    client.wait(topic, count)
                if lateness == "2s":
                    assert balanced(client.health(lambda h: h["pipelines"]["p"]["published"] == len(ORDER)))
            assert [one.json["outputs"]["v"] for one in client.of("out/a")] == sorted(ORDER)
            assert [one.json["outputs"] for one in client.of("out/join/a")] == [{"v": v, "w": v * FAST} for v in sorted(ORDER)]
            assert [one.json["outputs"]["v"] for one in client.of("out/window/a")] == [[0, 1], [1, 2], [2, 3], [3, 4]]
