"""The real disk. Everything here blocks and runs in the spool's thread, or at the start."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from edged.spool.store import MAX_BYTES, SyncFailed
from edged.system.durable import sync
from edged.system.plain_file import UnfitFile, opened_plain


class FileDisk:
    """Files below one folder. Files are opened for one operation and closed after it: what a sync reports then belongs to
    the write before it. The folder is locked from the first operation that finds it: two daemons in one folder would each
    take the other's records for their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = -1

    def close(self) -> None:
        """Gives the folder free."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def list(self) -> Iterable[tuple[str, int]]:
        if not self.root.is_dir():
            return []
        self._claim()
        with os.scandir(self.root) as entries:
            folders = [f for f in entries if f.is_dir(follow_symlinks=False)]
        files = []
        for folder in folders:
            with os.scandir(folder) as entries:
                files += [(f"{folder.name}/{f.name}", f.stat().st_size) for f in entries if f.is_file(follow_symlinks=False)]
        return sorted(files)

    def read(self, name: str, offset: int, size: int) -> bytes:
        try:
            with opened_plain(self.root / name, MAX_BYTES) as (fd, _):
                parts = []
                while size > 0 and (data := os.pread(fd, size, offset)):
                    parts.append(data)
                    offset += len(data)
                    size -= len(data)
                return b"".join(parts)
        except UnfitFile as error:
            raise OSError(errno.EINVAL, str(error)) from None

    def write(self, name: str, offset: int, data: bytes, size: int) -> int:
        path = self.root / name
        is_new = offset == 0
        if is_new:
            self._make_folder(path.parent)
        self._claim()
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o600)
        try:
            before = os.fstat(fd).st_size
            try:
                _write_all(fd, data, offset)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, before)
                raise
            end = offset + len(data)
            if size > max(before, end):
                with contextlib.suppress(OSError):  # no room for more than the data itself
                    _write_all(fd, bytes(size - max(before, end)), max(before, end))
            try:
                os.fdatasync(fd)
            except OSError as error:
                raise SyncFailed(error.errno, error.strerror) from error
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        if is_new:
            try:
                sync(path.parent)
            except OSError as error:
                raise SyncFailed(error.errno, error.strerror) from error
        return size

    def replace(self, name: str, data: bytes) -> None:
        path = self.root / name
        new = path.with_name(f"{path.name}.new")
        with contextlib.suppress(FileNotFoundError):  # the folder went, and with it what there was to note
            new.write_bytes(data)
            os.replace(new, path)

    def remove(self, names: Iterable[str]) -> None:
        folders = set()
        for name in names:
            path = self.root / name
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                sync(folder)

    def rename(self, name: str, new: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.root / name, self.root / new)
            sync((self.root / new).parent)

    def _claim(self) -> None:
        if self._lock >= 0 and os.path.samestat(os.fstat(self._lock), os.stat(self.root)):
            return
        self.close()  # that folder was removed
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise OSError(errno.EBUSY, "another edged uses this folder: give each daemon its own device.state_dir") from error
        self._lock = fd

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            for parent in (folder.parent, folder.parent.parent):
                sync(parent)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
