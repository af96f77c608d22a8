"""Where things are on a device, and the bounds of what is kept there."""

from __future__ import annotations

from pathlib import Path

PREFIX = Path("/opt/edged")
RELEASES = PREFIX / "releases"
CURRENT = PREFIX / "current"
BEFORE = PREFIX / "before"
WORK = PREFIX / "deploy"
VERIFY = PREFIX / "verify"
CACHE = WORK / "cache"
JOURNAL = WORK / "switch.json"
SAID = WORK / "switch.log"
PROGRAM = WORK / "device.pyz"
"""This program, for edged-switch.service."""
CONFIG = Path("/etc/edged")
CONFIG_NEXT = Path("/etc/edged.next")
CONFIG_BEFORE = Path("/etc/edged.before")
CREDENTIALS = CONFIG / "credentials"
UNITS = Path("/etc/systemd/system")
UNIT = UNITS / "edged.service"
SWITCH_UNIT = UNITS / "edged-switch.service"
SETTINGS = UNITS / "edged.service.d" / "device.conf"
COMMAND = Path("/usr/local/bin/edged")
MIB = 1024 * 1024
MIN_FREE_BYTES = 256 * MIB
LOOK_S = 0.2
NO_CONFIG = f"there is no {CONFIG}/edged.toml on the device: deploy with CONFIG=edged.toml"
