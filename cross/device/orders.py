"""What `deploy.py` asks for: a deploy, the way back, a look, the end of it all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cross.device.bundle import install, put_together, receive, verify
from cross.device.commands import must, run
from cross.device.config import check, copy_config, stage_config
from cross.device.files import size_of
from cross.device.places import (
    BEFORE,
    COMMAND,
    CONFIG,
    CONFIG_BEFORE,
    CONFIG_NEXT,
    CURRENT,
    JOURNAL,
    LOOK_S,
    MIB,
    NO_CONFIG,
    PREFIX,
    RELEASES,
    SETTINGS,
    SWITCH_UNIT,
    UNIT,
    WORK,
)
from cross.device.releases import name_of, remove_releases
from cross.device.service import STATUS_S, ask_status, make_ready, unit_facts
from cross.device.switch import ask_for_switch, settle
from cross.device.verdict import judge
from cross.device.words import Refused, say, tell

BUSY_S = 90


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One deploy at a time. One whose ssh was cut off ends within seconds."""
    WORK.mkdir(parents=True, exist_ok=True)
    WORK.chmod(0o700)  # configurations pass through, and passwords may be in them
    with (WORK / "lock").open("a+") as file:
        deadline, said = time.monotonic() + BUSY_S, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                if time.monotonic() > deadline:
                    raise Refused(f"another deploy is at work there ({file.read().strip()}): wait for it, or end it") from None
                if not said:
                    say("another deploy is at work there, waiting for its end")
                said = True
                time.sleep(LOOK_S)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def deploy(request: dict[str, Any], stream: Any) -> int:
    with lock():
        settle()
        shutil.rmtree(CONFIG_NEXT, ignore_errors=True)
        if not (CONFIG / "edged.toml").exists() and not any(one["path"] == "config/edged.toml" for one in request["files"]):
            raise Refused(NO_CONFIG)
        if RELEASES.is_dir():
            remove_releases()  # also those that were refused, however often that was tried
        receive(request["files"], stream)
        child: list[subprocess.Popen[str]] = []
        threading.Thread(target=_end_when_cut, args=(stream, child), daemon=True).start()
        folder = put_together(request["name"], request["files"])
        verify(folder, request["verify"])
        name = install(folder, child)
        release = RELEASES / name
        make_ready(release)
        config = (release / "config").is_dir() and stage_config(release)
        before = (release / "device.conf").read_text() if (release / "device.conf").exists() else ""
        check(release, CONFIG_NEXT if config else CONFIG)
        is_same = name_of(CURRENT) == name and not config and before == (release / "device.conf").read_text()
        if is_same and unit_facts().get("ActiveState") == "active":
            say(f"{name} runs already: nothing to switch")
            return _looked_at(release)
        return ask_for_switch(name, config, request["watch_s"], request["ready_s"])


def _looked_at(release: Path) -> int:
    status = ask_status(release)
    verdict, lines = judge(status, (), (), True) if status is not None else ("ill", ["it does not answer: edged status"])
    for line in lines:
        say(line)
    tell(end=0 if verdict == "well" else 1, say=f"{release.name} runs" if verdict == "well" else "it does not do well")
    return 0


def _end_when_cut(stream: Any, child: list[subprocess.Popen[str]]) -> None:
    """Nobody listens any more: what was begun is left for the next deploy."""
    while stream.read1(4096):
        pass
    for one in list(child):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
    os._exit(1)


def roll_back(request: dict[str, Any], stream: Any) -> int:
    with lock():
        settle()
        shutil.rmtree(CONFIG_NEXT, ignore_errors=True)
        to = name_of(BEFORE)
        if to is None:
            raise Refused("there is no release before: nothing to go back to")
        config = request["config"] == "before"
        if config:
            if not CONFIG_BEFORE.is_dir():
                raise Refused(f"there is no {CONFIG_BEFORE}: no deploy has replaced the configuration")
            copy_config(CONFIG_BEFORE)
        try:
            check(RELEASES / to, CONFIG_NEXT if config else CONFIG)
        except Refused as refused:
            fix = (
                "" if config or not CONFIG_BEFORE.is_dir() else f"\nthe configuration before is in {CONFIG_BEFORE}: CONFIG=before"
            )
            raise Refused(f"{refused}{fix}".replace("the new release", f"release {to}")) from None
        return ask_for_switch(to, config, request["watch_s"], request["ready_s"])


def status(request: dict[str, Any], stream: Any) -> int:
    facts = unit_facts()
    current, before = name_of(CURRENT), name_of(BEFORE)
    say(f"release    {current or 'none'}" + (f", before it {before}" if before else ""))
    since = f" since {facts['ActiveEnterTimestamp']}" if facts.get("ActiveEnterTimestamp") else ""
    said = f": {facts['StatusText']}" if facts.get("StatusText") else ""
    again = f", started again {facts['NRestarts']} times" if facts.get("NRestarts", "0") != "0" else ""
    say(f"service    {facts.get('ActiveState', 'unknown')}{since}{again}{said}")
    names = sorted(one.name for one in RELEASES.iterdir() if (one / "complete").exists()) if RELEASES.is_dir() else []
    say(f"on disk    {', '.join(names) or 'no release'}: {size_of(PREFIX) // MIB if PREFIX.is_dir() else 0} MiB in {PREFIX}")
    if JOURNAL.exists():
        say("a switch is under way there, or was interrupted")
    if current is not None:
        try:
            done = run(str(CURRENT / "venv/bin/edged"), "status", "-c", str(CONFIG / "edged.toml"), timeout=STATUS_S)
            say((done.stdout + done.stderr).strip())
        except (OSError, subprocess.TimeoutExpired):
            say("edged status does not answer")
    tell(end=0 if facts.get("ActiveState") == "active" else 1, say="")
    return 0


def undeploy(request: dict[str, Any], stream: Any) -> int:
    with lock():
        settle()
        run("systemctl", "disable", "--now", "--quiet", "edged.service", "edged-switch.service")
        for file in (SETTINGS, UNIT, SWITCH_UNIT):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            SETTINGS.parent.rmdir()
        if COMMAND.is_symlink():
            COMMAND.unlink()
        must("systemctl", "daemon-reload")
        for one in (CURRENT, BEFORE):
            one.unlink(missing_ok=True)
        shutil.rmtree(PREFIX)
        shutil.rmtree(CONFIG_NEXT, ignore_errors=True)
        state = Path("/var/lib/edged")
        if request["purge"]:
            for folder in (CONFIG, CONFIG_BEFORE, state):
                shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(KeyError):
                pwd.getpwnam("edged")
                run("userdel", "edged")
            tell(end=0, say="edged is removed, with its configuration and its state")
        else:
            tell(end=0, say=f"edged is removed; {CONFIG} and {state} stay, PURGE=1 removes them as well")
    return 0


ASKED = {"deploy": deploy, "rollback": roll_back, "status": status, "undeploy": undeploy}
