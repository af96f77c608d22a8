"""A look at what a configuration names outside of itself, before anything is opened for work: ports, recordings, the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edged.config.ports import shared_port
from edged.config.schema import Config
from edged.errors import Problem
from edged.plan.scope import Scope
from edged.sources.kinds import KINDS, kind_of
from edged.system.rights import who_may_write


def _ports_here() -> Sequence[str]:
    from edged.serialport.discovery import ports_here

    return ports_here()


def look_outside(config: Config, ports: Callable[[], Sequence[str]] = _ports_here) -> list[Problem]:
    """Warnings of what is not there now, since it may come; errors of recordings that are not what is said of them.

    `ports` tells the serial ports of this machine."""
    problems: list[Problem] = []
    for name, source in config.source.items():
        if not shared_port(source):
            kind_of(source).look(Scope(f"source.{name}", problems), source, ports)
    for name, port in config.port.items():
        KINDS["serial"].get().look(Scope(f"port.{name}", problems), port, ports)
    for key, folder in (("device.state_dir", config.device.state_dir), ("spool.path", config.spool.path)):
        if folder is not None and (why := cannot_be_made(folder)):
            problems.append(Problem(key, f"{why}; choose a folder such as /var/lib/edged"))
    _look_for_orphans(config, problems)
    return problems


def cannot_be_made(folder: Path) -> str:
    """Why there can be no folder here for anybody; empty where nothing speaks against it. Whether this user may make it, and
    whether there is room, is not asked: the daemon may be another user."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is no folder"
    try:
        disk = os.statvfs(there)
    except OSError as error:
        return f"{there} cannot be used: {(error.strerror or 'unknown error').lower()}"
    if disk.f_blocks == 0 and disk.f_bavail == 0:  # as of /proc and /sys
        return f"{there} is the kernel's own, and keeps no files"
    return ""


def look_at_rights(path: Path, config: Config, uid: int) -> list[Problem]:
    """Warnings for a daemon of root: whoever may write what it runs, or what tells it what to run, is root with it."""
    if uid != 0:
        return []
    files = {"": path}
    for name, pipeline in config.pipeline.items():
        files |= {f"pipeline.{name}.{key}": function.path for key, function in pipeline.functions.items()}
    files |= {f"behaviour.{name}.run": behaviour.run.path for name, behaviour in config.behaviour.items()}
    problems: list[Problem] = []
    for key, file in files.items():
        if (who := who_may_write(file)) is not None:
            fix = "whatever they write there runs as root; give it to root alone, or run edged as a user of its own"
            Scope(key, problems).warn("", f"edged runs as root, and {who}: {fix}")
    return problems


def state_dir(config: Config, environ: Mapping[str, str] = os.environ) -> Path:
    """Where to keep what must outlive a restart."""
    if config.device.state_dir is not None:
        return config.device.state_dir
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]  # systemd gives several, joined by colons, to units that ask
    if given:
        return Path(given)
    try:
        return Path.home() / ".local" / "state" / "edged"
    except RuntimeError:  # a user without a home
        return Path("/var/lib/edged")


def _look_for_orphans(config: Config, problems: list[Problem]) -> None:
    folder = config.spool.path or state_dir(config) / "spool"
    try:
        kept = {f.name: sum(1 for _ in f.glob("*.log")) for f in folder.iterdir() if f.is_dir()}
    except OSError:  # most often there is none yet
        return
    for name, count in sorted(kept.items()):
        if count and name not in config.broker:
            text = f"{count} files of results wait in {folder / name}, and no broker is called {name}"
            Scope("spool", problems).warn(
                "", f"{text}: they stay until other results need the space; delete the folder if nobody wants them"
            )


def free_bytes(folder: Path) -> int:
    """Room on the disk on which a folder is, or would be made; 0 if nobody knows."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
