from __future__ import annotations

from pathlib import Path

from edged.commands.doctor.wanted import wanted
from edged.config.schema import UsbPort

CONFIG = """
[device]
state_dir = "state"

[spool]
path = "kept"

[broker.main]
url = "mqtt://plant"

[broker.other]
url = "unix:/run/mosquitto.sock"

[source.a]
type = "serial"
port = "/dev/ttyUSB0"
decode = { format = "csv", fields = ["x"] }

[source.b]
type = "serial"
port = { vid = 0x0403, pid = 0x6001 }
decode = { format = "csv", fields = ["x"] }

[source.c]
type = "mqtt"
broker = "main"
topic = "a/{pump}"
max_keys = 5
rate = 2
decode = { format = "json", fields = ["x"] }

[source.d]
type = "mqtt"
broker = "main"
topic = "one"
rate = 3
decode = { format = "json", fields = ["x"] }

[source.e]
type = "mqtt"
broker = "other"
topic = "two"
decode = { format = "json", fields = ["x"] }

[source.f]
type = "mqtt"
broker = "other"
topic = "three"
qos = 0
decode = { format = "json", fields = ["x"] }
"""


def save(folder: Path, text: str) -> Path:
    path = folder / "edged.toml"
    path.write_text(text)
    return path


def test_what_a_configuration_names(tmp_path: Path) -> None:
    found = wanted(save(tmp_path, CONFIG), True, False, {})
    assert found.configuration.errors == ()
    assert found.ports == {"source.a": "/dev/ttyUSB0", "source.b": UsbPort(vid=0x0403, pid=0x6001)}
    assert [str(link.url) for link in found.links] == ["mqtt://plant:1883", "unix:/run/mosquitto.sock"]
    assert found.folders == {"state": tmp_path / "state", "spool": tmp_path / "kept"}
    assert found.rates == {"main": 13.0, "other": None}
    found = wanted(save(tmp_path, CONFIG.replace("max_keys = 5\n", "")), True, False, {})
    assert found.rates["main"] is None  # how many pumps there are, nobody says


def test_none_is_there(tmp_path: Path) -> None:
    found = wanted(tmp_path / "absent.toml", False, True, {})
    assert not found.configuration.is_there
    assert found.configuration.errors == ()
    assert found.folders == {"state": Path("/var/lib/edged")}  # as systemd makes it for the unit
    asked = wanted(tmp_path / "absent.toml", True, False, {})
    assert asked.configuration.errors == (f"{tmp_path}/absent.toml: there is no such file",)


def test_what_is_wrong_is_left_out(tmp_path: Path) -> None:
    found = wanted(save(tmp_path, CONFIG.replace("rate = 3", "rat = 3")), True, False, {})
    assert len(found.configuration.errors) == 1
    assert len(found.links) == 2
    assert wanted(save(tmp_path, "nonsense"), True, False, {}).configuration.errors[0].startswith(f"{tmp_path}/edged.toml:1:")


def test_a_credential_that_only_the_service_has(tmp_path: Path) -> None:
    text = CONFIG.replace('"mqtt://plant"', '"mqtt://plant"\nusername = "edged"\npassword = { credential = "mqtt" }')
    found = wanted(save(tmp_path, text), True, False, {})
    assert found.configuration.errors == ()
    (line,) = found.configuration.unseen
    assert "broker.main.password: credential mqtt" in line
    (tmp_path / "mqtt").write_text("secret")
    assert wanted(save(tmp_path, text), True, False, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).configuration.unseen == ()
