"""An acknowledgment that is lost on its way: the broker sends the input again, and no window may have it twice."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until

CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
version = "{version}"
[source.windowed]
type = "mqtt"
topic = "in/ring"
decode = {decode}
[source.single]
type = "mqtt"
topic = "in/each"
decode = {decode}
[pipeline.ring]
source = "windowed"
window = {{ size = 4, gap = "1h" }}
publish = {{ topic = "out/ring" }}
[pipeline.each]
source = "single"
publish = {{ topic = "out/each" }}
"""
DECODE = '{ format = "json", fields = ["v"], time = { field = "t", format = "unix_ms" } }'


class Cable:
    """Between edged and its broker, to be made deaf to what edged says, and to be cut."""

    def __init__(self, port: int) -> None:
        self.said = b""  # by edged while nobody listened
        self.is_deaf = False
        self._to = port
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Cable:
        self._begin(self._listen)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):  # gone already
                end.shutdown(socket.SHUT_RDWR)

    def _begin(self, run: object, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=run, args=arguments, daemon=True))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _listen(self) -> None:
        with suppress(OSError):  # the listener is shut
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                self._begin(self._pass_on, near, far, True)
                self._begin(self._pass_on, far, near, False)

    def _pass_on(self, source: socket.socket, target: socket.socket, is_of_edged: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_of_edged and self.is_deaf:
                    self.said += data
                else:
                    target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def samples(start: int, stop: int, since_ms: int) -> list[str]:
    return [f'{{"t":{since_ms + 100 * number},"v":{number}}}' for number in range(start, stop)]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_an_input_whose_acknowledgment_was_lost_is_in_no_window_twice(version: str, tmp_path: Path) -> None:
    since_ms = int(time.time() * 1000) - 60_000
    with Broker(tmp_path) as broker, Cable(broker.port) as cable, Client(broker.port) as client:
        with Daemon(tmp_path, CONFIG.format(port=cable.port, version=version, decode=DECODE)):
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for topic in ("in/ring", "in/each"):
                client.publish_all(topic, samples(0, 10, since_ms))
            client.wait("out/each", 10)
            client.wait("out/ring", 2)
            client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
            cable.is_deaf = True
            for topic in ("in/ring", "in/each"):
                client.publish_all(topic, samples(10, 16, since_ms))
            until(lambda: cable.said.count(b"\x40\x02") >= 6 and cable.said.count(b"out/each") >= 6, what="lost acknowledgments")
            cable.is_deaf = False
            cable.cut()
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and h["brokers"]["main"]["connects"] == 2)
            client.publish_all("in/ring", samples(16, 20, since_ms))
            client.wait("out/ring", 5)
            client.until(lambda: {m.json["outputs"]["v"] for m in client.of("out/each")} == set(range(16)) or None)
            health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
        windows = [m.json["outputs"]["v"] for m in client.of("out/ring")]
    assert sorted(windows) == [[n, n + 1, n + 2, n + 3] for n in range(0, 20, 4)]
    assert balanced(health)
    assert health["pipelines"]["ring"]["dropped"] == {"duplicate": 6}
    assert health["pipelines"]["each"]["published"] == 16 + 6  # answered again, since their results may have been lost
    assert not {"late", "duplicate"} & set(health["sources"]["single"]["dropped"])
