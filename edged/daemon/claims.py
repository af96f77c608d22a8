"""One daemon a configuration, and one a state directory: two would throw each other off the broker, and spoil each other's state.

A lock of the kernel on a file that has the process's number and its configuration in it: whatever ends the process frees it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any

import structlog

from edged.daemon.control import LOCK, LOCK_BYTES, find_locks, folders, own_folder, socket_name
from edged.errors import EX_UNAVAILABLE, Fatal
from edged.system.plain_file import UnfitFile, read_plain

NAME = "lock"
UNGUARDED = "the guard against a second daemon beside this one"

log: Any = structlog.get_logger("edged")


class Claims:
    """What this daemon has to itself, for as long as the block runs."""

    def __init__(self, config: Path) -> None:
        self._config = config.absolute()
        self._held: dict[Path, int] = {}

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        for path, fd in self._held.items():
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(fd)

    def configuration(self) -> None:
        """Raises Fatal when another daemon runs with it."""
        name = Path(socket_name(self._config)).with_suffix(LOCK).name
        for lock in [*(folder / name for folder in folders()), *find_locks(self._config)]:
            _must_be_free(lock, f"runs with {self._config}", " first")
        try:
            folder = own_folder()
        except OSError as error:
            log.warning("not_locked", config=str(self._config), reason=str(error), lost=UNGUARDED)
            return
        self._claim(folder / name, f"runs with {self._config}", " first")

    def state(self, folder: Path) -> None:
        """Raises Fatal when another daemon keeps its state there."""
        if folder / NAME not in self._held:
            fix = ", or give each daemon its own device.state_dir"
            self._claim(folder / NAME, f"keeps its state in {folder}", fix)

    def _claim(self, path: Path, does: str, fix: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            while True:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
                try:
                    _lock(fd, path, does, fix)
                    if _is_at(fd, path):  # else its holder has just removed it
                        os.ftruncate(fd, 0)
                        os.pwrite(fd, f"{os.getpid()}\n{self._config}\n".encode(), 0)
                        break
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)
        except OSError as error:  # a device must start, also where nothing can be written
            log.warning("not_locked", path=str(path), reason=error.strerror, lost=UNGUARDED)
        else:
            self._held[path] = fd


def _must_be_free(path: Path, does: str, fix: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # most often there is none
        return
    try:
        _lock(fd, path, does, fix)
    finally:
        os.close(fd)


def _lock(fd: int, path: Path, does: str, fix: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Fatal(f"another edged{_holder(path)} {does}: stop it{fix}", EX_UNAVAILABLE) from None


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, UnfitFile):
        pid = read_plain(path, LOCK_BYTES).split(b"\n")[0]
        if pid.isdigit():
            return f" (process {int(pid)})"
    return ""


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
