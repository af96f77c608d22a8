"""Files that a power cut leaves as they were or as they are meant to be. All of it waits for the disk: nothing for the loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NEW, ASIDE = ".new", ".aside"


def sync(path: Path) -> None:
    """What is in a file, or which names are in a folder, is on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def replaced(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, and is on the disk, when the block ends well; else there is no trace of it. Makes
    missing folders. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(path.name + NEW)
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync(path.parent)


def set_aside(path: Path) -> Path:
    """Takes a file that is damaged, or none of ours, out of the way, in the place of one from before: for those who want to know
    why. Returns where it is, or was left."""
    aside = path.with_name(path.name + ASIDE)
    try:
        path.replace(aside)
    except OSError:  # a folder may not be written, or a folder is there
        return path
    return aside
