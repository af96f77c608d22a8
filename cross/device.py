"""The device's side of a deploy: it runs there as root, with the device's own Python and nothing else. `deploy.py` sends it.

    receive   what is missing of a bundle, into a cache by hash; what was cut off goes on where it ended
    verify    all of it, by the verifier that is on the device, before anything of it runs
    install   the bundle's own `install`, into a release folder of its own
    check     the configuration and its models, with the new release, in a sandbox like the service's
    switch    stop, one rename, start, watch; back to the release before if it does not do well

The switch is done by a unit of its own, edged-switch.service, so that it comes to its end also when ssh is cut off. It notes on
disk what it is about to do: after a power cut the same unit, at boot, goes back to the release before.

Speaks in lines of JSON on standard output: {"need": ...}, {"say": ...}, and {"end": 0, "say": ...} as the last one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import grp
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

PREFIX = Path("/opt/edged")
RELEASES = PREFIX / "releases"
CURRENT = PREFIX / "current"
BEFORE = PREFIX / "before"
WORK = PREFIX / "deploy"
VERIFY = PREFIX / "verify"
CACHE = WORK / "cache"
JOURNAL = WORK / "switch.json"
SAID = WORK / "switch.log"
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
KEPT_RELEASES = 3
KEPT_BYTES = 2048 * MIB
MIN_FREE_BYTES = 256 * MIB
LOG_LINES = 50
LOOK_S = 0.2
STATUS_S = 10.0
GRACE_S = 10.0
"""What pipelines get beyond the time in which a release is watched, to give their first result."""
ENOUGH_RESULTS = 5
"""So many results must be due in the time that is watched for their absence to count against a release."""
TRIAL_BYTES = 128 * MIB
"""What a model's trial takes beside its weights: a Python with its libraries, and room to work. Not what is measured, which is
another figure each time and would change the unit for nothing."""
CHECK_S = 600
BUSY_S = 90
NO_CONFIG = f"there is no {CONFIG}/edged.toml on the device: deploy with CONFIG=edged.toml"
BAD = ("failing", "stalled", "shedding")
"""States of a pipeline that are the release's or the model's own doing."""
MADE = ("published", "filtered", "gated")
RENAME_EXCHANGE, AT_FDCWD = 2, -100


class Refused(Exception):
    """It cannot go on; the text says why and what to do. Nothing was switched."""


# ---- decisions ----


def due(status: Mapping[str, Any], seconds: float) -> list[str]:
    """The pipelines of a running daemon of which results are to be expected within so many seconds."""
    return [name for name, p in status.get("pipelines", {}).items() if p.get("rate", 0) * seconds >= ENOUGH_RESULTS]


def judge(status: Mapping[str, Any], expected: Iterable[str], known: Iterable[str], is_late: bool) -> tuple[str, list[str]]:
    """Whether a release does well, by what its daemon says of itself: "wait", "well" or "ill", and a line for each pipeline.

    `known`: pipelines that ran before the switch, `expected`: those that gave results then. The others of `known` are not waited
    for. `is_late`: there is no more time; then a pipeline without results needs a reason that is not the release's own."""
    lines, words = [], set()
    for name, p in status["pipelines"].items():
        made = sum(p.get(key, 0) for key in MADE)
        reason = p["state"] + (f": {p['reason']}" if p.get("reason") else "")
        if p["state"] in BAD:
            words.add("ill" if is_late else "wait")
            lines.append(f"pipeline {name}: {reason}")
        elif made:
            lines.append(f"pipeline {name}: {made} results")
        elif not is_late and (name in expected or name not in known):
            words.add("wait")
            lines.append(f"pipeline {name}: {reason}")
        elif name in expected and p["state"] != "filling":
            words.add("ill")
            lines.append(f"pipeline {name} gave results before the switch, and now: {reason}")
        else:
            lines.append(f"pipeline {name}: none is due, {reason}")
    if status.get("config_last_good"):
        words.add("ill")
    lines += [f"the configuration was refused: {line}" for line in status.get("config_errors", ())]
    return ("ill" if "ill" in words else "wait" if "wait" in words else "well"), lines


def superfluous(releases: Mapping[str, tuple[float, int]], needed: Iterable[str], free: int) -> list[str]:
    """The releases to remove. `releases`: when each was made, and its size. `needed`: what runs, and what ran before; they stay,
    with the newest of the others while there are not too many, and room."""
    kept = [name for name in dict.fromkeys(needed) if name in releases]
    total = sum(releases[name][1] for name in kept)
    for name in sorted(releases.keys() - set(kept), key=lambda one: releases[one], reverse=True):
        size = releases[name][1]
        if len(kept) < KEPT_RELEASES and total + size <= KEPT_BYTES and free >= MIN_FREE_BYTES:
            kept.append(name)
            total += size
    return sorted(releases.keys() - set(kept))


