"""The page in headless Chromium, and the metrics under Prometheus's own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker, free_port
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


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install {package}")
    return found


class Browser:
    """Headless Chromium, led over WebDriver (https://www.w3.org/TR/webdriver2/)."""

    def __init__(self) -> None:
        self._port = free_port()
        self._driver = subprocess.Popen(
            [tool("chromedriver", "chromium-driver"), f"--port={self._port}"], stdout=subprocess.DEVNULL
        )

    def __enter__(self) -> Browser:
        until(lambda: self._is_ready(), what="chromedriver listens")
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        options = {"goog:chromeOptions": {"args": arguments}}
        self._session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._ask("DELETE", f"/session/{self._session}")
        self._driver.terminate()
        self._driver.wait(30)

    def open(self, url: str) -> None:
        self._ask("POST", f"/session/{self._session}/url", {"url": url})

    @property
    def page(self) -> str:
        """As it is now, as HTML."""
        return str(self._ask("GET", f"/session/{self._session}/source"))

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.load(connection.getresponse())["value"]
        connection.close()
        return answer


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
