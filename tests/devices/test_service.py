"""`edged service install` of a wheel, on a machine whose systemd runs: installed, used, rebooted, installed again, removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.devices.booted import Device
from tests.support.broker import Broker
from tests.support.daemon import Client, until
from tests.test_package import Built, built

__all__ = ["built"]

PLACE, PYTHON = "/opt/tool", "3.11"
PACKAGES = f"{PLACE}/lib/python{PYTHON}/site-packages"
CONFIG = """
[health]
interval = "500ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.example]
type = "simulate"
signal = "vibration"
rate = 100
[pipeline.copy]
source = "example"
window = {{ size = 100 }}
"""


def unpack(built: Built, device: Device, folder: Path) -> None:
    """As pip installs it there, in a venv: pip itself is not on this device, and needs a network."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:", "--python-version", PYTHON]
    subprocess.run([*pip, "--target", str(folder), str(built.wheel)], check=True, timeout=600)
    device.root(f"python3 -m venv --without-pip {PLACE}")
    device.send(folder, PACKAGES)


def test_installed_used_rebooted_and_removed(built: Built, tmp_path: Path) -> None:
    edged, own = f"{PLACE}/bin/python -m edged", f"edged/{os.uname().nodename}"
    with Broker(tmp_path) as broker, Client(broker.port, "edged/#") as client, Device(tmp_path) as device:
        unpack(built, device, tmp_path / "packages")
        said = device.root(f"{edged} service install")
        assert said.splitlines() == [
            "/etc/systemd/system/edged.service: written",
            "/etc/edged/edged.toml: written, with a simulated sensor; replace it with yours",
            "user edged: made",
        ]
        assert device.shown("ActiveState") == "active"  # it has said READY, else `systemctl enable --now` fails
        assert device.shown("User") == "edged"
        assert device.shown("UnitFileState") == "enabled"
        assert device.root("stat -c '%U %a' /etc/edged/edged.toml /var/lib/edged").split() == ["edged", "640", "edged", "700"]
        status = json.loads(device.root(f"{edged} status --json"))
        assert status["pipelines"]["copy"]["state"] in ("filling", "running", "storing")

        device.root(f"cat > /etc/edged/edged.toml <<'END'\n{CONFIG.format(port=broker.port)}END")
        device.root("systemctl reload edged")
        client.wait(f"{own}/copy", 2)
        pid = device.shown("MainPID")
        device.root(f"kill -9 {pid}")
        until(lambda: device.shown("ActiveState") == "active" and device.shown("MainPID") != pid, 30, "its restart")

        device.cut_power()
        device.boot()
        until(lambda: device.shown("ActiveState") == "active", 60, "its start with the machine")
        client.forget()
        client.wait(f"{own}/copy")

        again = device.root(f"{edged} service install").splitlines()
        assert again[1] == "/etc/edged/edged.toml: kept as it is"
        assert device.shown("ActiveState") == "active"

        removed = device.root(f"{edged} service remove")
        assert removed == "/etc/systemd/system/edged.service: removed; /etc/edged and /var/lib/edged stay"
        assert device.shown("LoadState") == "not-found"
        client.wait(f"{own}/status")
        assert device.root("ls /etc/edged/edged.toml") == "/etc/edged/edged.toml"
