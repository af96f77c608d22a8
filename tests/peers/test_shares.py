"""A second broker with shared subscriptions: rumqttd 0.20 (as `iotcore`, from PyPI), which speaks MQTT 5. Three daemons share its
work, and an account outside finds nothing lost while all of them live and when one of them stops as planned. (Of a group with a
member that died it deals out nothing any more, to nobody: 712 of 900 messages were lost when that was tried. It sends a member
up to 100 messages, whatever its receive maximum, and acknowledges nothing of a member that has 100: on a busy machine a burst
stopped it for good in one of ten runs. So no more than that many are under way here.)
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.test_shares import CONFIG, answered, answerers, is_connected, part
from tests.peers.install import environment
from tests.support.broker import free_port
from tests.support.daemon import Client, Daemon, until

VERSION = "0.4.0"
AT_ONCE = 90
BROKER = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    number = free_port()
    (tmp_path / "broker.toml").write_text(BROKER.format(port=number))
    command = [
        str(environment("iotcore", VERSION, f"iotcore=={VERSION}")),
        "-m",
        "iotcore",
        "--config",
        str(tmp_path / "broker.toml"),
    ]
    log = tmp_path / "broker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until(lambda: b"Listening" in log.read_bytes(), what="the broker")
        yield number
        process.terminate()
        process.wait()


def share_out(client: Client, numbers: range) -> None:
    """Publishes the parts, and waits for all answers."""
    for at in range(0, len(numbers), AT_ONCE):
        client.publish_all("line/1/part", [part(n) for n in numbers[at : at + AT_ONCE]])
        client.until(lambda: len(answered(client)) >= numbers[at : at + AT_ONCE].stop, what="an answer to every part")


def test_three_share_the_work(tmp_path: Path, port: int) -> None:
    def member(name: str) -> Daemon:
        return Daemon(tmp_path, CONFIG.format(name=name, port=port), name=f"{name}.toml")

    with Client(port) as client, member("b") as _, member("c") as _:
        first = member("a")
        first.start()
        for name in "abc":
            is_connected(client, name)
        share_out(client, range(900))
        assert len(answerers(client)) == 3, answerers(client)
        assert first.stop() == 0
        share_out(client, range(900, 1200))
    assert sum(answered(client).values()) == 1200, "and none twice"
