"""Headless Chromium, led over WebDriver (https://www.w3.org/TR/webdriver2/): it waits for nothing that a page keeps open."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.support.broker import free_port
from tests.support.daemon import until


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install {package}")
    return found


class Browser:
    """One window of it."""

    def __init__(self) -> None:
        self._port = free_port()
        self._driver = subprocess.Popen(
            [tool("chromedriver", "chromium-driver"), f"--port={self._port}"], stdout=subprocess.DEVNULL
        )

    def __enter__(self) -> Browser:
        until(lambda: self._is_ready(), what="chromedriver listens")
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1000", "--hide-scrollbars"]
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

    @property
    def picture(self) -> bytes:
        """What the window shows, as a PNG."""
        return base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot"))

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
