"""What happens around the broker: it is not there, goes away, comes back, and what is owed to whom meanwhile; without a spool."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import burner
from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.pause import pause
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
broker = "main"
[spool]
mode = "off"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""

SERIAL = """
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
{broker}publish = {{ topic = "out/p", {options} }}
"""


KEEPALIVE_S = 1.0
LATE_S = 1.5  # for a machine with other work to do


def serial(tty: Path, options: str = "qos = 1") -> str:
    return SERIAL.format(tty=tty, options=options, broker="")


def values(client: Client, topic: str = "out/p") -> list[int]:
    return [int(m.json["outputs"]["v"]) for m in client.of(topic)]


def lines(start: int, stop: int) -> str:
    return "".join(f"{i}\n" for i in range(start, stop))


def test_s01_the_broker_is_not_up_yet(tmp_path: Path) -> None:
    port = free_port()
    text = HEAD.format(port=port) + serial(tmp_path / "imu")
    with Sensor(tmp_path / "imu") as sensor, Daemon(tmp_path, text) as daemon:
        assert daemon.notices[0] == "READY=1"
        sensor.write(lines(0, 200))
        until(lambda: any("broker main: refused" in n for n in daemon.notices), what="a status that says why")
        daemon.wait_log("is the broker running?")
        with ExitStack() as late:
            with daemon.paused():
                late.enter_context(Broker(tmp_path, port=port))
                client = late.enter_context(Client(port))
            appeared = time.monotonic()
            client.wait("out/p", 200)
            assert time.monotonic() - appeared < 10
            assert values(client) == list(range(200))  # all of them, in order
            sensor.write(lines(200, 210))
            client.wait("out/p", 210)
            health = client.health(lambda h: h["state"] == "healthy")
            assert balanced(health)
            assert health["brokers"]["main"]["connects"] == 1


@pytest.mark.parametrize("keeps", [True, False])
def test_s02_the_broker_restarts(tmp_path: Path, keeps: bool) -> None:
    options = ["persistence true", f"persistence_location {tmp_path}/", "autosave_interval 1"] if keeps else []
    mqtt = """
