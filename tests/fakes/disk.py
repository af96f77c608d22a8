"""A disk with a page cache that can lose power, fill up and fail: for the spool's tests. It keeps the promises of
`edged.spool.store.Disk`, as tests/spool/test_disk.py makes sure, and no more than a real one keeps.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable

from edged.spool.store import SyncFailed

PAGE = 4096


class PowerCut(BaseException):
    """The machine is off; what comes next is `FakeDisk.crash`."""


class FakeDisk:
    """`room`: bytes that fit, None for any. `cut_in`: steps until the power is cut. `bad_syncs`, `bad_writes`, `bad_reads`:
    how many of the next ones fail. `written`: bytes so far, without the zeros; `commits`: by so many syncs."""

    def __init__(self, rng: random.Random | None = None, room: int | None = None) -> None:
        self.rng = rng or random.Random(0)
        self.room = room
        self.cut_in: int | None = None
        self.bad_syncs = 0
        self.bad_writes = 0
        self.bad_reads = 0
        self.written = 0
        self.commits = 0
        self.cache: dict[str, bytearray] = {}
        self.platter: dict[str, bytes] = {}

    # What a disk does

    def list(self) -> Iterable[tuple[str, int]]:
        return sorted((name, len(data)) for name, data in self.cache.items())

    def read(self, name: str, offset: int, size: int) -> bytes:
        if self.bad_reads:
            self.bad_reads -= 1
            raise OSError(errno.EIO, "Input/output error")
        if name not in self.cache:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return bytes(self.cache[name][offset : offset + size])

    def write(self, name: str, offset: int, data: bytes, size: int) -> int:
        if offset == 0:
            if name in self.cache:
                raise FileExistsError(errno.EEXIST, "File exists", name)
            self.cache[name] = bytearray()
        if name not in self.cache:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        file = self.cache[name]
        before = len(file)
        if self.bad_writes:
            self.bad_writes -= 1
            raise OSError(errno.EROFS, "Read-only file system")
        for start in range(0, len(data), PAGE):
            part = data[start : start + PAGE]
            self._step()
            if self._free(name) < offset + start + len(part) - len(file):
                del file[before:]
                raise OSError(errno.ENOSPC, "No space left on device")
            file[offset + start : offset + start + len(part)] = part
        grown = min(max(size, len(file)), len(file) + self._free(name))
        file += bytes(grown - len(file))
        self._step()
        if self.bad_syncs:
            self.bad_syncs -= 1
            self._write_back(name)
            raise SyncFailed(errno.EIO, "Input/output error")
        self.written += len(data)
        self.commits += 1
        self.platter[name] = bytes(file)
        self._step()
        return len(file)

    def replace(self, name: str, data: bytes) -> None:
        self._step()
        self.cache[name] = bytearray(data)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._step()
            self.cache.pop(name, None)
            self.platter.pop(name, None)

    def rename(self, name: str, new: str) -> None:
        self._step()
        if name in self.cache:
            self.cache[new] = self.cache.pop(name)
        if name in self.platter:
            self.platter[new] = self.platter.pop(name)

    def close(self) -> None:
        pass

    # What may happen to it

    def writeback(self) -> None:
        """The kernel writes some of what nobody asked for yet."""
        for name in list(self.cache):
            if self.rng.random() < 0.5:
                self._write_back(name)

    def crash(self) -> FakeDisk:
        """The disk as it is found after a power cut: what was synced, and any part of what was not."""
        self.cut_in = None
        for name in list(self.cache):
            self._write_back(name)
        after = FakeDisk(self.rng, self.room)
        after.platter = dict(self.platter)
        after.cache = {name: bytearray(data) for name, data in after.platter.items()}
        return after

    def _write_back(self, name: str) -> None:
        """Any of the file's pages may have reached the platter, in any order, and the file may have grown or not."""
        old, new = self.platter.get(name), bytes(self.cache[name])
        if old is None and self.rng.random() < 0.5:
            return
        old = old or b""
        size = self.rng.choice([len(old), len(new), self.rng.randint(min(len(old), len(new)), max(len(old), len(new)))])
        size = max(size, len(old)) if len(new) >= len(old) else size
        data = bytearray(old.ljust(size, b"\0")[:size])
        for start in range(0, size, PAGE):
            if self.rng.random() < 0.5:
                part = new[start : min(start + PAGE, size)]
                data[start : start + len(part)] = part
        self.platter[name] = bytes(data)

    def _free(self, name: str) -> int:
        return 1 << 40 if self.room is None else max(0, self.room - sum(map(len, self.cache.values())))

    def _step(self) -> None:
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                raise PowerCut
