"""S13 against Home Assistant as it is: its core with the MQTT integration, seen over its API."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from edged.results.entities import BINARY_CLASSES, CLASS_OF_UNIT, COUNTING, SENSOR_CLASSES
from tests.peers.install import environment, python_of
from tests.support.broker import Broker, free_port
from tests.support.daemon import Client, Daemon, Sensor, until
from tests.support.models import identity

LIMIT_S = 120.0
VERSION = "2025.1.4"
ASKED = '''
"""Asks one thing over the WebSocket, which has what the HTTP API has not."""
import asyncio
import json
import sys

import aiohttp


async def ask(port: str, token: str, question: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/api/websocket") as ws:
        await ws.receive_json()
        await ws.send_json({"type": "auth", "access_token": token})
        await ws.receive_json()
        await ws.send_json({"id": 1, **json.loads(question)})
        print(json.dumps(await ws.receive_json()))


asyncio.run(ask(*sys.argv[1:]))
'''
SETTINGS = """
homeassistant: {{name: Test, country: US, unit_system: metric, time_zone: UTC}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
auth:
onboarding:
config:
logger: {{default: warning}}
"""
CLASSES = """
import json
from homeassistant.components.binary_sensor import BinarySensorDeviceClass
from homeassistant.components.sensor import const
units = {str(c): [str(u) for u in known] for c, known in const.DEVICE_CLASS_UNITS.items()}
totals = [str(c) for c, known in const.DEVICE_CLASS_STATE_CLASSES.items() if const.SensorStateClass.MEASUREMENT not in known]
sensors = [str(c) for c in const.SensorDeviceClass if c not in const.NON_NUMERIC_DEVICE_CLASSES]
print(json.dumps({"units": units, "totals": totals, "sensors": sensors, "binary": [str(c) for c in BinarySensorDeviceClass]}))
"""
BASE = """
[device]
id = "t"
[health]
interval = "200ms"
[homeassistant]
discovery = true
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[model.same]
path = "same.onnx"
[model.two]
path = "two.onnx"
labels = ["fine", "worn"]
[source.oven]
type = "serial"
port = "{serial}"
stale_after = "2s"
decode = {{ format = "csv", fields = [{{ name = "air", unit = "°C" }}] }}
[source.pump]
type = "mqtt"
topic = "in/{{pump}}"
stale_after = "1h"
decode = {{ format = "json", fields = ["v"] }}
[source.gear]
type = "mqtt"
topic = "gear"
stale_after = "1h"
decode = {{ format = "json", fields = ["a", "b"] }}
[pipeline.heat]
source = "oven"
publish = {{ retain = true }}
[pipeline.alarm]
source = "pump"
model = "same"
output = {{ type = "anomaly", above = 10 }}
publish = {{ topic = "out/{{pump}}", retain = true, homeassistant = {{ name = "Bearing", icon = "mdi:pump" }} }}
[pipeline.load]
source = "pump"
model = "same"
output = {{ type = "regress", fields = [{{ name = "torque", unit = "Nm" }}] }}
publish = {{ topic = "load/{{pump}}", when = {{ max_interval = "1h" }} }}
"""
WEAR = """
[pipeline.wear]
source = "gear"
model = "two"
output = "classify"
publish = { retain = true }
"""


class HomeAssistant:
    """A core that listens on loopback, with one user."""

    def __init__(self, folder: Path) -> None:
        wanted = (f"homeassistant=={VERSION}", "home-assistant-frontend==20250109.2", "paho-mqtt==1.6.1")
        self.python = environment("homeassistant", VERSION, *wanted, by=python_of("3.13"))
        self.folder = folder
        self.port = free_port()
        self.token = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "configuration.yaml").write_text(SETTINGS.format(port=self.port))
        command = [str(self.python), "-m", "homeassistant", "-c", str(self.folder), "--skip-pip"]
        path = f"{self.python.parent}:{os.environ['PATH']}"
        with (self.folder / "out.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": path}, start_new_session=True)
        try:
            until(lambda: process.poll() is not None or self.answers(), LIMIT_S, f"Home Assistant; see {self.folder}/out.log")
            assert process.poll() is None, (self.folder / "out.log").read_text()[-4000:]
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def answers(self) -> bool:
        with suppress(HTTPError):
            return self.call("/api/onboarding") is not None
        return False

    def call(self, path: str, body: Any = None, form: dict[str, str] | None = None) -> Any:
        """What it answers, None while it listens to nobody. Raises HTTPError."""
        data = urlencode(form).encode() if form is not None else None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urlopen(request, timeout=10) as answer:
                return json.loads(answer.read())
        except HTTPError:
            raise
        except (URLError, OSError):
            return None

    def log_in(self, mqtt_port: int) -> None:
        """A user, a token, and the MQTT integration."""
        client = f"http://127.0.0.1:{self.port}/"
        user = {"client_id": client, "name": "t", "username": "t", "password": "tt", "language": "en"}
        code = self.call("/api/onboarding/users", user)["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": client}
        self.token = self.call("/auth/token", form=form)["access_token"]
        flow = self.call("/api/config/config_entries/flow", {"handler": "mqtt"})
        made = self.call(f"/api/config/config_entries/flow/{flow['flow_id']}", {"broker": "127.0.0.1", "port": mqtt_port})
        assert made["type"] == "create_entry", made

    def ask(self, **question: Any) -> Any:
        command = [str(self.python), "-c", ASKED, str(self.port), self.token, json.dumps(question)]
        answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
        assert answer["success"], answer
        return answer["result"]

    def states(self) -> dict[str, Any]:
        """Those of our entities, by their ids."""
        return {one["entity_id"]: one for one in self.call("/api/states") if "sensor." in one["entity_id"]}

    def wait(self, entity: str, state: str | None) -> dict[str, Any]:
        """Until an entity has a state; None: until there is no such entity."""

        def look() -> Any:
            found = self.states()
            seen[:] = [{name: one["state"] for name, one in found.items()}]
            return (entity not in found) if state is None else found.get(entity, {}).get("state") == state and found[entity]

        seen: list[Any] = []
        try:
            found = until(look, 30, f"{entity} to be {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(seen, indent=1)}\n{self.log[-3000:]}") from None
        return found if isinstance(found, dict) else {}

    @property
    def log(self) -> str:
        return (self.folder / "out.log").read_text()


@pytest.fixture
def hub(tmp_path: Path) -> HomeAssistant:
    return HomeAssistant(tmp_path / "hass")


def test_classes_and_units_are_those_of_home_assistant(hub: HomeAssistant) -> None:
    out = subprocess.run([str(hub.python), "-c", CLASSES], capture_output=True, check=True, timeout=60).stdout
    there = json.loads(out)
    assert {*SENSOR_CLASSES} == {*there["sensors"]}
    assert {*BINARY_CLASSES} == {*there["binary"]}
    assert {unit for unit, name in CLASS_OF_UNIT.items() if unit not in there["units"][name]} == set()
    assert {*COUNTING} == {*there["totals"]} & {*there["sensors"]}


def test_s13_it_appears_is_right_dies_and_goes_away(tmp_path: Path, hub: HomeAssistant) -> None:
    identity(tmp_path / "same.onnx", 1, width=1)
    identity(tmp_path / "two.onnx", 1, width=2)
    with (
        Broker(tmp_path) as broker,
        Client(broker.port, "homeassistant/#", "edged/#", "out/#") as client,
        Sensor(tmp_path / "oven") as oven,
        hub.running(),
    ):
        base = BASE.format(port=broker.port, serial=tmp_path / "oven")
        daemon = Daemon(tmp_path, base + WEAR)
        daemon.start()
        client.wait("homeassistant/device/edged_t/config")
        hub.log_in(broker.port)  # it comes later, and finds what is retained
        client.wait("homeassistant/device/edged_t/config", 2)  # it said that it has started

        # They appear, and are right.
        oven.write("21.5\n")
        client.publish("gear", '{"a": -3, "b": 3}')
        client.publish("in/a", '{"v": 11}')
        client.publish("in/b", '{"v": 2.5}')
        heat = hub.wait("sensor.t_heat", "21.5")["attributes"]
        assert (heat["unit_of_measurement"], heat["device_class"], heat["state_class"]) == ("°C", "temperature", "measurement")
        wear = hub.wait("sensor.t_wear", "worn")["attributes"]
        assert (wear["device_class"], wear["options"]) == ("enum", ["fine", "worn"])
        bearing = hub.wait("binary_sensor.pump_a_bearing", "on")["attributes"]
        assert (bearing["device_class"], bearing["icon"]) == ("problem", "mdi:pump")
        hub.wait("sensor.pump_a_bearing_score", "11.0")
        hub.wait("binary_sensor.pump_b_bearing", "off")
        client.publish("in/b", '{"v": 3}')  # what is not retained is there with the next result
        assert hub.wait("sensor.pump_b_load", "3.0")["attributes"]["unit_of_measurement"] == "Nm"
        hub.wait("binary_sensor.t_running", "on")
        hub.wait("binary_sensor.t_health", "off")
        hub.wait("sensor.t_inputs_rejected", "0")
        hub.wait("sensor.t_results", "8")
        assert 20 < float(hub.states()["sensor.t_memory"]["state"]) < 500
        client.publish("in/a", "no JSON")
        hub.wait("sensor.t_inputs_rejected", "1")
        devices = {one["name"]: one for one in hub.ask(type="config/device_registry/list")}
        assert devices["pump a"]["via_device_id"] == devices["t"]["id"]
        assert devices["t"]["sw_version"]

        # A name that its user gives stays, and so does what it stands for.
        renamed = {"entity_id": "binary_sensor.pump_a_bearing", "name": "My pump", "new_entity_id": "binary_sensor.my_pump"}
        hub.ask(type="config/entity_registry/update", **renamed)
        hub.wait("binary_sensor.my_pump", "on")

        # The sensor dies.
        oven.unplug()
        hub.wait("sensor.t_heat", "unavailable")
        hub.wait("binary_sensor.t_source_oven", "off")
        hub.wait("binary_sensor.t_health", "on")
        assert hub.states()["sensor.t_wear"]["state"] == "worn"
        oven.plug()
        oven.write("22\n")
        hub.wait("sensor.t_heat", "22.0")

        # edged stops: all of it stays, and is unavailable.
        there = set(hub.states())
        assert daemon.stop() == 0
        for name in ("sensor.t_heat", "sensor.t_wear", "binary_sensor.my_pump", "sensor.t_memory"):
            hub.wait(name, "unavailable")
        hub.wait("binary_sensor.t_running", "off")
        assert set(hub.states()) == there

        # While it does not run a pipeline is taken out; a reload takes out what has keys.
        daemon.config.write_text(base)
        daemon.start()
        hub.wait("sensor.t_wear", None)
        oven.wait_until_opened()
        oven.write("23\n")
        hub.wait("sensor.t_heat", "23.0")
        client.publish("in/a", '{"v": 1}')
        assert hub.wait("binary_sensor.my_pump", "off")["attributes"]["friendly_name"] == "My pump"
        daemon.kill()
        hub.wait("sensor.t_heat", "unavailable")
        daemon.start()
        oven.wait_until_opened()
        oven.write("24\n")
        hub.wait("sensor.t_heat", "24.0")
        hub.wait("binary_sensor.my_pump", "unavailable")  # not heard since the crash
        daemon.config.write_text(base.replace("discovery = true", "discovery = false"))
        hub.wait("sensor.t_heat", None)
        until(lambda: not any("pump" in name or ".t_" in name for name in hub.states()), 30, "nothing of it left")
        assert not {"t", "pump a", "pump b"} & {one["name"] for one in hub.ask(type="config/device_registry/list")}
        assert daemon.stop() == 0
        daemon.assert_no_bug()
    complaints = [line for line in hub.log.splitlines() if "mqtt" in line and ("ERROR" in line or "WARNING" in line)]
    assert not complaints, "\n".join(complaints)
