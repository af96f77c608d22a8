"""What `min_interval` holds back: a change outlives a crash and a stop, and is what it would have been without one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Seen, balanced

ONE = """
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
{more}
[source.in]
type = "mqtt"
topic = "in/{{pump}}"
decode = {{ format = "json", fields = ["level"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/{{pump}}", retain = true, qos = {qos}, when = {{ change = true, of = "outputs.level", \
min_interval = "{interval}" }} }}
"""
LONG, SHORT, SHORT_S = "1h", "3s", 3.0


def config(broker: Broker, interval: str, qos: int = 1, more: str = "") -> str:
    return ONE.format(port=broker.port, interval=interval, qos=qos, more=more)


def level(message: Seen) -> int:
    return int(message.json["outputs"]["level"])


def say(client: Client, pump: str, *levels: int) -> None:
    for value in levels:
        client.publish(f"in/{pump}", json.dumps({"level": value}))


def is_on_disk(count: int) -> Any:
    """Whether so many results are held back on disk, and the inputs of all are acknowledged."""

    def look(health: Any) -> bool:
        held = health["spool"]["held"].get("main", {"waiting": 0})
        return balanced(health) and held["waiting"] == count and health["brokers"]["main"]["unacked"] == 0

    return look


def connected(client: Client) -> None:
    client.health(lambda h: h["brokers"]["main"]["state"] == "connected")


def retained(broker: Broker, topic: str) -> list[int]:
    """What a client finds there that comes now."""
    with Client(broker.port, topic, "end") as late:
        late.publish("end", "")
        late.wait("end")
        return [level(m) for m in late.of(topic) if m.is_retained]


def test_a_kill_loses_no_change_that_was_held_back(broker: Broker, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config(broker, SHORT))
    with Client(broker.port) as client:
        daemon.start()
        connected(client)
        say(client, "a", 1)
        client.wait("out/a", 1)
        began = time.monotonic()
        say(client, "a", 2, 3)  # 3 supersedes 2
        client.health(is_on_disk(1))
        daemon.kill()
        assert [level(m) for m in client.of("out/a")] == [1]
        assert retained(broker, "out/a") == [1]
        with daemon:
            first, second = client.wait("out/a", 2)
            assert time.monotonic() - began > SHORT_S - 0.5  # not before its time
            assert (level(first), level(second)) == (1, 3)
            assert "replayed" not in second.json
            assert second.json["age_ms"] > 1000
            assert second.json["seq"] == 3
            assert retained(broker, "out/a") == [3]
            health = client.health(lambda h: is_on_disk(0)(h) and h["spool"]["state"] == "idle")
            assert health["spool"]["held"]["main"] == {"stored": 1, "sent": 1, "superseded": 0, "waiting": 0, "dropped": {}}
        # It is done with: another start sends nothing.
        with daemon:
            connected(client)
            say(client, "b", 7)
            client.wait("out/b", 1)
            assert [level(m) for m in client.of("out/a")] == [1, 3]


def test_after_a_kill_a_newer_result_supersedes_what_was_held_back(broker: Broker, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config(broker, LONG))
    with Client(broker.port) as client:
        daemon.start()
        connected(client)
        for pump in "ab":
            say(client, pump, 1, 2, 3)
        client.health(is_on_disk(2))
        daemon.kill()
        with daemon:
            client.health(is_on_disk(2))
            say(client, "a", 4)  # the first of this run: it goes at once
            client.wait("out/a", 2)
            say(client, "a", 5)  # and this one is held back
            client.health(is_on_disk(2))
        # The stop sends what this run holds back, and what the run before left.
        assert [level(m) for m in client.wait("out/a", 3)] == [1, 4, 5]
        assert [level(m) for m in client.wait("out/b", 2)] == [1, 3]
        assert (retained(broker, "out/a"), retained(broker, "out/b")) == ([5], [3])


def test_many_kills_lose_no_change(broker: Broker, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config(broker, LONG))
    with Client(broker.port) as client:
        for life in range(4):
            daemon.start()
            connected(client)
            say(client, f"p{life}", 1, 10 + life)
            client.health(is_on_disk(life + 1))
            daemon.kill()
        with daemon:
            client.health(is_on_disk(4))
        for life in range(4):
            assert [level(m) for m in client.wait(f"out/p{life}", 2)] == [1, 10 + life]


@pytest.mark.parametrize(("qos", "more"), [(1, ""), (0, ""), (1, '[spool]\nmode = "off"')], ids=["qos 1", "qos 0", "no spool"])
def test_a_planned_stop_sends_what_is_held_back(broker: Broker, tmp_path: Path, qos: int, more: str) -> None:
    with Client(broker.port) as client:
        with Daemon(tmp_path, config(broker, LONG, qos, more)):
            connected(client)
            say(client, "a", 1, 2, 3)
            say(client, "b", 4, 5, 4)  # changed back: there is nothing to tell
            client.health(lambda h: h["sources"]["in"]["rows"] == 6 and h["brokers"]["main"]["unacked"] == 0)
            assert [level(m) for m in client.of("out/a")] == [1]
        assert [level(m) for m in client.wait("out/a", 2)] == [1, 3]
        assert [level(m) for m in client.of("out/b")] == [4]
        assert retained(broker, "out/a") == [3]
        with Daemon(tmp_path, config(broker, LONG, qos, more)):
            connected(client)
        assert [level(m) for m in client.of("out/a")] == [1, 3]


def test_a_reload_that_ends_the_entry_sends_what_it_held_back(broker: Broker, tmp_path: Path) -> None:
    with Client(broker.port) as client, Daemon(tmp_path, config(broker, LONG)) as daemon:
        connected(client)
        say(client, "a", 1, 2)
        client.health(is_on_disk(1))
        daemon.config.write_text(config(broker, LONG).replace("out/{pump}", "other/{pump}"))
        assert [level(m) for m in client.wait("out/a", 2)] == [1, 2]
        client.health(is_on_disk(0))


def test_at_a_stop_while_the_broker_is_away_it_is_kept_like_other_results(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    daemon = Daemon(tmp_path, config(broker, LONG))
    with broker:
        with Client(broker.port) as client:
            daemon.start()
            connected(client)
            say(client, "a", 1, 2)
            client.health(is_on_disk(1))
        broker.stop()
        assert daemon.stop() == 0
        broker.start()
        with Client(broker.port) as client, daemon:
            (late,) = client.wait("out/a", 1)
            assert (level(late), late.json["replayed"]) == (2, True)
            client.health(lambda h: is_on_disk(0)(h) and h["spool"]["state"] == "idle")
            assert len(client.of("out/a")) == 1
