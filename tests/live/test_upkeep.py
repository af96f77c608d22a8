"""Pauses and alarms that latch: over commands and messages, reloads, stops and crashes."""

from __future__ import annotations

from pathlib import Path

from tests.live.test_restart import HEAD
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said, until
from tests.support.models import identity

ALARMS = """
[model.same]
path = "same.onnx"
[source.pump]
type = "mqtt"
topic = "in/{pump}"
decode = { format = "json", fields = ["v"] }
[pipeline.alarm]
source = "pump"
model = "same"
output = { type = "anomaly", above = 10, latch = "ack/{device}" }
publish = { topic = "out/{pump}" }
[pipeline.mean]
source = "pump"
window = { size = 2, hop = 1 }
publish = { topic = "out/mean/{pump}" }
"""


def ask(daemon: Daemon, *words: str) -> tuple[int, str]:
    code, out, errors = said(edged(*words, "-c", str(daemon.config)))
    return code, out + errors


def test_an_alarm_stays_until_it_is_acknowledged(broker: Broker, tmp_path: Path) -> None:
    identity(tmp_path / "same.onnx", 1, width=1)
    with Client(broker.port) as client:
        count = dict.fromkeys("abc", 0)

        def anomaly(pump: str, value: float) -> bool:
            count[pump] += 1
            client.publish(f"in/{pump}", f'{{"v": {value}}}')
            return bool(client.wait(f"out/{pump}", count[pump])[-1].json["anomaly"])

        daemon = Daemon(tmp_path, HEAD.format(port=broker.port) + ALARMS)
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        assert [anomaly(pump, value) for pump, value in (("a", 11), ("a", 1), ("b", 1), ("c", 12))] == [True, True, False, True]
        client.health(lambda h: h["pipelines"]["alarm"]["latched"] == 2)
        assert "alarms to be acknowledged (edged ack): a, c" in ask(daemon, "status")[1]
        assert ask(daemon, "ack", "mean") == (
            78,
            'expected a pipeline whose output has latch, found "mean"; there are: alarm\n',
        )
        assert ask(daemon, "ack", "alarm", "--key", "b") == (78, 'no alarm of "b" in pipeline alarm waits to be acknowledged\n')
        until(lambda: (tmp_path / "state" / "upkeep").exists(), what="the alarms on disk")
        daemon.kill()
        daemon.start()
        assert anomaly("c", 1)  # a crash did not end it
        assert ask(daemon, "ack", "alarm", "--key", "c") == (0, "acknowledged: c\n")
        assert not anomaly("c", 1)
        daemon.config.write_text(daemon.config.read_text().replace("above = 10", "above = 9"))
        assert ask(daemon, "reload", "--wait")[0] == 0
        assert anomaly("a", 1)  # nor did another threshold
        client.publish("ack/t", "x")
        daemon.wait_log("not_acknowledged")
        client.publish("ack/t", "a")
        client.health(lambda h: h["pipelines"]["alarm"]["latched"] == 0)
        assert not anomaly("a", 1)
        assert anomaly("b", 10)
        assert daemon.stop() == 0
        daemon.start()
        assert anomaly("b", 1)
        client.publish("ack/t", "")
        client.health(lambda h: h["pipelines"]["alarm"]["latched"] == 0)
        assert daemon.stop() == 0
        daemon.assert_no_bug()


def test_a_pipeline_that_is_paused_takes_nothing_and_says_so(broker: Broker, tmp_path: Path) -> None:
    identity(tmp_path / "same.onnx", 1, width=1)
    with Client(broker.port) as client:

        def feed(*values: int) -> None:
            for value in values:
                client.publish("in/a", f'{{"v": {value}}}')

        daemon = Daemon(tmp_path, HEAD.format(port=broker.port) + ALARMS)
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        feed(1, 2)
        client.wait("out/mean/a")
        assert ask(daemon, "pause", "means") == (78, 'expected a pipeline, found "means"; did you mean "mean"?\n')
        assert ask(daemon, "resume", "mean") == (78, "pipeline mean is not paused\n")
        assert ask(daemon, "pause", "mean", "--for", "1h") == (0, "mean is paused for 1h\n")
        feed(3, 4)
        health = client.health(lambda h: h["pipelines"]["mean"].get("left_out") == 2)
        assert (health["pipelines"]["mean"]["state"], health["state"]) == ("paused", "healthy")
        assert health["pipelines"]["mean"]["reason"].startswith("until 20")
        daemon.config.write_text(daemon.config.read_text().replace("size = 2", "size = 3"))
        assert ask(daemon, "reload", "--wait")[0] == 0
        feed(5)
        client.health(lambda h: h["pipelines"]["mean"].get("left_out", 0) >= 3)
        daemon.kill()
        daemon.start()
        client.health(lambda h: h["pipelines"]["mean"]["state"] == "paused" and h["uptime_s"] < 10)
        feed(6)
        client.health(lambda h: h["pipelines"]["mean"].get("left_out") == 1)
        assert ask(daemon, "resume", "mean") == (0, "mean goes on\n")
        feed(7, 8, 9)
        assert client.wait("out/mean/a", 2)[-1].json["outputs"]["v"] == [7, 8, 9]  # no window spans the pause
        assert ask(daemon, "pause", "mean", "--for", "100ms")[0] == 0
        daemon.wait_log("its time is over")
        assert daemon.stop() == 0
        daemon.assert_no_bug()
