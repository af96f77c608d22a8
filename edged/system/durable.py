"""Files that outlive the process: a power cut leaves them as they were or as they are meant to be, and one that is damaged all
the same holds nobody up. All of it waits for the disk: nothing for the loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import structlog

from edged.system.plain_file import UnfitFile, read_plain

T = TypeVar("T")

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


def write_kept(path: Path, data: bytes, event: str, lost: str) -> bool:
    """Keeps it for `read_kept`; whether it is on the disk. If not, that is logged as `event`. `lost`: what is lost by that."""
    log: Any = structlog.get_logger("edged")
    try:
        with replaced(path) as file:
            file.write(data)
    except OSError as error:
        log.warning(event, path=str(path), reason=error.strerror, lost=lost)
        return False
    return True


def read_kept(path: Path, max_bytes: int, decode: Callable[[bytes], T], lost: str) -> T | None:
    """What `decode` finds in a file that an earlier run left; None if it left none. One that is damaged, or not one of
    ours, is moved aside for those who want to know why, and logged. `lost`: what is lost with it, in words."""
    log: Any = structlog.get_logger("edged")
    try:
        return decode(read_plain(path, max_bytes))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("file_not_read", path=str(path), reason=error.strerror, lost=lost)
    except (UnfitFile, ValueError, TypeError, LookupError, RecursionError, msgspec.MsgspecError) as error:
        at = path
        with suppress(OSError):  # a folder that may not be written, or a folder of that name
            at = path.replace(path.with_name(path.name + ASIDE))
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error) or repr(error)
        log.warning("file_moved_aside", path=str(at), reason=reason, lost=lost)
    return None
