"""A table of sensors that is edited while the daemon runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, edged, said, until

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.pumps]
type = "mqtt"
topic = "pumps/{{pump}}"
keys = "pumps.csv"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.each]
source = "pumps"
window = {{ size = 2, hop = 1 }}
publish = {{ topic = "out/{{pump}}" }}
"""


def test_an_edit_of_the_table_is_taken_and_a_wrong_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    table = tmp_path / "pumps.csv"
    table.write_text("key,label,v.offset\np1,Feed pump,0\n")
    with Broker(tmp_path) as broker, Client(broker.port) as client, Daemon(tmp_path, TEXT.format(port=broker.port)) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        for v in (1, 2):
            client.publish("pumps/p1", json.dumps({"v": v}))
        first = json.loads(client.wait("out/p1")[0].payload)
        assert (first["key_label"], first["outputs"]["v"], "key_tags" in first) == ("Feed pump", [1, 2], False)

        table.write_text("key,label,v.offset,tags.hall\np1,Feed pump A,100,north\n")
        daemon.wait_log("source.pumps: settings")
        client.forget()
        for v in (3, 4):
            client.publish("pumps/p1", json.dumps({"v": v}))
        second = json.loads(client.wait("out/p1")[0].payload)
        assert (second["key_label"], second["key_tags"]) == ("Feed pump A", {"hall": "north"})
        assert second["outputs"]["v"] == [2, 103], "the window has what it had"

        table.write_text("key,label,v.ofset\np1,Feed pump A,100\n")
        client.health(lambda h: h.get("config_errors"))
        daemon.wait_log('pumps.csv:1:11: unknown column \\"v.ofset\\"; did you mean \\"v.offset\\"?')
        client.publish("pumps/p9", '{"v": 5}')
        until(lambda: "pumps.csv: 1 keys; 1 arrived without a row: p9" in said(edged("status", "-c", str(daemon.config)))[1])
        balanced(client.health())
