"""The configuration that ran last without a fault, for a start with a file that has errors: a device in the field must not do
nothing because of a wrong edit and a reboot.

It is kept once it has run for a minute, with the small files that it names: labels, certificates, secrets, steps. Models are not:
their private copies are there. It lies in systemd's state directory or the user's own, where it is found whatever a file says, in
one file that a power cut leaves whole; a start that needs it writes it out beside, for those who want to compare.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.config.load import Draft, understand
from edged.config.parsers.value import Surroundings
from edged.config.schema import Config
from edged.daemon.control import identity
from edged.daemon.preflight import state_dir
from edged.notation.units import MIB
from edged.results.encode import rfc3339
from edged.system.durable import read_kept, replaced
from edged.system.one_shot import start_one_shot_thread

HELD_S = 60.0
MAX_BYTES = 16 * MIB
NAME = "last-good"
KEPT, FILE, NAMED = "kept", "edged.toml", "files"

log: Any = structlog.get_logger("edged")


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """`time` is UTC in ns, when it was kept; `files` by their paths."""

    path: str
    time: int
    content: bytes
    files: dict[str, bytes]


def folder(config: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept for the daemon of one configuration."""
    return state_dir(Config(), environ) / NAME / identity(config)


def keep(draft: Draft, utc: int) -> None:
    """Keeps it. Blocks. Raises nothing that a disk may do to us."""
    at = folder(draft.path) / KEPT
    kept = Kept(str(draft.path.absolute()), utc, draft.content, {str(path): data for path, data in draft.files.items()})
    body = msgspec.msgpack.encode(kept)
    if len(body) >= MAX_BYTES:
        log.warning(
            "last_good_not_kept", path=str(at), reason=f"the configuration and its files take more than {MAX_BYTES // MIB} MiB"
        )
        return
    try:
        with replaced(at) as file:
            file.write(zlib.crc32(body).to_bytes(4, "little") + body)
    except OSError as error:
        log.warning("last_good_not_kept", path=str(at), reason=error.strerror)


def find(config: Path, environ: Mapping[str, str] = os.environ) -> tuple[Draft, str] | None:
    """What was kept, as it was read then, and when that was; None if there is none. Raises ConfigError where it does not hold
    here any more."""
    at = folder(config, environ)
    kept = read_kept(at / KEPT, MAX_BYTES, _decode, lost="the configuration to run while the file has errors")
    if kept is None:
        return None
    try:
        copies = _write_out(kept, at)
    except OSError as error:
        log.warning("last_good_not_written", path=str(at), reason=error.strerror, used="the files of the last write")
        copies = {}
    around = Surroundings(config.absolute().parent, environ, copies=copies)
    return replace(understand(config, kept.content, around, copy=at / FILE), is_last_good=True), rfc3339(kept.time)


def _decode(data: bytes) -> Kept:
    if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise ValueError("it is damaged")
    return msgspec.msgpack.decode(data[4:], type=Kept)


def _write_out(kept: Kept, at: Path) -> dict[Path, Path]:
    """Where each file lies now. Raises OSError."""
    shutil.rmtree(at / NAMED, ignore_errors=True)
    copies = {Path(name): at / NAMED / f"{number}-{Path(name).name}" for number, name in enumerate(kept.files)}
    for path, data in [(at / FILE, kept.content), *((copies[Path(name)], data) for name, data in kept.files.items())]:
        with replaced(path) as file:
            file.write(data)
    return copies


class Keeper:
    """Keeps what has run for `held_s`. `running` says what runs from now on."""

    def __init__(self, clock: Clock, held_s: float, keep: Callable[[Draft, int], None] = keep) -> None:
        self._clock = clock
        self._held_s = held_s
        self._keep = keep
        self._timer: asyncio.TimerHandle | None = None

    def running(self, draft: Draft) -> None:
        self.stop()
        if draft.copy is None:
            self._timer = asyncio.get_running_loop().call_later(self._held_s, self._begin, draft)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, draft: Draft) -> None:
        self._timer = None
        start_one_shot_thread("edged-note", lambda: self._keep(draft, self._clock.utc()), lambda _: None)