[source.in]
type = "mqtt"
topic = "in/x"
decode = { format = "csv", fields = ["v"] }
[pipeline.q]
source = "in"
publish = { topic = "out/q" }
"""
    with Broker(tmp_path, *options) as broker, Sensor(tmp_path / "imu") as sensor:
        text = HEAD.format(port=broker.port) + serial(tmp_path / "imu") + mqtt
        with Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
            fds, rounds = 0, scale("broker restarts")
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for round_ in range(rounds):
                start = 100 * round_
                sensor.write(lines(start, start + 50))
                client.publish("in/x", str(round_))
                client.until(lambda: start + 49 in values(client) or None)
                client.until(lambda: round_ in values(client, "out/q") or None)
                fds, served = fds or daemon.fds, time.monotonic()
                # A broker that goes within seconds, again and again, is tried ever more rarely: here it is one that served.
                pause(served + scale("seconds of service") - time.monotonic(), "the broker serves for so long")
                broker.stop()
                sensor.write(lines(start + 50, start + 100))
                with daemon.paused():
                    broker.start()
                    client.wait_subscribed()
                client.until(lambda: start + 99 in values(client) or None)
            client.publish("in/x", "-1")
            client.until(lambda: -1 in values(client, "out/q") or None)
            assert list(dict.fromkeys(values(client))) == list(range(100 * rounds))  # nothing lost, in order
            assert client.of("edged/t/status")[-1].payload == b"online"
            health = client.health(lambda h: h["brokers"]["main"]["connects"] == rounds + 1)
            assert balanced(health)
            until(lambda: daemon.fds <= fds, what=f"{fds} descriptors again, not {daemon.fds}")


def test_the_broker_hangs(broker: Broker, tmp_path: Path) -> None:
    text = HEAD.format(port=broker.port) + 'keepalive = "1s"\n' + serial(tmp_path / "imu")
    with Sensor(tmp_path / "imu") as sensor, Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
        for start in range(0, 20 * scale("half-open links"), 20):
            sensor.write(lines(start, start + 10))
            client.until(lambda: start + 9 in values(client) or None)
            noticed = daemon.log.count("no answer to a ping")
            broker.freeze()
            sensor.write(lines(start + 10, start + 20))
            until(lambda: daemon.log.count("no answer to a ping") > noticed)
            broker.thaw()
            client.until(lambda: start + 19 in values(client) or None)
        assert list(dict.fromkeys(values(client))) == list(range(start + 20))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_broker_hangs_and_the_disk_takes_over(broker: Broker, tmp_path: Path, version: str) -> None:
    """A half-open link: noticed in time, results go to disk meanwhile, and what was in flight is all that may come twice."""
    head = HEAD.replace('mode = "off"', 'mode = "offline"').format(port=broker.port)
    text = head + f'version = "{version}"\nkeepalive = "1s"\n' + serial(tmp_path / "imu")
    with Sensor(tmp_path / "imu") as sensor, Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
        end, before, resident = 0, 0, 0
        for _ in range(scale("half-open links")):
            sensor.write(lines(end, end + 10))
            client.until(lambda: end + 9 in values(client) or None)
            resident = resident or daemon.resident_kib
            noticed = daemon.log.count("no answer to a ping")
            broker.freeze()
            frozen = time.monotonic()
            sensor.write(lines(end + 10, end + 110))
            until(lambda: daemon.log.count("no answer to a ping") > noticed)
            assert time.monotonic() - frozen <= 2 * KEEPALIVE_S + 1 + LATE_S
            sensor.write(lines(end + 110, end + 200))
            until(lambda: any((tmp_path / "state" / "spool").rglob("*.log")), what="results on disk")
            pause(frozen + scale("seconds half-open") - time.monotonic(), "the link is half-open for so long")
            broker.thaw()
            end += 200
            client.until(lambda: set(range(end)) <= set(values(client)) or None)
            twice = len(values(client)) - end - before
            assert twice <= 64  # the most that is in flight
            before += twice
        health = client.health(lambda h: h["spool"]["state"] == "idle" and h["brokers"]["main"]["state"] == "connected")
        assert balanced(health)
        assert daemon.resident_kib - resident <= 8 * 1024


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_results_that_the_broker_refuses(tmp_path: Path, version: str) -> None:
    """Under MQTT 5 they are no delivered ones, and health says so; 3.1.1 has no word for it, so that nobody can know."""
    (tmp_path / "acl").write_text("topic readwrite edged/#\ntopic read out/#\n")
    head = HEAD + f'version = "{version}"\n'
    with (
        Broker(tmp_path, f"acl_file {tmp_path / 'acl'}") as broker,
        Client(broker.port) as client,
        Sensor(tmp_path / "imu") as sensor,
        Daemon(tmp_path, head.format(port=broker.port) + serial(tmp_path / "imu")) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        sensor.write(lines(0, 20))
        health = client.health(lambda h: h["pipelines"]["p"]["publish"][0]["made"] == 20 and balanced(h))
        health = client.health(lambda h: h["pipelines"]["p"]["publish"][0]["in_flight"] == 0)
        (entry,) = health["pipelines"]["p"]["publish"]
        if version == "5":
            assert (entry["acked"], entry["dropped"]) == (0, {"refused": 20})
            assert (health["state"], health["pipelines"]["p"]["state"]) == ("degraded", "refused")
            assert "not authorised" in health["pipelines"]["p"]["reason"]
            assert "reason=refused" in daemon.log
        else:
            assert (entry["acked"], entry["dropped"]) == (20, {})
        assert values(client) == []


def test_status_and_will(broker: Broker, tmp_path: Path) -> None:
    text = HEAD.format(port=broker.port) + serial(tmp_path / "imu")

    def status(client: Client) -> bytes | None:
        seen = client.of("edged/t/status")
        return seen[-1].payload if seen else None

    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        client.until(lambda: status(client) == b"online")
        daemon.kill()
        client.until(lambda: status(client) == b"offline")
        daemon.start()
        client.until(lambda: status(client) == b"online")
        assert daemon.stop() == 0
        client.until(lambda: status(client) == b"stopped")
    with Client(broker.port, "edged/#") as late:
        kept = {m.topic: m for m in [*late.wait("edged/t/status"), *late.wait("edged/t/health")]}
        assert all(m.is_retained for m in kept.values())
        assert kept["edged/t/status"].payload == b"stopped"


INPUTS = """
[source.in]
type = "mqtt"
broker = "main"
topic = "in/x"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/p", broker = "{output}" }}
"""


def test_an_input_is_acknowledged_after_its_result(broker: Broker, tmp_path: Path) -> None:
    """Results cannot leave, the daemon is killed, and every input comes again."""
    other = Broker(tmp_path)
    text = (
        HEAD.format(port=broker.port) + f'[broker.other]\nurl = "mqtt://127.0.0.1:{other.port}"\n' + INPUTS.format(output="other")
    )
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        client.health()
        client.publish_all("in/x", [str(i) for i in range(200)])
        health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 64)  # and no more: receive_maximum
        assert health["sources"]["in"]["rows"] == 64
        assert health["pipelines"]["p"]["state"] == "blocked"
        assert "other" in health["pipelines"]["p"]["reason"]
        assert balanced(health)
        daemon.kill()
        with other, Client(other.port) as reader:
            daemon.start()
            reader.wait("out/p", 200)
            assert values(reader) == list(range(200))
            assert client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)["brokers"]["main"]["received"] == 200
            assert daemon.stop() == 0
        daemon.assert_no_bug()


def test_a_result_that_was_not_acknowledged_is_sent_again(broker: Broker, tmp_path: Path) -> None:
    """A stop in good order loses nothing either, and repeats nothing."""
    text = HEAD.format(port=broker.port) + INPUTS.format(output="main")
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text)
        for round_ in range(3):
            daemon.start()
            client.health()  # subscribed
            client.publish_all("in/x", [str(i) for i in range(100 * round_, 100 * round_ + 100)])
            assert daemon.stop() == 0  # in the midst of it
        daemon.start()
        client.wait("out/p", 300)
        client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
        assert daemon.stop() == 0
        assert values(client) == list(range(300))


SLOW = """
[source.in]
type = "mqtt"
topic = "in/x"
{source}
decode = {{ format = "csv", fields = ["v"] }}
[model.slow]
path = "{zoo}/slow.onnx"
[pipeline.p]
source = "in"
model = "slow"
slots = 4
{pipeline}
publish = {{ topic = "out/p" }}
"""


def ran(client: Client) -> list[int]:
    return [int(m.json["outputs"]["y"][0]) for m in client.of("out/p")]


def test_block_withholds_acknowledgements(tmp_path: Path, zoo: Path) -> None:
    count = 150
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        text = HEAD.format(port=broker.port) + SLOW.format(zoo=zoo, source="", pipeline="")
        with Daemon(tmp_path, text) as daemon:
            client.health()
            client.publish_all("in/x", [str(i) for i in range(count)])
            worst: Any = client.health(lambda h: h["pipelines"]["p"]["parked"])
            assert worst["pipelines"]["p"]["state"] == "blocked"
            client.wait("out/p", count)
            assert ran(client) == list(range(count))
            health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
            assert health["pipelines"]["p"]["dropped"] == {}
            assert health["pipelines"]["p"]["peak"] <= 4
            assert balanced(health)
            until(lambda: len(daemon.threads) == 2, what="the worker alone beside the loop, once what was saved is")


def test_drop_oldest_counts(broker: Broker, tmp_path: Path) -> None:
    count = 150
    burner(tmp_path / "slow.onnx", products=200)
    text = HEAD.format(port=broker.port) + SLOW.format(zoo=tmp_path, source="qos = 0", pipeline='overflow = "drop_oldest"')
    with Client(broker.port) as client, Daemon(tmp_path, text):
        client.health()
        for start in range(0, count, 10):  # what came in one read would wait for its turn
            client.publish_all("in/x", [str(i) for i in range(start, start + 10)], qos=1)
        health = client.health(lambda h: h["pipelines"]["p"]["due"] == count and not h["pipelines"]["p"]["waiting"])
        assert balanced(health)
        health = client.health(
            lambda h: h["pipelines"]["p"]["published"] + h["pipelines"]["p"]["dropped"].get("overflow", 0) == count
        )
        assert health["pipelines"]["p"]["dropped"]["overflow"] > count / 2
        client.until(lambda: count - 1 in ran(client) or None)
        assert ran(client) == sorted(ran(client))


def test_what_the_broker_sends_again_is_run_once(tmp_path: Path) -> None:
    """The broker restarts and knows its session; inputs that wait for a slow model come again and are not run twice."""
    count = 60
    burner(tmp_path / "slow.onnx", products=350)  # the queue lasts for much longer than the outage
    with Broker(tmp_path, "persistence true", f"persistence_location {tmp_path}/") as broker, Client(broker.port) as client:
        text = HEAD.format(port=broker.port) + SLOW.format(zoo=tmp_path, source="", pipeline="").replace(
            "slots = 4", "slots = 64"
        )
        with Daemon(tmp_path, text) as daemon:
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            client.publish_all("in/x", [str(i) for i in range(count)])
            client.wait("out/p", 5)
            broker.stop()
            with daemon.paused():
                broker.start()
                client.wait_subscribed()
            client.until(lambda: set(ran(client)) == set(range(count)) or None)
            health = client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
            assert balanced(health)
            superseded = health["pipelines"]["p"]["dropped"]["superseded"]
            twice = len(ran(client)) - count
            assert superseded > 0
            assert superseded + twice <= 64  # the receive maximum
            assert twice < superseded
