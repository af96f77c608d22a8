"""Three daemons share the work of one topic: killed at random, stopped and started, an account outside finds nothing lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, until
from tests.support.pause import pause
from tests.support.scale import scale

RECEIVE_MAXIMUM = 8
CONFIG = """
[device]
id = "{name}"
state_dir = "state-{name}"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
receive_maximum = 8
[source.parts]
type = "mqtt"
topic = "line/{{station}}/part"
share = "scorers"
decode = {{ format = "json", fields = ["v"] }}
carry = ["n"]
[pipeline.score]
source = "parts"
publish = {{ topic = "out/{{station}}" }}
"""


def member(folder: Path, broker: Broker, name: str) -> Daemon:
    return Daemon(folder, CONFIG.format(name=name, port=broker.port), name=f"{name}.toml")


def part(n: int) -> str:
    return json.dumps({"v": n % 7, "n": n})


def answered(client: Client) -> Counter[int]:
    """How often each part was answered."""
    return Counter(seen.json["carried"]["n"] for seen in client.messages if seen.topic.startswith("out/"))


def answerers(client: Client) -> Counter[str]:
    return Counter(seen.json["device"] for seen in client.messages if seen.topic.startswith("out/"))


def is_connected(client: Client, name: str) -> None:
    client.health(lambda h: h["brokers"]["main"]["state"] == "connected", device=name)


def test_members_killed_at_random_lose_nothing(tmp_path: Path) -> None:
    """The account is the client's: what it published, and what came out. A killed member's share waits for it at the broker."""
    rng, kills = random.Random(16), max(3, scale("kills") // 4)
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client, ExitStack() as stack:
        daemons = [member(tmp_path, broker, name) for name in ("a", "b", "c")]
        for daemon, name in zip(daemons, "abc", strict=True):
            stack.enter_context(daemon)
            is_connected(client, name)
        sent = 0
        for _ in range(kills):
            client.publish_all("line/1/part", [part(n) for n in range(sent, sent + 400)])
            sent += 400
            pause(rng.uniform(0.0, 0.3), "the kill comes at any moment")
            unlucky = rng.choice(daemons)
            unlucky.kill()
            client.publish_all("line/2/part", [part(n) for n in range(sent, sent + 100)])
            sent += 100
            unlucky.spawn()
        client.until(lambda: len(answered(client)) == sent, limit_s=60, what="an answer to every part")
        twice = sum(count - 1 for count in answered(client).values())
    assert set(answered(client)) == set(range(sent))
    assert twice <= kills * 2 * RECEIVE_MAXIMUM
    assert len(answerers(client)) == 3
    print(f"{kills} kills of three members, {sent} parts: 0 lost, {twice} answered twice, {dict(answerers(client))}")


def test_a_planned_stop_leaves_the_group_first(tmp_path: Path) -> None:
    """Nothing waits for a member that went: what comes after it, and what it had in hand, is answered while it is away."""
    with Broker(tmp_path, "max_queued_messages 0") as broker, Client(broker.port) as client:
        first, second = member(tmp_path, broker, "a"), member(tmp_path, broker, "b")
        first.start()
        is_connected(client, "a")
        with second:
            is_connected(client, "b")
            client.publish_all("line/1/part", [part(n) for n in range(1000)])
            assert first.stop() == 0
            client.publish_all("line/1/part", [part(n) for n in range(1000, 1400)])
            client.until(lambda: len(answered(client)) == 1400, what="an answer to every part")
    assert answered(client) == Counter(range(1400))
    assert answerers(client)["a"] >= 1


def test_a_recording_takes_no_work_away(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Client(broker.port) as client, member(tmp_path, broker, "a"):
        is_connected(client, "a")
        process = edged("record", "parts", "-o", str(tmp_path / "parts.rec"), "-c", str(tmp_path / "a.toml"))
        try:
            until(lambda: "edged-a-record 1 line/+/part" in broker.log, what="the recorder to subscribe")
            client.publish_all("line/1/part", [part(n) for n in range(50)])
            client.until(lambda: len(answered(client)) == 50, what="an answer to every part")
        finally:
            process.terminate()
            process.communicate()
    assert answered(client) == Counter(range(50))
