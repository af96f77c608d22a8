"""The page in headless Chromium, and the metrics under Prometheus's own tool."""

from __future__ import annotations

import subprocess
from http.client import HTTPConnection
from pathlib import Path

from tests.support.broker import Broker, free_port
from tests.support.browser import Browser, tool
from tests.support.daemon import Client, Daemon, until

TEXT = """
[device]
id = "t"
[http]
listen = "127.0.0.1:{http}"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.pumps]
type = "mqtt"
topic = "pumps/{{pump}}"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.each]
source = "pumps"
"""


def test_the_page_shows_what_comes(tmp_path: Path) -> None:
    http = free_port()
    with (
        Broker(tmp_path) as broker,
        Client(broker.port) as client,
        Daemon(tmp_path, TEXT.format(port=broker.port, http=http)),
        Browser() as browser,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        browser.open(f"http://127.0.0.1:{http}/")
        client.publish("pumps/<b>seven", '{"v": 7.25}')
        for part in ("<td>each", "&lt;b&gt;seven", "v 7.25", "broker main", 'class="good">healthy'):
            until(lambda part=part: part in browser.page, what=part)  # type: ignore[misc]


def test_promtool_finds_nothing_to_say(tmp_path: Path) -> None:
    promtool, http = tool("promtool", "prometheus"), free_port()
    with (
        Broker(tmp_path) as broker,
        Client(broker.port) as client,
        Daemon(tmp_path, TEXT.format(port=broker.port, http=http)),
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish("pumps/a", '{"v": 7.25}')
        client.wait("edged/t/each/a")
        connection = HTTPConnection("127.0.0.1", http, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read()
        connection.close()
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
