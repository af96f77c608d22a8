"""`kill -9` at any moment: an oracle outside knows what is owed, and nothing of it is lost."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced
from tests.support.oracle import SOURCE, Witness, numbers
from tests.support.pause import pause
from tests.support.scale import scale

RECEIVE_MAXIMUM = 64
HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""


def config(broker: Broker, zoo: Path) -> str:
    return HEAD.format(port=broker.port) + SOURCE.replace("ZOO", str(zoo))


def test_killed_again_and_again_it_loses_nothing(tmp_path: Path, zoo: Path) -> None:
    """A fifth of the kills come within half a second of a start: before it is ready, while it connects, at its first input."""
    rng = random.Random(7)
    kills = scale("kills")
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port, "edged/#") as client:
        daemon = Daemon(tmp_path, config(broker, zoo))
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")  # from here on the broker keeps its session
        with Witness(broker.port, 200.0) as witness:
            for kill in range(kills):
                is_early = kill % 5 == 4
                pause(rng.uniform(0.0, 0.5) if is_early else rng.uniform(0.3, 3.0), "the kill comes at any moment")
                daemon.kill()
                daemon.spawn()
            killed = time.monotonic()
            client.health(lambda h: h["sources"]["in"]["rows"] > 0)
            fresh_s = time.monotonic() - killed
            report = witness.report()
        assert balanced(client.health(lambda h: h["brokers"]["main"]["unacked"] == 0))
        assert daemon.stop() == 0
        daemon.assert_no_bug()
    print(f"{kills} kills, {report}, fresh input served {fresh_s:.1f} s after the last")
    assert report.sent > kills * 50
    assert report.lost == 0
    assert report.wrong == 0
    assert report.duplicates <= kills * RECEIVE_MAXIMUM
    assert report.most <= 3
    assert fresh_s < 5


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_waited_at_the_broker_is_answered(is_killed: bool, tmp_path: Path, zoo: Path) -> None:
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        daemon = Daemon(tmp_path, config(broker, zoo))
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        if is_killed:
            daemon.kill()
        else:
            assert daemon.stop() == 0
        client.publish_all("in/x", [line(number) for number in range(500)])
        with daemon:
            client.wait("out/p", 500)
            assert balanced(client.health(lambda h: h["brokers"]["main"]["unacked"] == 0))
        assert ids(client) == list(range(500))


def test_publishers_at_qos_2_wedge_nothing(tmp_path: Path, zoo: Path) -> None:
    """Their messages are received at QoS 1: a session that is cut in the midst of them goes on."""
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        daemon = Daemon(tmp_path, config(broker, zoo))
        for round_ in range(4):
            daemon.start()
            client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
            for number in range(100 * round_, 100 * round_ + 100):
                client.publish("in/x", line(number), qos=2)
            daemon.kill()
        with daemon:
            for number in range(400, 500):
                client.publish("in/x", line(number), qos=2)
            client.until(lambda: set(ids(client)) == set(range(500)) or None)
            assert balanced(client.health(lambda h: h["brokers"]["main"]["unacked"] == 0))


def test_an_acknowledgement_is_for_its_own_connection_only(tmp_path: Path, zoo: Path) -> None:
    """The broker forgets its session while results are being made; new inputs get the packet ids of the old ones. A late
    acknowledgement of those would lose them when the daemon dies."""
    slow = SOURCE.replace("ZOO/same", f"{zoo}/slow").replace('fields = ["id", "digest", "rest"]', 'fields = ["id"]')
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        daemon = Daemon(tmp_path, HEAD.format(port=broker.port) + slow)
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/x", [str(number) for number in range(60)])
        broker.kill()
        broker.start()
        client.wait_subscribed()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and h["brokers"]["main"]["connects"] > 1)
        client.publish_all("in/x", [str(number) for number in range(1000, 1060)])
        daemon.kill()
        with daemon:
            client.until(lambda: set(range(1000, 1060)) <= set(ids(client)) or None)


def line(number: int) -> str:
    return ",".join(map(str, numbers(number)))


def ids(client: Client) -> list[int]:
    return [int(m.json["outputs"]["y"][0]) for m in client.of("out/p")]
