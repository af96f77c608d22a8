"""What is announced, to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edged import __version__
from edged.health.homeassistant.payloads import device_id, key_device, main_device, platforms, without
from edged.plan.records import HomeAssistantPlan, Plan
from tests.support.models import identity
from tests.support.planning import MAIN, planned

TEXT = """
[homeassistant]
discovery = true
[model.one]
path = "one.onnx"
[source.pump]
type = "mqtt"
topic = "in/{pump}"
stale_after = "10s"
keys = "pumps.csv"
decode = { format = "json", fields = ["v"] }
[source.room]
type = "mqtt"
topic = "room"
rate = 1
decode = { format = "json", fields = ["v"] }
[pipeline.alarm]
source = "pump"
model = "one"
output = { type = "anomaly", above = 10 }
[[pipeline.alarm.publish]]
topic = "out/{pump}"
retain = true
homeassistant = { name = "Bearing", device_class = "vibration", icon = "mdi:pump" }
[pipeline.heat]
source = "room"
model = "one"
output = { type = "regress", fields = [{ name = 'air "in"', unit = "°C" }] }
"""
STATUS = {"topic": "edged/pi4/status", "value_template": "{{ 'online' if value == 'online' else 'offline' }}"}


def made(folder: Path, text: str) -> Plan:
    identity(folder / "one.onnx", 1, width=1)
    (folder / "pumps.csv").write_text("key,label\na,Feed pump\n")
    return planned(folder, MAIN + text).whole


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return made(tmp_path, TEXT)


def shown(plan: Plan) -> HomeAssistantPlan:
    assert plan.homeassistant is not None
    return plan.homeassistant


def test_a_key_is_a_device_behind_this_one(plan: Plan) -> None:
    wanted: dict[str, Any] = {
        "device": {
            "identifiers": ["edged_pi4_pump_a"],
            "name": "Feed pump",
            "manufacturer": "edged",
            "via_device": "edged_pi4",
        },
        "origin": {"name": "edged", "sw_version": __version__},
        "components": {
            "alarm.anomaly": {
                "platform": "binary_sensor",
                "name": "Bearing",
                "device_class": "vibration",
                "value_template": "{{ 'ON' if value_json[\"anomaly\"] else 'OFF' }}",
                "unique_id": "edged_pi4_pump_a.alarm.anomaly",
                "state_topic": "out/a",
                "icon": "mdi:pump",
                "availability": [STATUS, {"topic": "edged/pi4/source/pump/a"}],
                "availability_mode": "all",
            },
            "alarm.score": {
                "platform": "sensor",
                "name": "Bearing score",
                "state_class": "measurement",
                "suggested_display_precision": 3,
                "value_template": '{{ value_json["score"] }}',
                "unique_id": "edged_pi4_pump_a.alarm.score",
                "state_topic": "out/a",
                "icon": "mdi:pump",
                "availability": [STATUS, {"topic": "edged/pi4/source/pump/a"}],
                "availability_mode": "all",
            },
        },
    }
    assert key_device(plan, shown(plan), "pump", ("a",), ["pump"]) == wanted
    unjudged = key_device(plan, shown(plan), "pump", ("b",))
    assert unjudged["device"]["name"] == "pump b"
    assert unjudged["components"]["alarm.score"]["availability"][1] == {"topic": "edged/pi4/source/pump"}


def test_this_daemon_is_a_device(plan: Plan) -> None:
    payload = main_device(plan, shown(plan))
    assert payload["device"] == {"identifiers": ["edged_pi4"], "name": "pi4", "manufacturer": "edged", "sw_version": __version__}
    assert payload["components"]['heat.values.air "in"'] == {
        "platform": "sensor",
        "name": "heat",
        "device_class": "temperature",
        "state_class": "measurement",
        "unit_of_measurement": "°C",
        "value_template": '{{ value_json["values"]["air \\"in\\""] }}',
        "unique_id": 'edged_pi4.heat.values.air "in"',
        "state_topic": "edged/pi4/heat",
        "expire_after": 30,
        "availability": [STATUS, {"topic": "edged/pi4/source/room"}],
        "availability_mode": "all",
    }
    diagnostics = {id: one for id, one in payload["components"].items() if one.get("entity_category") == "diagnostic"}
    assert [*diagnostics] == ["running", "health", "memory", "results", "dropped", "rejected", "source/pump", "source/room"]
    assert "availability" not in diagnostics["running"]  # it says that edged does not run
    assert {one["state_topic"] for one in diagnostics.values()} == {
        "edged/pi4/status",
        "edged/pi4/health",
        "edged/pi4/source/pump",
        "edged/pi4/source/room",
    }


def test_a_broker_without_health_hears_of_results_alone(tmp_path: Path) -> None:
    plan = made(tmp_path, "[health]\nbroker = []\n" + TEXT)
    payload = main_device(plan, shown(plan))
    assert [*payload["components"]] == ["running", 'heat.values.air "in"']
    assert payload["components"]['heat.values.air "in"']["availability"] == [STATUS]


def test_bare_texts_have_a_value_and_no_json(tmp_path: Path) -> None:
    plan = made(tmp_path, TEXT.replace("retain = true", 'format = "text"\nfields = "anomaly"'))
    components = key_device(plan, shown(plan), "pump", ("a",))["components"]
    assert {id: one["value_template"] for id, one in components.items()} == {
        "alarm.anomaly": "{{ 'ON' if value == 'true' else 'OFF' }}"
    }


def test_a_key_that_is_no_topic_has_no_entities(plan: Plan) -> None:
    assert key_device(plan, shown(plan), "pump", ("\x01",))["components"] == {}


def test_names_that_may_stand_in_a_discovery_topic() -> None:
    ids = [
        device_id(*parts) for parts in (("t",), ("t", "s", "a/b"), ("t", "s", "a", "b"), ("t", "s", "a_b"), ("t", "s", "ü" * 200))
    ]
    assert ids[0] == "edged_t"
    assert ids[2] == "edged_t_s_a_b"
    assert len({*ids}) == len(ids)
    assert all(len(one) < 90 and one.replace("_", "").replace("-", "").isascii() for one in ids)


def test_what_is_gone_has_only_its_platform(plan: Plan) -> None:
    payload = main_device(plan, shown(plan))
    told = without(payload, {"old.label": "sensor", "running": "binary_sensor"})
    assert told["components"]["old.label"] == {"platform": "sensor"}
    assert told["components"]["running"] == payload["components"]["running"]
    assert platforms(told)["old.label"] == "sensor"
    assert "old.label" not in payload["components"]
