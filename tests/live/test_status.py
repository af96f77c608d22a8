"""`edged status` and what it shows of a daemon that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.commands.ask import ask_daemon
from edged.commands.status import lines
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said, until

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.a]
type = "mqtt"
topic = "in/a"
decode = {{ format = "json", fields = ["v"] }}
[source.pumps]
type = "mqtt"
topic = "pumps/{{pump}}"
stale_after = "1s"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.first]
source = "a"
publish = {{ topic = "out/first", format = "msgpack" }}
[pipeline.each]
source = "pumps"
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Client]]:
    folder: Path = tmp_path_factory.mktemp("status")
    with Broker(folder) as broker, Client(broker.port) as client, Daemon(folder, TEXT.format(port=broker.port)) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        yield daemon, client


def status(daemon: Daemon, *arguments: str) -> tuple[int, list[str]]:
    code, out, _ = said(edged("status", "-c", str(daemon.config), *arguments))
    return code, out.splitlines()


def test_each_part_and_why_it_is_not_well(stage: tuple[Daemon, Client]) -> None:
    daemon, client = stage
    code, (head, *printed) = status(daemon)
    assert code == 0
    assert head.startswith("edged ")
    assert "device t: degraded, up " in head
    parts = [line for line in printed if not line.startswith(" ")]
    assert [line.split()[:3] for line in parts] == [
        ["source", "a", "silent"],
        ["source", "pumps", "silent"],
        ["pipeline", "first", "waiting"],
        ["pipeline", "each", "waiting"],
        # On a busy machine the broker's line goes on with its share of the processor time.
        ["broker", "main", "connected"],
        ["spool", "idle"],
        ["edged", "help", "WORD"],
    ]
    assert "0 rows; no message yet on in/a: check that somebody publishes there" in parts[0]
    code, _ = status(daemon, "--check")
    assert code == 1
    code, printed = status(daemon, "--json")
    assert code == 0
    assert json.loads("\n".join(printed)).keys() == client.health().keys() | {"details"}


def test_the_newest_result_the_keys_that_are_ill_and_what_was_refused(stage: tuple[Daemon, Client]) -> None:
    daemon, client = stage
    client.publish("in/a", '{"v": 3}')
    client.publish("in/a", '{"v": "x\x1b[2J"}')
    client.publish("in/a", '{"v"')
    client.publish("pumps/ill", '{"v": 1}')
    client.wait("out/first")

    def one_is_ill() -> bool:
        # Asked from within this process: a command may need longer to start than a key stays fresh.
        client.publish("pumps/well", '{"v": 2}')
        said = "\n".join(lines(ask_daemon(daemon.config, {"command": "status"})))
        return "not well: ill (silent, " in said and "1 of 2 keys online" in said

    until(one_is_ill, what="one key is silent and the other is not")
    client.wait("edged/t/each/well")
    _, printed = status(daemon, "--rejects")
    text = "\n".join(printed)
    assert re.search(r'last: out/first, [\d.]+ s ago: \{"outputs": \{"v": 3\.0\}', text)
    assert re.search(r'last: edged/t/each/well, [\d.]+ s ago: \{"key": "well", "outputs": \{"v": 2\.0\}', text)
    assert "dropped: 2 as malformed, the last: " in text
    assert re.search(r" ago malformed: .*: '\{\"v\"'", text)
    assert "\x1b" not in text


def test_watch_ends_with_the_daemon_or_with_its_reader(stage: tuple[Daemon, Client]) -> None:
    daemon, _ = stage
    process = edged("status", "--watch", "-c", str(daemon.config))
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"edged ")
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    process.stderr.close()


def test_no_daemon(tmp_path: Path) -> None:
    code, out, _ = said(edged("status", "--check", "-c", str(tmp_path / "edged.toml")))
    assert code == 2
    assert out.startswith("edged UNKNOWN - no edged runs with ")
