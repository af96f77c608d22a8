"""S13: "I added an inference and it just appeared in Home Assistant; I removed it and it went away." What a broker sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.live.test_restart import HEAD
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, until
from tests.support.models import identity

BASE = (
    HEAD
    + """
[homeassistant]
discovery = true
[model.same]
path = "same.onnx"
[source.pump]
type = "mqtt"
topic = "in/{{pump}}"
stale_after = "1h"
decode = {{ format = "json", fields = ["v"] }}
[source.room]
type = "mqtt"
topic = "room"
rate = 1
decode = {{ format = "json", fields = ["v"] }}
"""
)
ALARM = """
[pipeline.alarm]
source = "pump"
model = "same"
output = { type = "anomaly", above = 10 }
publish = { topic = "out/{pump}", retain = true, homeassistant = { name = "Bearing" } }
"""
HEAT = """
[pipeline.heat]
source = "room"
model = "same"
output = { type = "regress", fields = [{ name = "air", unit = "°C" }] }
publish = { topic = "out/heat" }
"""
MAIN = "homeassistant/device/edged_t/config"
PUMP_A = "homeassistant/device/edged_t_pump_a/config"


def components(seen: Any) -> set[str]:
    return {name for name, one in seen.json["components"].items() if len(one) > 1 and "." in name}


def retained(port: int) -> dict[str, bytes]:
    """What the broker tells who comes now; the end of it is a message of our own."""
    with Client(port, "homeassistant/#", "end") as late:
        late.publish("end", "x")
        late.wait("end")
        return {one.topic: one.payload for one in late.messages if one.topic != "end"}


def test_s13_announced_said_again_and_taken_back(broker: Broker, tmp_path: Path) -> None:
    identity(tmp_path / "same.onnx", 1, width=1)
    base = BASE.format(port=broker.port)
    with Client(broker.port, "homeassistant/#", "edged/#", "out/#") as client:
        daemon = Daemon(tmp_path, base + ALARM + HEAT)
        daemon.start()
        assert components(client.wait(MAIN)[0]) == {"heat.values.air"}
        client.publish("in/a", '{"v": 11}')
        pump = client.wait(PUMP_A)[0].json
        assert pump["device"]["via_device"] == "edged_t"
        assert {id: one["name"] for id, one in pump["components"].items()} == {
            "alarm.anomaly": "Bearing",
            "alarm.score": "Bearing score",
        }
        [status, life] = pump["components"]["alarm.score"]["availability"]
        assert (status["topic"], life) == ("edged/t/status", {"topic": "edged/t/source/pump/a"})
        client.wait("edged/t/source/pump/a")  # that topic is there

        client.publish("homeassistant/status", "offline")
        client.publish("homeassistant/status", "online")
        client.wait(PUMP_A, 2)
        assert [one.json for one in client.wait(MAIN, 2)[:2]] == [client.of(MAIN)[0].json] * 2
        assert client.health()["homeassistant"] == {"devices": 2, "left_out": 0}

        daemon.config.write_text(base + ALARM)  # a reload takes effect
        gone = client.wait(MAIN, 3)[2]
        assert components(gone) == set()
        assert gone.json["components"]["heat.values.air"] == {"platform": "sensor"}

        before = retained(broker.port)
        assert daemon.stop() == 0
        assert retained(broker.port) == before  # a stop takes nothing back
        assert set(before) == {MAIN, PUMP_A}

        daemon.config.write_text(base + HEAT.replace("heat", "warmth"))  # while it is not running
        client.forget()
        daemon.start()
        assert client.wait(PUMP_A)[0].payload == b""
        assert components(client.wait(MAIN)[0]) == {"warmth.values.air"}
        until(lambda: PUMP_A not in (tmp_path / "state" / "homeassistant").read_text(), what="the ledger without it")
        daemon.kill()

        daemon.config.write_text((base + HEAT).replace("discovery = true", "discovery = false"))
        daemon.start()
        until(lambda: not retained(broker.port), what="nothing left at the broker")
        until(lambda: json.loads((tmp_path / "state" / "homeassistant").read_text()) == [], what="an empty ledger")
        assert "homeassistant" not in client.health()
        assert daemon.stop() == 0
        daemon.assert_no_bug()
