"""Where the demo runs: a folder, a port and a configuration, beside whatever else runs on the machine.

models/demo.toml is run as it stands where its folder and port are free and the broker speaks MQTT 5; else a copy that
differs in just that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


@contextlib.contextmanager
def folder(wanted: Path) -> Iterator[Path]:
    """`wanted`, held against another demo; a folder of its own, removed afterwards, where that is somebody else's."""
    lock = _take(wanted)
    if lock is not None:
        try:
            yield wanted
        finally:
            os.close(lock)
        return
    own = Path(tempfile.mkdtemp(prefix=f"{wanted.name}-"))
    own.chmod(0o755)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _take(path: Path) -> int | None:
    """A descriptor that holds the lock of a folder of this user's; None if it cannot be had."""
    try:
        path.mkdir(mode=0o755, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return None
        lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def port(wanted: int) -> int:
    """`wanted` if nobody has it on this machine's own addresses, else one that is free."""
    if all(_is_free(family, address, wanted) for family, address in LOOPBACK):
        return wanted
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free: int = s.getsockname()[1]
        return free


def _is_free(family: int, address: str, number: int) -> bool:
    try:
        with socket.socket(family) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            s.bind((address, number))
    except OSError as error:
        return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # no IPv6 here: nobody has its ports
    return True


def configuration(original: Path, place: Path, changes: dict[str, str]) -> Path:
    """`original` itself without changes, else a copy in `place` in which each text of `changes` stands for another."""
    if not changes:
        return original
    text = original.read_text("utf-8")
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"{original}: expected {old!r} once, found it {text.count(old)} times")
        text = text.replace(old, new)
    copy = place / original.name
    copy.write_text(text, "utf-8")
    return copy
