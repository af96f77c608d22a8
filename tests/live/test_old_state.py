"""A new daemon starts on what an older one left: windows, numbers, the spool, models, retained topics.

`tests/cases/old_state/` holds state directories as the code of their date wrote them, by this configuration: pump a had sent 1 to
6 and got one result; then the broker of the results was stopped, pump b sent 7 to 10, and the daemon was told to stop.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced
from tests.support.fake_time import FakeTime

STATES = sorted((Path(__file__).parents[1] / "cases" / "old_state").glob("*.tar.gz"))
SOON_AFTER = {"2026-11-29": "@2026-11-30 02:05:00"}
"""When each daemon is started: what is older than a day says nothing of today."""
TINY = Path(__file__).parents[2] / "models" / "tiny"
RUN = "6ee72bd5"
CONFIG = """
[device]
id = "t"
state_dir = "state"
[health]
interval = "100ms"
[broker.in]
url = "mqtt://127.0.0.1:{port_in}"
[broker.out]
url = "mqtt://127.0.0.1:{port_out}"
[source.pump]
type = "mqtt"
broker = "in"
topic = "in/{{pump}}"
decode = {{ format = "json", fields = ["v"] }}
[source.eight]
type = "mqtt"
broker = "in"
topic = "x/in"
decode = {{ format = "json", fields = [{{ name = "x", shape = [8] }}] }}
[model.tiny]
path = "{tiny}"
[pipeline.windows]
source = "pump"
window = {{ size = 4, hop = 4 }}
publish = {{ broker = "out", topic = "out/{{pump}}" }}
[pipeline.tiny]
source = "eight"
model = "tiny"
output = "classify"
publish = {{ broker = "out", topic = "out/tiny" }}
"""
RETAINED = {
    "edged/t/status": "offline",
    "edged/t/source/pump": "offline",
    "edged/t/health": '{"device":"t","version":"0.0.9","state":"degraded","word":"that nobody knows any more"}',
    "edged/t/model/tiny": '{"version":"0","sha256":"00"}',
}


@pytest.mark.parametrize("state", STATES, ids=lambda path: path.name.partition(".")[0])
def test_a_new_daemon_goes_on_with_what_an_older_one_left(state: Path, tmp_path: Path) -> None:
    clock = FakeTime(tmp_path)
    clock.set(SOON_AFTER[state.name.partition(".")[0]])
    with tarfile.open(state) as files:
        files.extractall(tmp_path / "state", filter="data")
    (tmp_path / "a").mkdir()
    with (
        Broker(tmp_path / "a") as broker_in,
        Broker(tmp_path) as broker_out,
        Client(broker_in.port) as client,
        Client(broker_out.port) as results,
    ):
        for topic, payload in RETAINED.items():
            results.publish(topic, payload, retain=True)
        text = CONFIG.format(port_in=broker_in.port, port_out=broker_out.port, tiny=TINY)
        with Daemon(tmp_path, text, environ=clock.environ) as daemon:
            kept = results.wait("out/b")[0].json
            assert (kept["run"], kept["seq"], kept["outputs"]["v"], kept["replayed"]) == (RUN, 2, [7, 8, 9, 10], True)
            client.health(lambda h: h["sources"]["pump"]["state"] != "waiting")
            for v in (7, 8):
                client.publish("in/a", json.dumps({"v": v}))
            window = results.wait("out/a")[0].json
            assert (window["run"], window["seq"], window["outputs"]["v"]) == (RUN, 3, [5, 6, 7, 8])
            client.publish("x/in", json.dumps({"x": [1, 2, 3, 4, 5, 6, 7, 8]}))
            answer = results.wait("out/tiny")[0].json
            assert (answer["run"], answer["seq"], answer["label"]) == (RUN, 2, "low")
            health = results.health(lambda h: h["state"] == "healthy" and h["spool"]["state"] == "idle")
            assert balanced(health)
            aside = [line for line in daemon.log.splitlines() if "file_moved_aside" in line]
            assert all("/stage.aside " in line for line in aside), aside  # where the last run was when it ended: it was stopped
        with Client(broker_out.port, "edged/#") as late:
            assert late.wait("edged/t/status")[0].payload == b"stopped"
            assert "word" not in late.wait("edged/t/health")[0].json
            assert late.wait("edged/t/model/tiny")[0].json["sha256"].startswith("437890e6")
