"""Who else on this machine may read a file, or put another one in its place, by owners and modes (not by ACLs). Blocks."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path


def others_may_read(file: Path) -> bool:
    """Whether any user may: the file and every folder on the way to it are open to others."""
    real = file.resolve()
    try:
        is_reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
        return is_reached and bool(real.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def who_may_write(file: Path) -> str | None:
    """Who besides root may change a file or put another one in its place; None: nobody."""
    real = file.resolve()
    for one in dict.fromkeys((real, *real.parents, *file.absolute().parents)):
        try:
            found = one.stat()
        except OSError:
            continue
        keeps_others_off = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX  # as /tmp does
        if found.st_uid != 0:
            return f"{one} belongs to {_name(one.owner, found.st_uid)}"
        if found.st_mode & stat.S_IWOTH and not keeps_others_off:
            return f"everybody may write to {one}"
        if found.st_mode & stat.S_IWGRP and found.st_gid != 0 and not keeps_others_off:
            return f"group {_name(one.group, found.st_gid)} may write to {one}"
    return None


def _name(ask: Callable[[], str], number: int) -> str:
    try:
        return ask()
    except (KeyError, OSError):
        return str(number)
