"""Notices that files were saved, however they were saved, once they are complete.

The kernel says that something happened in a folder (inotify); what happened is found by looking. A file that was replaced
is taken for complete soon after, one that was written in place only when it was quiet for longer, since its writer may write
it in pieces. Without inotify it is looked at once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from edged.system.inotify import Inotify

REPLACED_S = 0.3
WRITTEN_S = 1.3
LOOK_S = 1.0
"""Between two looks where the kernel does not tell."""
MAX_LINKS = 40
"""The kernel follows no more."""
MAX_FILES = 256
"""Files looked at in one folder."""

Mark = tuple[tuple[str, int, int, int], ...]
"""Of each file: its name, inode, size and time of modification. Empty: there is none."""


class _Change(msgspec.Struct):
    mark: Mark
    since: float
    quiet_s: float


class Watch:
    """`files` says what to watch, by name: files, or folders with all that is directly in them."""

    def __init__(self, files: Callable[[], Mapping[str, Path]]) -> None:
        self._files = files
        self._seen: dict[str, Mark] = {}
        self._changes: dict[str, _Change] = {}

    async def changes(self) -> AsyncIterator[set[str]]:
        """The names of what was saved and is quiet again; first all of them, since nobody looked so far."""
        self._look(0.0)
        yield set(self._seen)
        try:
            async with Inotify() as inotify:
                while True:
                    self._add_folders(inotify)
                    if names := self._complete():  # also what happened while nobody watched
                        yield names
                        continue
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(inotify.changes(), self._wait_s())
        except OSError:  # the kernel gives no more of them
            while True:
                await asyncio.sleep(min(LOOK_S, self._wait_s() or LOOK_S))
                if names := self._complete():
                    yield names

    def _add_folders(self, inotify: Inotify) -> None:
        for path in self._files().values():
            for folder in folders_of(path):
                with contextlib.suppress(OSError):  # it is not there; its parent tells when it is
                    inotify.add(str(folder))

    def _wait_s(self) -> float | None:
        """Until something may be complete; None: nothing is about to be."""
        now = asyncio.get_running_loop().time()
        return max(0.01, min(c.since + c.quiet_s - now for c in self._changes.values())) if self._changes else None

    def _complete(self) -> set[str]:
        now = asyncio.get_running_loop().time()
        self._look(now)
        done = {name for name, c in self._changes.items() if now >= c.since + c.quiet_s}
        for name in done:
            self._seen[name] = self._changes.pop(name).mark
        return done

    def _look(self, now: float) -> None:
        files = self._files()
        for name, path in files.items():
            mark = mark_of(path)
            if name not in self._seen:
                self._seen[name] = mark
            elif mark == self._seen[name] or not mark:  # what is gone may come back in a moment
                self._changes.pop(name, None)
            elif name not in self._changes or self._changes[name].mark != mark:
                before = self._changes[name].mark if name in self._changes else self._seen[name]
                is_replaced = {m[1] for m in mark} != {m[1] for m in before}
                self._changes[name] = _Change(mark, now, REPLACED_S if is_replaced else WRITTEN_S)
        for name in self._seen.keys() - files.keys():
            del self._seen[name]
            self._changes.pop(name, None)


def folders_of(path: Path) -> set[Path]:
    """The folders in which something happens when what `path` leads to is saved, replaced, or gone over to by another link
    anywhere on the way."""
    found: set[Path] = set()
    parts, at = list(reversed(path.absolute().parts)), Path()
    links = 0
    while parts:
        name = parts.pop()
        if name == "..":
            at = at.parent  # no link is left in it
            continue
        before, at = at, at / name
        if os.path.islink(at) and links < MAX_LINKS:
            links += 1
            found.add(before)
            target = Path(os.readlink(at))
            parts += reversed(target.parts)
            at = before if not target.is_absolute() else Path()
        elif not os.path.exists(at):
            return found | {before}
    return found | ({at} if os.path.isdir(at) else set()) | {at.parent}


def mark_of(path: Path) -> Mark:
    """What tells one state of a file, or of the files of a folder, from another."""
    try:
        names = sorted(entry.path for entry in os.scandir(path))[:MAX_FILES] if path.is_dir() else [str(path)]
    except OSError:
        return ()
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            stat = os.stat(name)
            found.append((name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
