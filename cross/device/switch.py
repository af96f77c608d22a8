"""The switch to another release, and the way back. Each step is noted on disk first, so that a power cut ends well, too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cross.device.commands import must, run
from cross.device.config import exchange_config
from cross.device.files import point, write
from cross.device.places import (
    BEFORE,
    CONFIG,
    CONFIG_BEFORE,
    CONFIG_NEXT,
    CURRENT,
    JOURNAL,
    LOOK_S,
    PROGRAM,
    RELEASES,
    SAID,
    SETTINGS,
    UNIT,
)
from cross.device.releases import name_of, remove_releases, remove_wheels
from cross.device.service import GRACE_S, ask_status, start, until_ready, watch
from cross.device.verdict import due
from cross.device.words import Refused, say, tell

LOG_LINES = 50


def ask_for_switch(to: str, config: bool, watch_s: float, ready_s: float) -> int:
    """Has edged-switch.service switch, and passes on what it says. Whoever is cut off here changes nothing of it."""
    before = name_of(CURRENT)
    status = ask_status(RELEASES / before) if before is not None else None
    known = list(status["pipelines"]) if status is not None else []
    expected = due(status, watch_s + GRACE_S) if status is not None else []
    write(PROGRAM, Path(sys.argv[0]).read_bytes())
    SAID.write_text("")
    order = {"to": to, "from": before, "config": config, "watch_s": watch_s, "ready_s": ready_s}
    note(**order, expected=expected, known=known, step="asked", boot=boot())
    return follow()


def follow() -> int:
    """Starts the switch and passes on what it says, to its end."""
    at = 0
    with subprocess.Popen(
        ["systemctl", "start", "edged-switch.service"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as job:
        while True:
            is_over = job.poll() is not None
            with SAID.open("rb") as file:
                file.seek(at)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    at += len(line)
                    what = json.loads(line)
                    tell(**what)
                    if "end" in what:
                        return int(what["end"])
            if is_over:
                raise Refused("the switch ended without a word: journalctl -u edged-switch; the next deploy goes back first")
            time.sleep(LOOK_S)


def note(**what: Any) -> None:
    write(JOURNAL, json.dumps(what) + "\n")


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def settle() -> None:
    """A switch that is under way is waited for; one that was interrupted is taken back."""
    if not JOURNAL.exists():
        return
    is_under_way = run("systemctl", "is-active", "edged-switch.service").stdout.strip() == "activating"
    if not is_under_way and json.loads(JOURNAL.read_text())["step"] == "asked":
        JOURNAL.unlink()  # it never began
        return
    say(
        "a switch is under way there, waiting for its end" if is_under_way else "a switch was interrupted there, going back first"
    )
    must("systemctl", "start", "edged-switch.service")


def switched() -> int:
    """The switch, its words in a file that outlives whoever waits for them."""
    with SAID.open("a") as file:
        os.dup2(file.fileno(), 1)
        try:
            return switch()
        except Refused as refused:
            tell(say=str(refused))
            return 1


def switch() -> int:
    """What edged-switch.service does: a switch that was asked for, or the way back from one that was interrupted."""
    try:
        order = json.loads(JOURNAL.read_text())
    except FileNotFoundError:
        return 0
    if order["step"] != "asked" or order["boot"] != boot():
        return go_back(order, [f"the switch to {order['to']} was interrupted"])
    try:
        reasons = _go_on(order)
    except Exception as error:  # whatever it is: the old release is to run
        reasons = [str(error) if isinstance(error, Refused) else repr(error)]
    if reasons:
        return go_back(order, reasons)
    JOURNAL.unlink()
    if order["config"] and (CONFIG_NEXT / "edged.toml").exists():
        shutil.rmtree(CONFIG_BEFORE, ignore_errors=True)
        CONFIG_NEXT.rename(CONFIG_BEFORE)
        say(f"the configuration before is kept in {CONFIG_BEFORE}")
    remove_releases()
    remove_wheels()
    tell(end=0, say=f"{order['to']} runs")
    return 0


def _go_on(order: dict[str, Any]) -> list[str]:
    """Why the release does not do well, once it was switched to; nothing when it does."""
    if order["config"]:
        order["config_ino"] = CONFIG_NEXT.stat().st_ino
    order["step"] = "switching"
    note(**order)
    say(f"switching from {order['from'] or 'nothing'} to {order['to']}")
    run("systemctl", "stop", "edged.service")
    if order["config"]:
        exchange_config()
    if reasons := watch(order, start(order["to"])):
        return reasons
    must("systemctl", "enable", "--quiet", "edged.service")
    if order["from"] and order["from"] != order["to"]:
        point(BEFORE, RELEASES / order["from"])
    return []


def go_back(order: dict[str, Any], reasons: list[str]) -> int:
    """To the release before, and its configuration. May be begun again at any point."""
    for line in reasons:
        say(line)
    order["step"] = "going back"
    note(**order)
    log = run("journalctl", "--unit=edged.service", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso").stdout
    run("systemctl", "stop", "edged.service")
    if order["config"] and order.get("config_ino") == CONFIG.stat().st_ino:
        exchange_config()
    before = order["from"]
    for line in [f"the last {LOG_LINES} lines of its log:", *log.splitlines()]:
        say(line)
    if before is None:
        for link in (SETTINGS, UNIT, CURRENT):
            link.unlink(missing_ok=True)
        must("systemctl", "daemon-reload")
        ended = "not kept; there is no release before to go back to, so nothing runs"
    else:
        ready = not until_ready(order["ready_s"], start(before))
        ended = (
            f"not kept; {before} {'runs again' if ready else 'was put back, and is not READY either: edged doctor, make logs'}"
        )
    JOURNAL.unlink()
    shutil.rmtree(CONFIG_NEXT, ignore_errors=True)
    tell(end=1, say=ended)
    return 0
