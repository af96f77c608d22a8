"""The service: what it needs of the system, its start, and the watch over it until it does well."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cross.device.commands import must, run
from cross.device.files import point, write
from cross.device.places import COMMAND, CONFIG, CURRENT, LOOK_S, RELEASES, SETTINGS, SWITCH_UNIT, UNIT
from cross.device.verdict import judge
from cross.device.words import Refused, say

STATUS_S = 10.0
GRACE_S = 10.0
"""What pipelines get beyond the time in which a release is watched, to give their first result."""


def make_ready(release: Path) -> None:
    """What the service needs of the system beside its release. None of it changes what runs."""
    if UNIT.exists() and not UNIT.is_symlink():
        raise Refused(f"there is a unit {UNIT} that no deploy made: remove it first, with systemctl disable --now edged")
    must("systemd-sysusers", str(release / "systemd" / "sysusers.conf"))
    must("systemd-tmpfiles", "--create", str(release / "systemd" / "tmpfiles.conf"))
    for config in RELEASES.glob("*/config"):  # also those of releases that were installed before there was a group
        must("chmod", "-R", "u=rwX,g=rX,o=", str(config))
        must("chgrp", "-R", "edged", str(config))
    text = (release / "systemd" / "edged-switch.service").read_text()
    if not SWITCH_UNIT.exists() or SWITCH_UNIT.read_text() != text:
        write(SWITCH_UNIT, text)
        must("systemctl", "daemon-reload")
        must("systemctl", "enable", "--quiet", "edged-switch.service")
    if not COMMAND.exists() and not COMMAND.is_symlink():
        COMMAND.symlink_to(CURRENT / "venv/bin/edged")


def unit_facts() -> dict[str, str]:
    wanted = "ActiveState,SubState,Result,NRestarts,MainPID,StatusText,ActiveEnterTimestamp,ExecMainStatus,Job"
    lines = run("systemctl", "show", "edged.service", f"--property={wanted}").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def ask_status(release: Path) -> dict[str, Any] | None:
    """What the running daemon says of itself. None: it does not answer, or is of a release that could not be asked."""
    try:
        done = run(str(release / "venv/bin/edged"), "status", "--json", "-c", str(CONFIG / "edged.toml"), timeout=STATUS_S)
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return found if isinstance(found, dict) else None


def start(name: str) -> str:
    """One rename makes a release the one that runs, with its unit and its settings. Gives back how often systemd had started the
    service again by then: it does not always count from 0."""
    point(CURRENT, RELEASES / name)
    point(UNIT, CURRENT / "systemd/edged.service")
    point(SETTINGS, CURRENT / "device.conf")
    must("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", "edged.service")
    must("systemctl", "start", "--no-block", "edged.service")
    return unit_facts().get("NRestarts", "0")


def watch(order: Mapping[str, Any], restarts: str) -> list[str]:
    """Why the release that was started does not do well; nothing when it does."""
    began = time.monotonic()
    reasons = until_ready(order["ready_s"], restarts)
    if reasons:
        return reasons
    say(f"READY after {time.monotonic() - began:.1f} s; waiting for the first result of each pipeline")
    began, last = time.monotonic(), 0.0
    while True:
        if reasons := _crashed(unit_facts(), restarts):
            return reasons
        passed = time.monotonic() - began
        is_late = passed >= order["watch_s"] + GRACE_S
        if time.monotonic() - last >= max(1.0, order["watch_s"] / 10) or is_late:
            last = time.monotonic()
            status = ask_status(RELEASES / order["to"])
            if status is None and is_late:
                return ["it does not answer: edged status"]
            verdict, lines = judge(status, order["expected"], order["known"], is_late) if status is not None else ("wait", [])
            if verdict == "ill" or (verdict == "well" and passed >= order["watch_s"]):
                for line in lines:
                    say(line)
                return ["not every pipeline does well, see above"] if verdict == "ill" else []
        time.sleep(LOOK_S)


def until_ready(limit_s: float, restarts: str) -> list[str]:
    deadline = time.monotonic() + limit_s
    while (facts := unit_facts()).get("ActiveState") != "active":
        if reasons := _crashed(facts, restarts):
            return reasons
        if time.monotonic() > deadline:
            return [f"it was not READY within {limit_s:g} s"]
        time.sleep(LOOK_S)
    return _crashed(facts, restarts)


def _crashed(facts: Mapping[str, str], restarts: str) -> list[str]:
    is_down = facts.get("ActiveState") in ("failed", "inactive") and not facts.get("Job")  # else it is about to be started
    if is_down or facts.get("SubState") == "auto-restart" or facts.get("NRestarts") != restarts:
        return [f"the service ended: {facts.get('Result', 'unknown')}, status {facts.get('ExecMainStatus', 'unknown')}"]
    return []
