"""Files that somebody else may have put there: opened without waiting, plain, bounded before a byte of them is read.

A pipe by the name of a configuration would hold up whoever opens it for ever, /dev/zero and a file of 300 MB would take the
memory. Links are followed: what they lead to is what counts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 1 << 20
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


class UnfitFile(ValueError):
    """It is no plain file, or too large; the text says so without its name."""


@contextmanager
def opened_plain(path: Path, max_bytes: int) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor to read from, and what `fstat` says of it. Raises `OSError`, `UnfitFile`."""
    _must_be_plain(os.stat(path))  # to open a device may do something: /dev/watchdog restarts the machine a minute later
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(fd)  # what was opened by that name now is what counts
        _must_be_plain(status)
        if status.st_size > max_bytes:
            raise UnfitFile(f"expected at most {_amount(max_bytes)}, found {_amount(status.st_size)}")
        yield fd, status
    finally:
        os.close(fd)


def read_plain(path: Path, max_bytes: int) -> bytes:
    """All of a plain file, which may grow while it is read. Raises `OSError` as `open` does, `UnfitFile`."""
    with opened_plain(path, max_bytes) as (fd, _):
        parts, left = [], max_bytes + 1
        while left and (part := os.read(fd, min(left, BLOCK))):
            parts.append(part)
            left -= len(part)
    if not left:
        raise UnfitFile(f"expected at most {_amount(max_bytes)}, found more")
    return b"".join(parts)


def _must_be_plain(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UnfitFile(f"expected a plain file, found {kind}")


def _amount(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size} bytes"