def memory_max(plan: Mapping[str, Any]) -> int:
    """What the kernel is to enforce: the budget, and room for a child in which a new model is tried."""
    memory = plan["memory"]
    weights = max((line["bytes"] for line in memory["lines"] if line["what"].endswith(": weights")), default=0)
    return int(memory["budget_bytes"] + (3 * weights + TRIAL_BYTES if plan["models"] else 0))


def settings(limit: int, credentials: Iterable[str], systemd: int, parts: Mapping[str, str], has_gpu: bool) -> str:
    """The drop-in for this device."""
    lines = ["# Written by the deploy for this device, and again by the next one. Yours: systemctl edit edged", "[Service]"]
    lines += [f"MemoryMax={limit}", *(f"LoadCredential={name}:{CREDENTIALS / name}" for name in sorted(credentials))]
    text = "\n".join(lines) + "\n"
    if systemd >= 254:
        text += "\n" + parts["restart.conf"]
    if has_gpu:
        text += "\n" + parts["gpu.conf"]
    return text


def is_place(path: str) -> bool:
    """Whether a path of a bundle stays inside of it."""
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and ".." not in parts and "" not in parts and "\0" not in path


# ---- the parts ----


def say(text: str) -> None:
    _tell(say=text)


def _tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL, capture_output=True, **options
    )


def must(*command: str) -> str:
    done = run(*command)
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or f'status {done.returncode}'}")
    return done.stdout


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


def receive(files: list[dict[str, Any]], stream: Any) -> None:
    """Says what is missing, and takes it in that order."""
    CACHE.mkdir(parents=True, exist_ok=True)
    need: dict[str, int] = {}
    sizes = {one["sha256"]: one["size"] for one in files}
    for sha, size in sizes.items():
        if not (CACHE / sha).is_file():
            part = CACHE / f"{sha}.part"
            there = part.stat().st_size if part.is_file() else 0
            need[sha] = there if there <= size else 0
    missing = sum(sizes[sha] - offset for sha, offset in need.items())
    free = shutil.disk_usage(CACHE).free
    if missing + MIN_FREE_BYTES > free:
        text = f"{missing // MIB} MiB are to come and {free // MIB} MiB are free in {PREFIX}"
        raise Refused(f"{text}: sudo apt clean; du -xh / | sort -h | tail")
    _tell(need=need)
    for sha, offset in need.items():
        _take(CACHE / f"{sha}.part", CACHE / sha, offset, sizes[sha], stream)


def _take(part: Path, whole: Path, offset: int, size: int, stream: Any) -> None:
    with part.open("r+b" if offset else "w+b") as file:
        digest = hashlib.sha256()
        while data := file.read(min(MIB, max(0, offset - file.tell()))):
            digest.update(data)
        file.truncate()
        while left := size - file.tell():
            data = stream.read1(min(left, 256 * 1024))
            if not data:
                raise EOFError
            digest.update(data)
            file.write(data)
            file.flush()  # what came over a bad link is kept, whatever happens next
        if digest.hexdigest() != whole.name:
            part.unlink()
            raise Refused("a file was damaged on its way, or changed while it was sent: try again")
        os.fsync(file.fileno())
    part.rename(whole)


