"""What changes in folders, told by the kernel: inotify through ctypes, on the loop, without a thread.

Folders are watched, not files: an editor that replaces a file, a symlink that is swapped and a device that comes back
all show as names in a folder.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from typing import NamedTuple

# linux/inotify.h
ATTRIB, CLOSE_WRITE = 0x004, 0x008
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x040, 0x080, 0x100, 0x200, 0x400, 0x800
OVERFLOW, IGNORED = 0x4000, 0x8000
ANY_CHANGE = ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
ONLYDIR = 0x01000000

_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_READ_BYTES = 16 * 1024


class Change(NamedTuple):
    """`name` in `folder` changed as `mask` says. With the bit OVERFLOW, changes were lost: look at everything again."""

    folder: str
    name: str
    mask: int


class Inotify:
    """`async with Inotify() as watch: watch.add("/dev"); changes = await watch.changes()`.

    Raises OSError where the kernel gives no more of them (fs.inotify.max_user_instances): fall back on looking.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._folders: dict[int, str] = {}
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Inotify:
        self._fd = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        try:
            await asyncio.sleep(0)  # uvloop lets go of a descriptor only on its next turn
        finally:
            os.close(self._fd)

    def add(self, folder: str, mask: int = ANY_CHANGE) -> None:
        """Watches `folder` as well. Raises OSError if it is not there."""
        watch = self._call("inotify_add_watch", self._fd, os.fsencode(folder), ctypes.c_uint32(mask | ONLYDIR))
        self._folders[watch] = folder

    async def changes(self) -> list[Change]:
        """The changes since the last call; waits until there are some. May be cancelled without losing any."""
        while not (found := self._read()):
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            loop.add_reader(self._fd, self._wake)
            try:
                await self._waiter
            finally:
                loop.remove_reader(self._fd)
        return found

    def _wake(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read(self) -> list[Change]:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            name = os.fsdecode(data[at - length : at].rstrip(b"\0"))
            if mask & IGNORED:  # the folder is gone, and its watch with it
                self._folders.pop(watch, None)
            else:
                found.append(Change(self._folders.get(watch, ""), name, mask))
        return found

    def _call(self, name: str, *arguments: object) -> int:
        answer = int(getattr(self._libc, name)(*arguments))
        if answer < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")
        return answer
