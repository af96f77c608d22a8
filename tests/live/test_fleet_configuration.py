"""A configuration that comes over MQTT: the real daemon, mosquitto, and a static https server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said, until
from tests.support.fleet import Server, Signer

LOCAL = """
[device]
id = "press7"
state_dir = "state"
[fleet]
topic = "fleet/presses"
broker = "main"
signed_by = "fleet.pub"
from = "{url}"
ca = "{ca}"
configuration = true
guard = "{guard}"
"""
WORK = """
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
broker = "main"
topic = "in"
decode = {{ format = "json", fields = ["v"] }}
[pipeline.p]
source = "in"
publish = {{ broker = "main", topic = "out/{name}" }}
"""
AWAY = '[broker.away]\nurl = "mqtt://127.0.0.1:1"\n'


class Device:
    """The daemon, and the configurations that are announced to it."""

    def __init__(self, client: Client, server: Server, signer: Signer, daemon: Daemon) -> None:
        self.client, self.server, self.signer, self.daemon = client, server, signer, daemon
        self.counter = 0

    def work(self, name: str, more: str = "") -> str:
        return WORK.format(port=self.client.port, name=name) + more

    def announce(self, version: str, text: str = "", **changes: Any) -> None:
        self.counter += 1
        data = text.encode()
        self.server.files[f"/{version}.toml"] = data
        said = {
            "model": "",
            "configuration": True,
            "version": version,
            "counter": self.counter,
            "url": f"{self.server.url}{version}.toml",
        }
        self.client.publish("fleet/presses/configuration", self.signer.announce(data, **{**said, **changes}), retain=True)

    def back(self, version: str) -> None:
        self.announce(version, back=True, url="", sha256="", size=0)

    def reported(self, condition: Callable[[Any], object], limit_s: float = 30.0) -> Any:
        def look() -> Any:
            seen = [one.json["configuration"] for one in self.client.messages if one.topic == "fleet/presses/report/press7"]
            return next((one for one in seen[-1:] if condition(one)), None)

        return self.client.until(look, limit_s, "a report")

    def answers_on(self, name: str) -> None:
        """What comes in is answered by this configuration."""

        start = len(self.client.messages)

        def answered() -> bool:
            self.client.publish("in", '{"v":1}')
            return any(one.topic == f"out/{name}" for one in self.client.messages[start:])

        until(answered, what=f"out/{name}")

    def ready(self) -> None:
        self.client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device="press7")


@pytest.fixture
def guard() -> str:
    return "1s"


@pytest.fixture
def device(tmp_path: Path, server: Server, signer: Signer, broker: Broker, guard: str) -> Iterator[Device]:
    (tmp_path / "fleet.pub").write_bytes(signer.public)
    text = LOCAL.format(url=server.url, ca=server.ca, guard=guard) + WORK.format(port=broker.port, name="local")
    with Client(broker.port, "edged/#", "out/#", "fleet/#") as client, Daemon(tmp_path, text) as daemon:
        one = Device(client, server, signer, daemon)
        one.ready()
        yield one


def test_applied_kept_and_left_again(device: Device) -> None:
    device.answers_on("local")
    device.announce("7", device.work("seven"))
    device.reported(lambda c: c["state"] == "guarded" and c["running"] == "7")
    device.answers_on("seven")
    assert device.reported(lambda c: c["state"] == "running") == {"wanted": "7", "running": "7", "state": "running", "counter": 1}
    device.daemon.kill()
    device.daemon.start()
    device.ready()
    device.answers_on("seven")
    device.reported(lambda c: c["running"] == "7" and c["state"] == "running")
    code, out, err = said(edged("reload", "--wait", "-c", str(device.daemon.config)))
    assert code == 0, out + err
    device.answers_on("seven")
    device.back("7")
    device.reported(lambda c: c["running"] == "local" and c["state"] == "running")
    device.answers_on("local")


def test_what_cannot_be_taken_changes_nothing_and_the_next_one_works(device: Device) -> None:
    serial = '[source.s]\ntype = "serial"\nport = "/dev/ttyS1"\nbaudrate = 9600\ndecode = { format = "csv", fields = ["a"] }\n'
    secret = device.work("x").replace("[source.in]", 'password = { env = "HOME" }\n[source.in]')
    tried = [
        ("typo", device.work("x").replace("fields", "feilds"), 'unknown key; did you mean "fields"?'),
        ("toml", "[broker", "1:8: "),
        ("id", device.work("x") + '[device]\nid = "x"\n', "device: belongs to the local file alone"),
        ("secret", secret, "env 'HOME' is not what the local file names"),
        ("port", device.work("x", serial), "/dev/ttyS1 is a port"),
        ("code", device.work("x", '[behaviour.b]\nrun = "evil.py:run"\n'), "evil.py"),
    ]
    for version, text, why in tried:
        device.announce(version, text)
        found = device.reported(lambda c, version=version: c["wanted"] == version and c["state"] == "failed")  # type: ignore[misc]
        assert why in found["reason"], found
        assert found["running"] == "local"
    device.client.publish(
        "fleet/presses/configuration", Signer().announce(b"x", model="", configuration=True, counter=99), retain=True
    )
    device.reported(lambda c: c["state"] == "refused" and "none of the keys" in c["reason"])
    device.client.publish("fleet/presses/configuration", device.signer.announce(b"x", counter=99), retain=True)
    device.reported(lambda c: c["state"] == "refused" and "another topic" in c["reason"])
    device.answers_on("local")
    device.announce("8", device.work("eight"))
    device.reported(lambda c: c["state"] == "running" and c["running"] == "8")
    device.answers_on("eight")


def test_returns_when_health_falls(device: Device) -> None:
    device.announce("7", device.work("seven"))
    device.reported(lambda c: c["state"] == "running")
    device.announce("8", device.work("eight", AWAY))
    device.reported(lambda c: c["state"] == "guarded" and c["running"] == "8")
    device.answers_on("eight")
    found = device.reported(lambda c: c["state"] == "went_back")
    assert "health fell within 1 s: broker.away is " in found["reason"]
    assert found["running"] == "7"
    device.answers_on("seven")
    device.daemon.kill()
    device.daemon.start()
    device.ready()
    device.answers_on("seven")


class TestSlow:
    @pytest.fixture
    def guard(self) -> str:
        return "10min"

    def test_returns_when_edged_ends_before_it_is_settled(self, device: Device) -> None:
        device.announce("7", device.work("seven"))
        device.reported(lambda c: c["state"] == "guarded" and c["running"] == "7")
        device.answers_on("seven")
        # What is announced meanwhile and cannot be taken settles nothing.
        device.announce("8", device.work("eight").replace("fields", "feilds"))
        device.reported(lambda c: c["state"] == "failed" and c["running"] == "7")
        device.daemon.kill()
        device.client.forget()
        device.daemon.start()
        device.ready()
        found = device.reported(lambda c: c["state"] == "went_back")
        assert (found["running"], found["reason"]) == ("local", "edged ended within 600 s of the change")
        device.answers_on("local")


def test_a_laptop_leads(device: Device, signer: Signer, tmp_path: Path) -> None:
    """`edged fleet push --configuration`: no TOML is not announced; it waits until the guard is over; status; rollback."""
    (tmp_path / "signer.key").write_bytes(signer.private)
    where = ["--broker", f"mqtt://127.0.0.1:{device.client.port}", "--to", "fleet/presses", "--json"]
    sure = ["--key", str(tmp_path / "signer.key"), "--wait", "--timeout", "30", *where]

    def push(text: str, version: str) -> tuple[int, list[Any], str]:
        file = tmp_path / f"{version}.toml"
        file.write_text(text)
        device.server.files[f"/{file.name}"] = text.encode()
        arguments = ["push", str(file), "--configuration", "--as", version, "--url", device.server.url, *sure]
        code, out, err = said(edged("fleet", *arguments), 40)
        return code, [json.loads(line) for line in out.splitlines()], err

    device.reported(lambda c: c["running"] == "local")
    code, steps, err = push(device.work("nine"), "9")
    assert (code, [(one["meant"], one["running"]) for one in steps]) == (0, [(1, 1)]), err
    device.answers_on("nine")
    code, _, err = push("[broker", "10")
    assert code == 78
    assert "10.toml:1:" in err
    code, steps, err = push(device.work("eleven", AWAY), "11")
    assert code == 70
    assert "health fell" in steps[0]["bad"]["press7"]
    device.answers_on("nine")
    code, out, err = said(edged("fleet", "rollback", "--configuration", *sure), 40)
    assert code == 0, err
    device.answers_on("local")
    code, out, _ = said(edged("fleet", "status", *where))
    assert json.loads(out)[0]["configuration"]["running"] == "local"
