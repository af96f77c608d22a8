"""`edged top`: one daemon over its socket, and all that publish their health to a broker."""

from __future__ import annotations

from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.well]
type = "simulate"
signal = "sine"
rate = 100
[source.pumps]
type = "mqtt"
topic = "pumps/{{pump}}"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.each]
source = "pumps"
"""
WIDE = {"COLUMNS": "200", "NO_COLOR": "1"}


def test_the_worst_part_comes_first_of_one_daemon_and_of_a_fleet(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Client(broker.port) as client, Daemon(tmp_path, TEXT.format(port=broker.port)) as daemon:
        client.health(lambda h: h["sources"]["well"]["state"] == "running")
        code, out, err = said(edged("top", "--once", "-c", str(daemon.config), environ=WIDE))
        assert (code, err) == (0, "")
        parts = [line.split()[:3] for line in map(str.strip, out.splitlines()) if line.startswith(("source ", "pipeline "))]
        assert parts[0] == ["source", "pumps", "silent"]
        assert parts[1] == ["pipeline", "each", "waiting"]
        assert parts[2] == ["source", "well", "running"]
        client.publish("edged/other/health", '{"device": "other\\u001b[2J"}')
        client.publish("edged/bad/health", "{")
        code, out, err = said(edged("top", "--once", "--broker", f"mqtt://127.0.0.1:{broker.port}", environ=WIDE))
        assert (code, err) == (0, "")
        assert out.splitlines()[0].startswith(f"1 devices, 1 degraded; mqtt://127.0.0.1:{broker.port} is connected")
        assert "source pumps is silent: no message yet" in out
        code, _, _ = said(edged("top", "--seconds", "1", "--broker", "main", "-c", str(daemon.config), environ=WIDE))
        assert code == 0


def test_nobody_to_ask(tmp_path: Path) -> None:
    code, _, err = said(edged("top", "--once", "-c", str(tmp_path / "edged.toml")))
    assert (code, "no edged runs with" in err) == (69, True)
    code, _, err = said(edged("top", "--once", "--broker", "plant:1883"))
    assert (code, "--broker: expected an address such as" in err) == (70, True)