def put_together(name: str, files: list[dict[str, Any]]) -> Path:
    """The bundle as a folder again, of links into the cache."""
    folder = WORK / "bundle" / name
    shutil.rmtree(WORK / "bundle", ignore_errors=True)
    for one in files:
        if not is_place(one["path"]):
            raise Refused(f"{one['path']}: no such place can be in a bundle")
        place = folder / one["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(CACHE / one["sha256"], place)
    return folder


def verify(folder: Path, program: str) -> None:
    """Before anything of it runs. `program` is the verifier for a device that has none yet: it comes from whoever deploys, like
    this file, and not from the bundle."""
    if not VERIFY.exists():
        write(VERIFY, program, 0o755)
    done = run("sh", str(VERIFY), str(folder))
    if done.returncode:
        shutil.rmtree(WORK / "bundle", ignore_errors=True)
        raise Refused(f"nothing of the bundle was run: {done.stderr.strip() or f'status {done.returncode}'}")


def install(folder: Path, child: list[subprocess.Popen[str]]) -> str:
    """The release's id. `child` holds the process while it runs, for whoever has to end it."""
    done = subprocess.Popen(
        ["sh", str(folder / "install"), "--prefix", str(PREFIX)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    child.append(done)
    assert done.stderr is not None
    assert done.stdout is not None
    for line in done.stderr:
        say(line.rstrip().removeprefix("install: "))
    out = done.stdout.read().strip()
    code = done.wait()
    child.clear()
    shutil.rmtree(WORK / "bundle", ignore_errors=True)
    if code:
        raise Refused(f"the bundle's install ended with status {code}, see above")
    return Path(out.splitlines()[-1]).name


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


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, also in a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync(path.parent)


def point(link: Path, to: Path) -> None:
    """One rename: a link that leads there, whatever it did before."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and os.readlink(link) == str(to):
        return
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(to)
    new.rename(link)
    sync(link.parent)


def sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def stage_config(release: Path) -> bool:
    """The device's configuration as it is to be, beside the one that is there; False when that is the same.

    Files of the bundle take the place of theirs, all others (secrets, certificates) stay as they are."""
    brought = release / "config"
    files = [file for file in sorted(brought.rglob("*")) if file.is_file()]
    if all(_same(file, CONFIG / file.relative_to(brought)) for file in files):
        return False
    copy_config(CONFIG)
    group = grp.getgrnam("edged").gr_gid
    for file in files:
        place = CONFIG_NEXT / file.relative_to(brought)
        for folder in reversed(place.relative_to(CONFIG_NEXT).parents[:-1]):
            if not (CONFIG_NEXT / folder).is_dir():
                (CONFIG_NEXT / folder).mkdir(mode=0o750)
                os.chown(CONFIG_NEXT / folder, 0, group)
        place.unlink(missing_ok=True)
        shutil.copyfile(file, place)
        place.chmod(0o640)
        os.chown(place, 0, group)
    must("sync", "-f", str(CONFIG_NEXT))
    return True


def copy_config(of: Path) -> None:
    """The configuration that is to be, to begin with as another one is."""
    shutil.rmtree(CONFIG_NEXT, ignore_errors=True)
    CONFIG_NEXT.mkdir(mode=0o700)
    must("cp", "-a", f"{of}/.", f"{CONFIG_NEXT}/")


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def check(release: Path, folder: Path) -> None:
    """The configuration and its models, by the release that is to run them; and the drop-in that follows from its plan.

    Under the limits of the service as far as they bear on it, as its user, with its credentials."""
    if not (folder / "edged.toml").exists():
        raise Refused(NO_CONFIG)
    credentials = [one.name for one in CREDENTIALS.iterdir() if one.is_file()] if CREDENTIALS.is_dir() else []
    given = [f"-pLoadCredential={name}:{CREDENTIALS / name}" for name in credentials]
    done = run(
        *("systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"-pRuntimeMaxSec={CHECK_S}"),
        *(
            "-pUser=edged",
            "-pGroup=edged",
            "-pSupplementaryGroups=dialout",
            "-pStateDirectory=edged",
            "-pStateDirectoryMode=0700",
        ),
        *("-pProtectSystem=strict", "-pProtectHome=yes", "-pPrivateTmp=yes", "-pNoNewPrivileges=yes", *given),
        *(str(release / "venv/bin/edged"), "check", "--json", "-c", str(folder / "edged.toml")),
    )
    said = done.stderr.replace(str(CONFIG_NEXT), str(CONFIG)).strip()
    if done.returncode:
        raise Refused(f"the new release does not take the device's configuration:\n{said or f'status {done.returncode}'}")
    plan = json.loads(done.stdout)
    for line in plan.get("warnings", ()):
        say(f"warning: {line.replace(str(CONFIG_NEXT), str(CONFIG))}")
    parts = {name: (release / "systemd" / name).read_text() for name in ("gpu.conf", "restart.conf")}
    limit = memory_max(plan)
    write(release / "device.conf", settings(limit, credentials, systemd_version(), parts, has_gpu()))
    planned, budget = (plan["memory"][key] // MIB for key in ("planned_bytes", "budget_bytes"))
    say(f"the configuration is good: {planned} MiB planned of {budget} MiB, MemoryMax {limit // MIB} MiB")


def systemd_version() -> int:
    return int("".join(c for c in must("systemctl", "--version").split()[1] if c.isdigit()) or 0)


def has_gpu() -> bool:
    return any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/nvmap", "/dev/nvhost-gpu"))


def name_of(link: Path) -> str | None:
    """The release at the end of a link, if it is there and whole."""
    if not link.is_symlink():
        return None
    name = Path(os.readlink(link)).name
    return name if (RELEASES / name / "complete").exists() else None


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


# ---- the switch ----


def ask_for_switch(to: str, config: bool, watch_s: float, ready_s: float, source: bytes) -> int:
    """Has edged-switch.service switch, and passes on what it says. Whoever is cut off here changes nothing of it."""
    before = name_of(CURRENT)
    status = ask_status(RELEASES / before) if before is not None else None
    known = list(status["pipelines"]) if status is not None else []
    expected = due(status, watch_s + GRACE_S) if status is not None else []
    write(WORK / "device.py", source.decode())
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
                    _tell(**what)
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
    _tell(end=0, say=f"{order['to']} runs")
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


def start(name: str) -> str:
    """One rename makes a release the one that runs, with its unit and its settings. Gives back how often systemd had started the
    service anew by then: it does not always count from 0."""
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
    reasons = _until_ready(order["ready_s"], restarts)
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


def _until_ready(limit_s: float, restarts: str) -> list[str]:
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
        ready = not _until_ready(order["ready_s"], start(before))
        ended = (
            f"not kept; {before} {'runs again' if ready else 'was put back, and is not READY either: edged doctor, make logs'}"
        )
    JOURNAL.unlink()
    shutil.rmtree(CONFIG_NEXT, ignore_errors=True)
    _tell(end=1, say=ended)
    return 0


def exchange_config() -> None:
    """The configuration and the one beside it change places, in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(CONFIG_NEXT), AT_FDCWD, os.fsencode(CONFIG), RENAME_EXCHANGE) != 0:
        raise Refused(f"{CONFIG} cannot be replaced in one step: {os.strerror(ctypes.get_errno())}")
    sync(CONFIG.parent)


def remove_releases() -> None:
    """Those that nobody needs any more, and those that were never finished."""
    releases = {}
    for folder in RELEASES.iterdir():
        if (folder / "complete").exists():
            releases[folder.name] = ((folder / "complete").stat().st_mtime, size_of(folder))
        elif folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
    needed = [name for name in (name_of(CURRENT), name_of(BEFORE)) if name]
    for name in superfluous(releases, needed, shutil.disk_usage(PREFIX).free):
        say(f"removing release {name}")
        shutil.rmtree(RELEASES / name, ignore_errors=True)


def remove_wheels() -> None:
    """What is of no release that is kept."""
    wanted = set()
    for manifest in RELEASES.glob("*/manifest"):
        wanted |= {line[:64] for line in manifest.read_text().splitlines()}
    for file in CACHE.iterdir():
        if file.name not in wanted:
            file.unlink()


def size_of(folder: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*"))


# ---- what deploy.py asks for ----


def deploy(request: dict[str, Any], source: bytes, stream: Any) -> int:
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
        return ask_for_switch(name, config, request["watch_s"], request["ready_s"], source)


def _looked_at(release: Path) -> int:
    status = ask_status(release)
    verdict, lines = judge(status, (), (), True) if status is not None else ("ill", ["it does not answer: edged status"])
    for line in lines:
        say(line)
    _tell(end=0 if verdict == "well" else 1, say=f"{release.name} runs" if verdict == "well" else "it does not do well")
    return 0


def _end_when_cut(stream: Any, child: list[subprocess.Popen[str]]) -> None:
    """Nobody listens any more: what was begun is left for the next deploy."""
    while stream.read1(4096):
        pass
    for one in list(child):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
    os._exit(1)


def roll_back(request: dict[str, Any], source: bytes, stream: Any) -> int:
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
            cure = (
                "" if config or not CONFIG_BEFORE.is_dir() else f"\nthe configuration before is in {CONFIG_BEFORE}: CONFIG=before"
            )
            raise Refused(f"{refused}{cure}".replace("the new release", f"release {to}")) from None
        return ask_for_switch(to, config, request["watch_s"], request["ready_s"], source)


def status(request: dict[str, Any], source: bytes, stream: Any) -> int:
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
    _tell(end=0 if facts.get("ActiveState") == "active" else 1, say="")
    return 0


def undeploy(request: dict[str, Any], source: bytes, stream: Any) -> int:
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
            _tell(end=0, say="edged is gone from it, with its configuration and its state")
        else:
            _tell(end=0, say=f"edged is gone from it; {CONFIG} and {state} are left, PURGE=1 removes them as well")
    return 0


ASKED = {"deploy": deploy, "rollback": roll_back, "status": status, "undeploy": undeploy}


def main(source: bytes) -> NoReturn:
    stream = sys.stdin.buffer
    try:
        if sys.argv[-1] == "switch":
            sys.exit(_switched())
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        request = json.loads(line)
        code = ASKED[request["ask"]](request, source, stream)
    except Refused as refused:
        _tell(end=1, say=str(refused))
        code = 0
    except (EOFError, BrokenPipeError):  # cut off
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _switched() -> int:
    """The switch, its words in a file that outlives whoever waits for them."""
    with SAID.open("a") as file:
        os.dup2(file.fileno(), 1)
        try:
            return switch()
        except Refused as refused:
            _tell(say=str(refused))
            return 1


if __name__ == "__main__":
    main(globals().get("SOURCE", b""))
