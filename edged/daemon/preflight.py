"""A look at what a configuration names outside of itself, before anything is opened for work: ports, recordings, the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from edged.config.schema import Config, Function, ReplaySource, SerialSource
from edged.config.words import did_you_mean, listed
from edged.errors import Problem
from edged.plan.scope import Scope
from edged.serialport.faults import is_no_port, missing
from edged.serialport.port import find, port_name, ports_here
from edged.sources.recording import MAX_BYTES, read_header
from edged.system.plain_file import opened_plain
from edged.system.rights import who_may_write

HEADER_BYTES = 64 * 1024


def look_outside(config: Config, ports: Callable[[], Sequence[str]] = ports_here) -> list[Problem]:
    """Warnings of what is not there now, since it may come; errors of recordings that are not what is said of them.

    `ports` tells the serial ports of this machine."""
    problems: list[Problem] = []
    for name, source in config.source.items():
        at = Scope(f"source.{name}", problems)
        if isinstance(source, SerialSource):
            _look_at_port(at, source, ports)
        elif isinstance(source, ReplaySource):
            _look_at_recording(at, source)
    _look_for_orphans(config, problems)
    return problems


def look_at_rights(path: Path, config: Config, uid: int) -> list[Problem]:
    """Warnings for a daemon of root: whoever may write what it runs, or what tells it what to run, is root with it."""
    if uid != 0:
        return []
    files = {"": path}
    for name, pipeline in config.pipeline.items():
        steps = [step.step for step in pipeline.preprocess or ()]
        for key, functions in (("preprocess", steps), ("postprocess", pipeline.postprocess or ())):
            files |= {f"pipeline.{name}.{key}[{i}]": f.path for i, f in enumerate(functions) if isinstance(f, Function)}
    problems: list[Problem] = []
    for key, file in files.items():
        if (who := who_may_write(file)) is not None:
            cure = "what is written there runs as root too; give it to root alone, or run edged as a user of its own"
            Scope(key, problems).warn("", f"edged runs as root, and {who}: {cure}")
    return problems


def _look_at_port(at: Scope, source: SerialSource, ports: Callable[[], Sequence[str]]) -> None:
    if find(source.port) is None:
        at.warn("port", missing(port_name(source.port), ports()).reason)
    elif isinstance(source.port, str) and (text := is_no_port(source.port, ports)):
        at.warn("port", text)


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
                "", f"{text}: they stay until others need the room; delete the folder if nobody wants them"
            )


def free_bytes(folder: Path) -> int:
    """Room on the disk on which a folder is, or would be made; 0 if nobody knows."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _look_at_recording(at: Scope, source: ReplaySource) -> None:
    try:
        with opened_plain(source.path, MAX_BYTES) as (fd, _), open(fd, "rb", closefd=False) as file:
            is_plain = read_header(file) is None
            first_line = file.read(HEADER_BYTES).partition(b"\n")[0]
    except FileNotFoundError:
        at.warn("path", f"{source.path} is not there (tried again for ever)")
        return
    except (OSError, ValueError) as error:
        at.wrong("path", f"{source.path}: {getattr(error, 'strerror', None) or error}")
        return
    if is_plain and source.decode.header and source.frame.type == "line":
        columns = [
            c.strip().strip('"') for c in first_line.decode("utf-8", "replace").lstrip("\ufeff").split(source.decode.separator)
        ]
        for key, field in _fields(source):
            if field not in columns:
                text = f'"{field}" is not in the header of {source.path}: {listed(columns)}'
                at.wrong(key, text + did_you_mean(field, columns))


def _fields(source: ReplaySource) -> Iterator[tuple[str, str]]:
    """The columns that must be there, with the keys that name them."""
    for i, field in enumerate(source.decode.fields):
        if field.name != "_":
            yield f"decode.fields[{i}]", field.name
    if source.decode.time is not None:
        yield "decode.time.field", source.decode.time.field
    for i, name in enumerate(source.key or ()):
        yield f"key[{i}]", name
