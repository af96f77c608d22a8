"""A process of its own that knows what is owed: it sends numbered inputs, hears the results, and says at the end what is missing.

    python -m tests.support.oracle PORT RATE    # until its standard input is closed; then it waits for what is owed, and reports

Inputs go to `in/x` at QoS 1 as `id,digest,rest`, results come on `out/p` with the three numbers as output `y`. Both sessions
are kept by the broker, so the oracle itself misses nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.pause import pause

PATIENCE_S = 60.0
SOURCE = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = { format = "csv", fields = ["id", "digest", "rest"] }
[model.same]
path = "ZOO/same.onnx"
[pipeline.p]
source = "in"
model = "same"
publish = { topic = "out/p" }
"""


class Report(NamedTuple):
    sent: int
    lost: int  # inputs without a result
    wrong: int  # results whose numbers do not belong together
    duplicates: int
    most: int  # results for one input
    slowest_s: float  # from an input to its first result


def numbers(number: int) -> tuple[int, int, int]:
    """What belongs to an id; float32 holds all three exactly."""
    return number, number * 40503 % 65521, number % 251


class Oracle:
    """What is sent and heard, in the process of the oracle."""

    def __init__(self, port: int, rate: float) -> None:
        self.rate = rate
        self.sent_at: list[float] = []
        self.heard: Counter[int] = Counter()
        self.wrong = 0
        self.slowest_s = 0.0
        self.is_over = threading.Event()
        self._mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="oracle", protocol=MQTTProtocolVersion.MQTTv5)
        self._mqtt.max_queued_messages_set(0)
        self._mqtt.max_inflight_messages_set(500)
        self._mqtt.on_message = self._on_message
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = 3600
        self._mqtt.connect("127.0.0.1", port, clean_start=False, properties=kept)
        self._mqtt.loop_start()
        self._mqtt.subscribe("out/p", 1)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        found = tuple(json.loads(message.payload)["outputs"]["y"])
        number = int(found[0])
        if found != numbers(number) or not number < len(self.sent_at):
            self.wrong += 1
            return
        if number not in self.heard:
            self.slowest_s = max(self.slowest_s, time.monotonic() - self.sent_at[number])
        self.heard[number] += 1

    def run(self) -> Report:
        start = time.monotonic()
        while not self.is_over.wait(0.01):
            while len(self.sent_at) < (time.monotonic() - start) * self.rate:
                number = len(self.sent_at)
                self.sent_at.append(time.monotonic())
                self._mqtt.publish("in/x", ",".join(map(str, numbers(number))), 1)
        deadline = time.monotonic() + PATIENCE_S
        while len(self.heard) < len(self.sent_at) and time.monotonic() < deadline:
            pause(0.05, "between two looks")
        pause(0.5, "a late duplicate would come by now")
        sent = len(self.sent_at)
        duplicates = self.heard.total() - len(self.heard)
        most = max(self.heard.values(), default=0)
        return Report(sent, sent - len(self.heard), self.wrong, duplicates, most, round(self.slowest_s, 3))


class Witness:
    """The oracle as a process: `with Witness(port, rate) as witness: ...; report = witness.report()`."""

    def __init__(self, port: int, rate: float) -> None:
        self._arguments = [sys.executable, "-m", "tests.support.oracle", str(port), str(rate)]
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Witness:
        self._process = subprocess.Popen(self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def report(self) -> Report:
        out, _ = self._process.communicate(timeout=2 * PATIENCE_S)
        return Report(*json.loads(out))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    oracle = Oracle(int(sys.argv[1]), float(sys.argv[2]))

    def end_with_the_input() -> None:
        sys.stdin.read()
        oracle.is_over.set()

    threading.Thread(target=end_with_the_input, daemon=True).start()
    print(json.dumps(oracle.run()))


if __name__ == "__main__":
    main()
