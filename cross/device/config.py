"""The device's configuration: made beside the one in use, checked by the release that is to run it, swapped in one step."""

from __future__ import annotations

import ctypes
import grp
import json
import os
import shutil
from pathlib import Path
from typing import Any

from cross.device.commands import must, run
from cross.device.files import sync, write
from cross.device.places import CONFIG, CONFIG_NEXT, CREDENTIALS, MIB, NO_CONFIG
from cross.device.settings import memory_max, settings
from cross.device.words import Refused, say

CHECK_S = 600
RENAME_EXCHANGE, AT_FDCWD = 2, -100


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
    if done.returncode:
        said = refusal(done.stdout, done.stderr).replace(str(CONFIG_NEXT), str(CONFIG))
        raise Refused(f"the new release does not take the device's configuration:\n{said or f'status {done.returncode}'}")
    plan = json.loads(done.stdout)
    for one in plan.get("warnings", ()):
        say(f"warning: {problem(one).replace(str(CONFIG_NEXT), str(CONFIG))}")
    parts = {name: (release / "systemd" / name).read_text() for name in ("gpu.conf", "restart.conf")}
    limit = memory_max(plan)
    write(release / "device.conf", settings(limit, credentials, systemd_version(), parts, has_gpu()))
    planned, budget = (plan["memory"][key] // MIB for key in ("planned_bytes", "budget_bytes"))
    say(f"the configuration is good: {planned} MiB planned of {budget} MiB, MemoryMax {limit // MIB} MiB")


def refusal(output: str, errors: str) -> str:
    """What `edged check --json` says is wrong; what stands on standard error where it did not come that far."""
    try:
        found = json.loads(output)["errors"]
    except (ValueError, KeyError, TypeError):
        return errors.strip()
    return "\n".join(map(problem, found))


def problem(found: Any) -> str:
    """One problem in a line: `file:line:column: key: what is wrong; how to fix it`. Earlier releases say a line already."""
    if not isinstance(found, dict):
        return str(found)
    place = ":".join(str(found[key]) for key in ("path", "line", "column") if found.get(key))
    said = ": ".join(filter(None, (place, found.get("key"), found.get("message"))))
    return f"{said}; {found['fix']}" if found.get("fix") else said


def systemd_version() -> int:
    return int("".join(c for c in must("systemctl", "--version").split()[1] if c.isdigit()) or 0)


def has_gpu() -> bool:
    return any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/nvmap", "/dev/nvhost-gpu"))


def exchange_config() -> None:
    """The configuration and the one beside it change places, in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(CONFIG_NEXT), AT_FDCWD, os.fsencode(CONFIG), RENAME_EXCHANGE) != 0:
        raise Refused(f"{CONFIG} cannot be replaced in one step: {os.strerror(ctypes.get_errno())}")
    sync(CONFIG.parent)
