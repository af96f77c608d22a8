"""What `edged service` does: puts edged under systemd on a machine where it was installed by pip or uv.

The unit is the one that ships in the package, with the path of this very program in it. What is there already is said and
kept: a configuration is never written over.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from edged.errors import EX_OK, EX_SOFTWARE, Fatal
from edged.system.process import complain, say

UNIT = Path(__file__).parents[1] / "edged.service"
USER = "edged"
NAME = "edged.service"
INSTALLED = "/opt/edged/current/venv/bin/edged"
"""The program in the unit as it ships, where `make deploy` puts it."""
FIRST = """\
# edged's configuration. `edged help` explains its keys, and `edged check` checks it.
[broker.main]
url = "mqtt://localhost"

[source.example]
type = "simulate"
signal = "vibration"
rate = 100

[pipeline.copy]
source = "example"
window = { size = 100 }
"""


def unit_text(program: list[str]) -> str:
    """The unit for a program that is called so."""
    text = UNIT.read_text("utf-8")
    if text.count(INSTALLED) != 1:
        raise Fatal(f"{UNIT}: expected {INSTALLED} once")
    text = text.replace(INSTALLED, " ".join(program))
    homes = ("/home/", "/root/")
    if any(part.startswith(homes) for part in program):  # ProtectHome hides what it is to run
        text = text.replace("ProtectHome=yes", "ProtectHome=read-only")
    return text


def program_here() -> list[str]:
    """How this installation is called, whatever PATH says."""
    return [sys.executable, "-m", "edged"]


def closed_to_others(program: Path) -> Path | None:
    """The folder on the way to a program, links followed, that only its owner may enter."""
    for path in (program.absolute(), program.resolve()):
        for folder in path.parents:
            if not folder.stat().st_mode & 0o001:
                return folder
    return None


def install(root: Path = Path("/"), starts: bool = True) -> int:
    """Writes the unit and, where there is none, a configuration; makes the user; starts the service. `root`: into the tree of
    another system, where nothing is started. Raises Fatal."""
    is_here = root == Path("/")
    if is_here and os.geteuid() != 0:
        raise Fatal(f"service install writes /etc/systemd/system/{NAME}; try sudo {' '.join(program_here())} service install")
    program = program_here()
    if is_here and (closed := closed_to_others(Path(program[0]))) is not None:
        raise Fatal(f"user {USER}, as which the service runs, may not enter {closed}: install edged in a venv such as /opt/edged")
    folder = root / "etc/systemd/system"
    config = root / "etc/edged" / "edged.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        config.parent.mkdir(parents=True, exist_ok=True)
        (folder / NAME).write_text(unit_text(program), "utf-8")
        say(f"{folder / NAME}: written")
        if config.exists():
            say(f"{config}: kept as it is")
        else:
            config.write_text(FIRST, "utf-8")
            config.chmod(0o640)
            say(f"{config}: written, with a simulated sensor; replace it with yours")
    except OSError as error:
        raise Fatal(f"{error.filename}: {error.strerror}") from error
    if not is_here:
        return EX_OK
    _make_user()
    shutil.chown(config.parent, USER, USER)
    shutil.chown(config, USER, USER)
    return _systemctl([["daemon-reload"], ["enable", *(["--now"] if starts else []), NAME]])


def remove() -> int:
    """Stops the service and takes the unit away; configuration, state and user stay. Raises Fatal."""
    if os.geteuid() != 0:
        raise Fatal(f"service remove deletes /etc/systemd/system/{NAME}; try sudo {' '.join(program_here())} service remove")
    path = Path("/etc/systemd/system") / NAME
    if not path.exists():
        raise Fatal(f"{path} is not there: the service is not installed")
    code = _systemctl([["disable", "--now", NAME]])
    path.unlink()
    say(f"{path}: removed; /etc/edged and /var/lib/edged stay")
    return _systemctl([["daemon-reload"]]) or code


def _make_user() -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(USER)
        return
    _run(["useradd", "--system", "--user-group", "--home-dir", "/var/lib/edged", "--shell", "/usr/sbin/nologin", USER])
    with contextlib.suppress(KeyError):
        grp.getgrnam("dialout")
        _run(["usermod", "--append", "--groups", "dialout", USER])
    say(f"user {USER}: made")


def _systemctl(calls: list[list[str]]) -> int:
    if not Path("/run/systemd/system").is_dir():
        complain("systemd does not run here: the unit is in place, and starts with it")
        return EX_OK
    for words in calls:
        _run(["systemctl", *words])
    return EX_OK


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Fatal(f"{command[0]}: {error.strerror}", EX_SOFTWARE) from error
    if done.returncode:
        raise Fatal(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}", EX_SOFTWARE)
