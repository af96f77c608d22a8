"""Planned stops: nothing is lost, and windows and numbers go on afterwards."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

from tests.live.conftest import burner
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced
from tests.support.oracle import SOURCE, Witness
from tests.support.pause import pause
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""
WINDOWS = """
[source.pump]
type = "mqtt"
topic = "in/{pump}"
decode = { format = "json", fields = ["v"] }
[pipeline.w]
source = "pump"
window = { size = 4, hop = 2 }
publish = { topic = "out/{pump}" }
"""


def test_windows_go_on_after_a_planned_stop(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        daemon = Daemon(tmp_path, HEAD.format(port=broker.port) + WINDOWS)
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")

        def feed(pump: str, *values: int) -> None:
            for value in values:
                client.publish(f"in/{pump}", json.dumps({"v": value}))

        feed("a", 1, 2, 3, 4, 5)
        feed("b", 10, 11, 12)
        first = client.wait("out/a")[0].json
        client.health(lambda h: h["sources"]["pump"]["rows"] == 8)
        assert daemon.stop() == 0
        feed("a", 6)
        feed("b", 13)
        daemon.start()
        second, of_b = client.wait("out/a", 2)[1].json, client.wait("out/b")[0].json
        assert second["outputs"]["v"] == [3, 4, 5, 6]
        assert of_b["outputs"]["v"] == [10, 11, 12, 13]
        assert {r["run"] for r in (first, second, of_b)} == {first["run"]}
        assert sorted(r["seq"] for r in (first, second, of_b)) == [1, 2, 3]
        daemon.kill()
        daemon.start()
        feed("a", 7, 8, 9, 10)
        crashed = client.wait("out/a", 3)[2].json
        assert (crashed["run"] != first["run"], crashed["seq"]) == (True, 1)
        (tmp_path / "state" / "saved").write_bytes(b"what is this?")
        assert daemon.stop() == 0
        (tmp_path / "state" / "saved").write_bytes(b"what is this?")
        daemon.start()
        daemon.wait_log("file_moved_aside")
        assert daemon.stop() == 0


def test_stopped_again_and_again_under_load_it_loses_nothing(tmp_path: Path, zoo: Path) -> None:
    rng = random.Random(11)
    stops, slowest_s = scale("stops"), 0.0
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port, "edged/#") as client:
        daemon = Daemon(tmp_path, HEAD.format(port=broker.port) + SOURCE.replace("ZOO", str(zoo)))
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        with Witness(broker.port, 200.0) as witness:
            for _ in range(stops):
                client.health(lambda h: h["sources"]["in"]["rows"] > 0)
                pause(rng.uniform(0.0, 0.5), "the stop comes at any moment")
                started = time.monotonic()
                assert daemon.stop() == 0, daemon.log[-4000:]
                slowest_s = max(slowest_s, time.monotonic() - started)
                daemon.start()
            report = witness.report()
        assert balanced(client.health(lambda h: h["brokers"]["main"]["unacked"] == 0))
        assert not [m for m in client.of("edged/t/status") if m.payload == b"offline"]  # the will
        assert daemon.stop() == 0
        daemon.assert_no_bug()
    print(f"{stops} stops, the slowest {slowest_s:.1f} s, {report}")
    assert (report.lost, report.wrong) == (0, 0)
    assert report.duplicates <= stops * 64
    assert slowest_s < 10


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Though what was read is still being run."""
    burner(tmp_path / "slow.onnx", products=500)
    text = WINDOWS.replace("window = { size = 4, hop = 2 }", 'model = "slow"\nslots = 64').replace("in/{pump}", "in/x")
    text = text.replace("out/{pump}", "out/x") + f'[model.slow]\npath = "{tmp_path / "slow.onnx"}"\nbatch = {{ max = 1 }}\n'
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        daemon = Daemon(tmp_path, HEAD.format(port=broker.port) + text)
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/x", ['{"v": 1}'] * 64)
        client.health(lambda h: h["pipelines"]["w"]["waiting"] > 40)
        daemon.signal(signal.SIGTERM)
        daemon.wait_log("event=stopping")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(5) == -signal.SIGTERM
        assert "event=stopped" not in daemon.log
