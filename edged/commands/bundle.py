"""What the command `edged bundle` does: packs what a bug report needs into one file, and says what it leaves out.

Nothing is sent anywhere. A part that cannot be had is there as a text that says why: often that is the fault itself.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import platform
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edged import __version__
from edged.commands.doctor import look
from edged.commands.doctor.command import line
from edged.commands.doctor.findings import diagnose
from edged.commands.doctor.gather import gather, live
from edged.commands.doctor.wanted import wanted
from edged.config.lines import shown_line
from edged.config.load import content_of
from edged.daemon.control import ask
from edged.daemon.prepare import prepare
from edged.errors import EX_OK, ConfigError, Fatal
from edged.plan.report import plan_json
from edged.system.process import say

LOG_LINES = 2000
LOG_S = 20.0
WITHHELD = "# a line that may hold a secret is left out here"
LEFT_OUT = """left out:
  - secrets: lines of the configuration that may hold one are replaced, and files and credentials that it names are not read
  - the models themselves: their hashes and sizes are here
  - recordings, and results that wait on disk
inside, so look before you send it:
  - rejects and the newest results: up to 64 bytes of each input that was refused lately, and the last result of each pipeline
  - names of topics, devices, sensors, ports and users of this machine"""


def bundle(config: Path, output: Path | None) -> int:
    """Writes a `.tar.gz`. Raises Fatal when it cannot be written."""
    name = f"edged-bundle-{platform.node() or 'device'}-{time.strftime('%Y%m%dT%H%M%S')}"
    path = output or Path(f"{name}.tar.gz")
    inside = []
    try:
        with tarfile.open(path, "x:gz") as archive:
            for file, content in _contents(config):
                info = tarfile.TarInfo(f"{name}/{file}")
                info.size, info.mtime = len(content), int(time.time())
                archive.addfile(info, io.BytesIO(content))
                inside.append(file)
    except OSError as error:
        raise Fatal(f"{path}: cannot be written: {error.strerror or error}") from None
    say(f"{path}: {', '.join(inside)}\n{LEFT_OUT}")
    return EX_OK


def _contents(config: Path) -> Iterator[tuple[str, bytes]]:
    yield "README.txt", f"edged {__version__}, {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n{LEFT_OUT}\n".encode()
    for file, make in PARTS.items():
        try:
            yield file, make(config)
        except ConfigError as error:
            yield f"{file}.failed.txt", "\n".join([*error.lines, ""]).encode()
        except (OSError, ValueError, Fatal, subprocess.SubprocessError) as error:
            yield f"{file}.failed.txt", f"{error}\n".encode()


def _versions(config: Path) -> bytes:
    installed = {one.name: one.version for one in importlib.metadata.distributions()}
    machine = {"system": platform.platform(), "python": platform.python_version(), "edged": __version__}
    return _json(machine | {"packages": dict(sorted(installed.items()))})


def _doctor(config: Path) -> bytes:
    root = Path("/")
    named = wanted(config, True, look.unit(root).is_there)
    facts = gather(root, named, live(named, config))
    findings = diagnose(facts)
    return _json({"findings": [line(one) for one in findings], "facts": msgspec.to_builtins(facts)})


def _configuration(config: Path) -> bytes:
    text = content_of(config).decode("utf-8-sig", "replace")
    lines = text.split("\n")
    return "\n".join(one if not one.strip() or shown_line(text, i) else WITHHELD for i, one in enumerate(lines, 1)).encode()


def _plan(config: Path) -> bytes:
    prepared = prepare(config)
    return _json({"warnings": [str(one) for one in prepared.warnings], **plan_json(prepared.plan)})


def _models(config: Path) -> bytes:
    prepared = prepare(config)
    found = {name: one.manifest for name, one in prepared.models.items() if one.manifest is not None}
    return _json({n: {"path": str(m.path), "sha256": m.sha256, "version": m.version} for n, m in found.items()})


def _status(config: Path) -> bytes:
    return _json(ask(config, {"command": "status"}))


def _log(config: Path) -> bytes:
    command = ["journalctl", "--unit=edged", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso"]
    done = subprocess.run(command, capture_output=True, timeout=LOG_S, check=False)
    return done.stdout + done.stderr


def _json(facts: Any) -> bytes:
    return json.dumps(facts, indent=2).encode() + b"\n"


PARTS: dict[str, Callable[[Path], bytes]] = {
    "versions.json": _versions,
    "doctor.json": _doctor,
    "edged.toml": _configuration,
    "plan.json": _plan,
    "models.json": _models,
    "status.json": _status,
    "log.txt": _log,
}
