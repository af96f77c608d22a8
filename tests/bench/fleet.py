"""A thousand light clients speak the fleet's protocol against one mosquitto: a roll-out to all, and what it costs the broker.

    .venv/bin/python -m tests.bench.fleet [CLIENTS]

Each client judges the announcement with the device's own code (signature, counter, who takes it) and reports `fetching`, `trying`
and `running`, retained; fetching itself is the web server's affair. Sockets are multiplexed in one process.
"""

from __future__ import annotations

import resource
import selectors
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edged.fleet.announcement import Announcement, Known, is_for, read
from edged.fleet.rollout import Group
from edged.fleet.signatures import make_key, public_keys, sign
from tests.support.broker import Broker

TOPIC = "fleet/all"
STATES = ("fetching", "trying", "running")


class Light:
    """One device, without models."""

    def __init__(self, name: str, port: int, keys: list[Any], select: selectors.BaseSelector) -> None:
        self.name, self.known, self._keys = name, Known(), keys
        self.refused = 0
        self.is_ready = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda c, *_: c.subscribe(f"{TOPIC}/model/+", 1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        select.register(self._client.socket(), selectors.EVENT_READ, self)  # type: ignore[arg-type]

    def _on_subscribe(self, *_: Any) -> None:
        self.is_ready = True
        self._report("local", "none")

    def serve(self) -> None:
        self._client.loop_read()
        while self._client.want_write():
            self._client.loop_write()

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            one, digest = read(bytes(message.payload), self._keys, TOPIC, "normal", ("https://models/",), self.known, time.time())
        except ValueError:
            self.refused += 1
            return
        self.known = Known(one.counter, digest)
        if is_for(one, self.name, {}):
            for state in STATES:
                self._report(one.version, state)
        else:
            self._report("local", "not_for_us")

    def _report(self, version: str, state: str) -> None:
        entry = {"wanted": version, "running": version, "state": state, "counter": max(0, self.known.counter)}
        said = {"device": self.name, "time": "", "version": "0.1.0", "tags": {}, "models": {"normal": entry}}
        self._client.publish(f"{TOPIC}/report/{self.name}", msgspec.json.encode(said), 1, retain=True)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count * 2 + 100)), hard))
    private, public = make_key()
    keys, select = public_keys(public), selectors.DefaultSelector()
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder), "log_type error", "max_queued_messages 0") as broker:
        assert broker.process is not None
        began = time.monotonic()
        devices = [Light(f"d{n}", broker.port, keys, select) for n in range(count)]
        group = Group(TOPIC)
        laptop = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)

        def take(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
            group.take(message.topic, bytes(message.payload))

        laptop.on_message = take
        laptop.connect("127.0.0.1", broker.port)
        laptop.subscribe(f"{TOPIC}/#", 1)
        laptop.loop_start()

        def serve_until(done: Any, what: str) -> None:
            deadline = time.monotonic() + 120
            while not done():
                assert time.monotonic() < deadline, what
                for key, _ in select.select(0.05):
                    key.data.serve()

        serve_until(lambda: all(d.is_ready for d in devices) and len(group.reports) == count, "every device to report")
        print(f"{count} devices connected and reported in {time.monotonic() - began:.1f} s")
        for version, percent in ((1, 10.0), (2, 100.0)):
            one = Announcement(
                TOPIC, "normal", "4", version, int(time.time()), int(time.time()) + 999, "0" * 64, 9, "https://models/x"
            )
            one = msgspec.structs.replace(one, percent=percent)
            text = msgspec.json.encode(one).decode()
            began, cpu = time.monotonic(), cpu_s(broker.process.pid)
            laptop.publish(
                f"{TOPIC}/model/normal", msgspec.json.encode({"signed": text, "signature": sign(private, text)}), 1, retain=True
            )
            serve_until(lambda one=one: not group.progress(one).waiting, "every report")
            took, spent = time.monotonic() - began, cpu_s(broker.process.pid) - cpu
            progress = group.progress(one)
            print(
                f"{percent:3.0f} %: {len(progress.done)} of {len(progress.meant)} run it after {took:.2f} s; "
                f"the broker took {spent:.2f} s of CPU; bad: {len(progress.bad)}, refused: {sum(d.refused for d in devices)}"
            )
            assert len(progress.done) == len(progress.meant)
        resident = int(Path(f"/proc/{broker.process.pid}/statm").read_text().split()[1]) * 4096
        print(
            f"mosquitto: {resident / 2**20:.1f} MiB resident; a report is {len(msgspec.json.encode(group.reports['d0']))} bytes"
        )
        laptop.loop_stop()
        laptop.disconnect()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
