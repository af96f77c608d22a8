"""Each key of the configuration changed alone, and back: what it touches, and that it touches nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.daemon.control import ask
from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, balanced

BASE = """
[device]
id = "t"
base_topic = "edged/t"
[memory]
budget = "256MiB"
gpu_budget = "2GiB"
[log]
level = "info"
format = "logfmt"
[spool]
mode = "offline"
max_bytes = "8MiB"
overflow = "drop_oldest"
order = "live_first"
replay_rate = 100
[health]
interval = "100ms"
broker = "main"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[broker.second]
url = "mqtt://127.0.0.1:{port}"
client_id = "edged-second"
version = "5"
keepalive = "30s"
session_expiry = "1h"
receive_maximum = 64
max_packet = "1MiB"
[source.kept]
type = "mqtt"
broker = "main"
topic = "in/kept"
decode = {{ format = "json", fields = ["v"] }}
[source.in]
type = "mqtt"
broker = "main"
topic = "in/x"
qos = 1
retained = false
rate = 10
stale_after = "5s"
frozen_after = "1h"
on_bad = "drop"
max_bytes = "64KiB"
carry = "id"
reply = "clients/a"
decode = {{ format = "json", fields = ["v"] }}
[source.imu]
type = "serial"
port = "{folder}/imu"
baudrate = 115200
decode = {{ format = "csv", fields = ["v"] }}
[source.cam]
type = "mqtt"
broker = "main"
topic = "in/cam"
qos = 0
decode = {{ format = "image", max_pixels = 10000, color = "rgb" }}
[model.cells]
path = "{zoo}/cells.onnx"
[pipeline.boxes]
source = "cam"
model = "cells"
preprocess = {{ step = "resize", size = [64, 64], fit = "crop" }}
output = {{ type = "detect", above = 0.5, iou = 0.5, max = 10, label = "1" }}
publish = {{ broker = "main", topic = "out/cam" }}
[model.m]
path = "{zoo}/score.onnx"
providers = ["cpu"]
threads = 1
run = "auto"
batch = {{ max = 4, delay = "1ms" }}
watch = true
[model.summing]
path = "{zoo}/total.onnx"
state = {{ sum_out = "sum" }}
[pipeline.summing]
source = "kept"
model = "summing"
publish = {{ broker = "main", topic = "out/sum" }}
[pipeline.kept_windows]
source = "kept"
window = {{ size = 4, hop = 4 }}
publish = {{ broker = "main", topic = "out/kept" }}
[pipeline.q]
source = "in"
model = "m"
slots = 16
overflow = "latest_only"
priority = 1
gate = {{ source = "in", of = "v", above = 0, below = 9, hold = "1s" }}
deadline = "10s"
output = {{ type = "raw" }}
publish = {{ broker = "main", topic = "out/q", qos = 1, retain = false, format = "json" }}
"""
# What to write instead, the value that is wrong, and the part that the answer names.
EDITS: dict[str, tuple[str, str, str]] = {
    'id = "t"': ('id = "u"', "id = 3", "device.id"),
    'base_topic = "edged/t"': ('base_topic = "other/t"', 'base_topic = "+"', "device.base_topic"),
    'budget = "256MiB"': ('budget = "200MiB"', 'budget = "1MiB"', "memory.budget"),
    'gpu_budget = "2GiB"': ('gpu_budget = "3GiB"', "gpu_budget = 3", ""),  # without a GPU it bounds nothing
    'providers = ["cpu"]': ('providers = ["cuda", "cpu"]', 'providers = ["gpu"]', "model.m: file or settings"),
    'providers = ["cpu"]\n': (
        'providers = ["cuda", "cpu"]\nprovider_options = { cuda = { use_tf32 = false } }\n',
        'providers = ["cuda"]\nprovider_options = { cuda = { use_tf = false } }\n',
        "model.m: file or settings",
    ),
    'level = "info"': ('level = "warning"', 'level = "loud"', ""),
    'format = "logfmt"': ('format = "json"', 'format = "xml"', ""),
    'mode = "offline"': ('mode = "always"', 'mode = "never"', "spool.mode"),
    'max_bytes = "8MiB"': ('max_bytes = "16MiB"', 'max_bytes = "1B"', "spool"),
    'overflow = "drop_oldest"': ('overflow = "drop_newest"', 'overflow = "block"', "spool"),
    'order = "live_first"': ('order = "strict"', 'order = "random"', "spool"),
    "replay_rate = 100": ("replay_rate = 200", "replay_rate = 0", "spool"),
    'interval = "100ms"': ('interval = "150ms"', 'interval = "1ms"', "health.interval"),
    'broker = "main"\n[broker.main]': (
        'broker = ["main", "second"]\n[broker.main]',
        'broker = "x"\n[broker.main]',
        "health.broker",
    ),
    'client_id = "edged-second"': ('client_id = "edged-other"', 'client_id = ""', "broker.second: connects again"),
    'version = "5"': ('version = "3.1.1"', 'version = "4"', "broker.second: connects again"),
    'keepalive = "30s"': ('keepalive = "20s"', 'keepalive = "x"', "broker.second: connects again"),
    'session_expiry = "1h"': ('session_expiry = "0s"', "session_expiry = 1", "broker.second: connects again"),
    "receive_maximum = 64": ("receive_maximum = 10", "receive_maximum = 0", "broker.second: connects again"),
    'max_packet = "1MiB"': ('max_packet = "2MiB"', 'max_packet = "1B"', "broker.second: connects again"),
    'topic = "in/x"': ('topic = ["in/x", "in/y"]', 'topic = "in/#/x"', "source.in: settings"),
    "qos = 1\nretained": ("qos = 0\nretained", "qos = 2\nretained", "source.in: settings"),
    "retained = false": ("retained = true", "retained = 3", "source.in: settings"),
    "rate = 10\n": ("rate = 20\n", "rate = -1\n", "source.in: settings"),
    'stale_after = "5s"': ('stale_after = "6s"', "stale_after = 6", "source.in: settings"),
    'frozen_after = "1h"': ('frozen_after = "2h"', 'frozen_after = "later"', "source.in: settings"),
    'on_bad = "drop"': ('on_bad = "hold"', 'on_bad = "keep"', "source.in: settings"),
    'max_bytes = "64KiB"': ('max_bytes = "32KiB"', 'max_bytes = "-1B"', "source.in: settings"),
    'reply = "clients/a"': ('reply = ["clients/a", "clients/b"]', 'reply = "$SYS/a"', "source.in: settings"),
    'carry = "id"': ('carry = ["id", "n"]', 'carry = ["id", "id"]', "source.in: settings"),
    "max_pixels = 10000": ("max_pixels = 20000", "max_pixels = 0", "source.cam: settings"),
    'color = "rgb"': ('color = "bgr"', 'color = "yuv"', "source.cam: settings"),
    'fit = "crop"': ('fit = "stretch"', 'fit = "squash"', "pipeline.boxes: window, output"),
    "above = 0.5": ("above = 0.6", "above = 2", "pipeline.boxes: output"),
    "iou = 0.5": ("iou = 0.6", "iou = 2", "pipeline.boxes: output"),
    "max = 10": ("max = 20", "max = 0", "pipeline.boxes: output"),
    'label = "1"': ('label = "2"', 'label = "x"', "pipeline.boxes: output"),
    "baudrate = 115200": ("baudrate = 9600", "baudrate = 1", "source.imu: settings"),
    "threads = 1": ("threads = 2", "threads = 0", "model.m: file or settings"),
    'run = "auto"': ('run = "worker"', 'run = "slow"', "model.m: file or settings"),
    "max = 4": ("max = 2", "max = 0", "model.m: file or settings"),
    'delay = "1ms"': ('delay = "2ms"', 'delay = "1min"', "model.m: delay"),
    "priority = 1": ("priority = -1", "priority = 1.5", "pipeline.q: priority"),
    'source = "in", of': ('source = "kept", of', 'source = "nobody", of', "pipeline.q: gate"),
    "above = 0, ": ("above = 1, ", "above = 9, ", "pipeline.q: gate"),
    "below = 9": ("below = 8", 'below = "9"', "pipeline.q: gate"),
    'hold = "1s"': ('hold = "2s"', 'hold = "-1s"', "pipeline.q: gate"),
    'state = { sum_out = "sum" }': (
        'state = { y = "sum" }',
        'state = { sum_out = "total" }',
        "model.summing: file or settings",
    ),
    "watch = true": ("watch = false", "watch = 1", ""),
    "size = 4, hop = 4": ("size = 5, hop = 4", "size = 0, hop = 4", "pipeline.kept_windows: window"),
    "slots = 16": ("slots = 32", "slots = 0", "pipeline.q: rows"),
    'overflow = "latest_only"': ('overflow = "block"', 'overflow = "drop"', "pipeline.q: rows"),
    'deadline = "10s"': ('deadline = "9s"', "deadline = 9", "pipeline.q: deadline"),
    'type = "raw"': ('type = "regress"', 'type = "guess"', "pipeline.q: output"),
    'topic = "out/q"': ('topic = "out/other"', 'topic = "out/+"', "pipeline.q: publish[0]"),
    "qos = 1, retain": ("qos = 0, retain", "qos = 3, retain", "pipeline.q: publish[0]"),
    "retain = false": ("retain = true", 'retain = "no"', "pipeline.q: publish[0]"),
    'format = "json" }\n': ('format = "msgpack" }\n', 'format = "yaml" }\n', "pipeline.q: publish[0]"),
}


class Stage:
    def __init__(self, daemon: Daemon, client: Client) -> None:
        self.daemon = daemon
        self.client = client
        self.text = daemon.config.read_text()

    def apply(self, before: str, after: str) -> dict[str, Any]:
        """The answer of a reload; on a busy machine the watch of the file may be first, and its event says what it touched."""
        at, seen = self.text.rindex(before), len(self.client.of("edged/t/event"))
        self.daemon.config.write_text(self.text[:at] + after + self.text[at + len(before) :])
        answer = ask(self.daemon.config, {"command": "reload", "wait": True})
        if answer["ok"] and not answer["changed"] and not answer["at_start"]:
            for event in (message.json for message in self.client.of("edged/t/event")[seen:]):
                if event["event"] == "reload" and event["ok"]:
                    answer["changed"] = event.get("changed", [])
        return answer


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("keys")
    with Broker(folder) as broker, Client(broker.port) as client:
        text = BASE.format(port=broker.port, zoo=zoo, folder=folder)
        with Daemon(folder, text) as daemon:
            client.health(lambda h: all(b["state"] == "connected" for b in h["brokers"].values()))
            yield Stage(daemon, client)
            assert balanced(client.health())


@pytest.mark.parametrize("before", EDITS)
def test_a_key_alone(stage: Stage, before: str) -> None:
    after, wrong, part = EDITS[before]
    client = stage.client
    first = client.health(lambda h: all(b["state"] == "connected" for b in h["brokers"].values()))
    refused = stage.apply(before, wrong)
    assert not refused["ok"]
    assert all(line.startswith(f"{stage.daemon.config}:") for line in refused["errors"])
    for text in (after, before):
        answer = stage.apply(before, text)
        assert answer["ok"], answer
        touched = [*answer["changed"], *answer["at_start"]]
        if part and (part.startswith(("device.", "spool.mode")) and text == before):
            assert touched == []  # it never was applied
        elif part:
            assert part in touched
        else:
            assert touched == []
        assert not answer["added"]
        assert not answer["removed"]
        assert ("pipeline.kept_windows" in answer["kept"]) is ("size = 4" not in before)
    last = client.health(lambda h: all(b["state"] == "connected" for b in h["brokers"].values()))
    assert last["brokers"]["main"]["connects"] == first["brokers"]["main"]["connects"]
    reconnects = last["brokers"]["second"]["connects"] - first["brokers"]["second"]["connects"]
    assert (reconnects > 0) is ("connects again" in part)


def test_an_address_that_nobody_answers_at(stage: Stage) -> None:
    port = stage.text.split("mqtt://127.0.0.1:")[1][:5].strip('"\n')
    second = f'mqtt://127.0.0.1:{port}"\nclient_id'
    assert stage.apply(second, f'mqtt://127.0.0.1:{free_port()}"\nclient_id')["changed"] == ["broker.second: connects again"]
    stage.client.health(lambda h: h["brokers"]["second"]["state"] == "refused")
    stage.client.publish("in/kept", '{"v": 1}')
    assert stage.apply(second, second)["ok"]
    stage.client.health(lambda h: h["brokers"]["second"]["state"] == "connected")


def test_the_spool_has_its_new_bound_at_once(stage: Stage) -> None:
    for mib in (16, 8):
        stage.apply('max_bytes = "8MiB"', f'max_bytes = "{mib}MiB"')
        stage.client.health(lambda h: h["spool"]["max_bytes"] == mib << 20)
