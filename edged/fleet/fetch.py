"""Fetches one file over https, in a thread: no faster than allowed, from where it was cut off, and only what was announced.

It gives up on whoever is slower than `min_rate` for `patience_s`, follows no redirect, and keeps what came for the next try.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from edged.fleet.announcement import Refused
from edged.system.durable import sync

BLOCK = 1 << 14
CONNECT_S = 10.0
"""For a connection, an answer, and between any two bytes."""
SYNC_BYTES = 1 << 22
"""So much may be fetched again after a power cut."""
FULL = (errno.ENOSPC, errno.EDQUOT)
OF_DISK = (*FULL, errno.EIO, errno.EROFS)


class Cancelled(Exception):
    """Somebody else was announced, or edged stops."""


class Failed(Exception):
    """It may work later; the text says why it did not now."""


class Limits(NamedTuple):
    """`bandwidth` bytes per second at most, at least `min_rate` over `patience_s`."""

    bandwidth: int
    min_rate: int = 256
    patience_s: float = 20.0


def fetch(
    url: str, sha256: str, size: int, folder: Path, context: ssl.SSLContext, limits: Limits, is_cancelled: Callable[[], bool]
) -> Path:
    """The file, whole and proved, as `folder/SHA256`. Raises Failed (try again), Refused (never), Cancelled, OSError."""
    target, path = folder / sha256, folder / f"{sha256}.part"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if target.exists():
        return target
    part = _Part(path, size)
    try:
        if part.have < size:
            _download(url, part, context, limits, is_cancelled)
    finally:
        found = part.close()
    if found != sha256:
        path.unlink()
        raise Refused("what the server sent is not what was announced: another SHA-256")
    path.rename(target)
    sync(folder)
    return target


class _Part:
    """What is here of the file: on disk, and in its hash."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b", buffering=0)  # noqa: SIM115
        self._unsynced = 0
        self.clear(keeps_file=True)
        if os.fstat(self._file.fileno()).st_size > size:
            self.clear()
        while block := self._file.read(1 << 18):
            self._digest.update(block)
            self.have += len(block)

    def clear(self, keeps_file: bool = False) -> None:
        self._digest, self.have = hashlib.sha256(), 0
        if not keeps_file:
            self._file.seek(0)
            self._file.truncate()

    def add(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[self._file.write(view) :]
        self._digest.update(block)
        self.have += len(block)
        self._unsynced += len(block)
        if self._unsynced >= SYNC_BYTES:
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def close(self) -> str:
        """Its SHA-256. Synced."""
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
        return self._digest.hexdigest()


def _download(url: str, part: _Part, context: ssl.SSLContext, limits: Limits, is_cancelled: Callable[[], bool]) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=CONNECT_S, context=context)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Range": f"bytes={part.have}-"} if part.have else {})
        response = connection.getresponse()
        _begin(response, part)
        _take(response, part, limits, is_cancelled)
    except ssl.SSLCertVerificationError as error:
        raise Failed(f"the server's certificate is not valid: {error.verify_message}; see fleet.ca, and the clock") from None
    except http.client.HTTPException as error:
        raise Failed(f"{parts.hostname}: {error or type(error).__name__}") from None
    except OSError as error:
        if error.errno in OF_DISK:
            raise
        raise Failed(f"{parts.hostname}: {error or type(error).__name__}") from None
    finally:
        connection.close()


def _begin(response: http.client.HTTPResponse, part: _Part) -> None:
    """Whether the answer is what was asked for."""
    status, size = response.status, part.size
    if 300 <= status < 400:
        where = str(response.headers.get("Location"))[:200]
        raise Refused(f"the server redirects ({status} to {where}), and edged follows no redirect")
    if status == 206:
        wanted, found = f"bytes {part.have}-{size - 1}/{size}", response.headers.get("Content-Range", "")[:80]
        if found != wanted:
            raise Refused(f"the server has a file of another size: {found}, and {wanted} was announced")
        return
    if status == 416:
        raise Refused("the server's file is shorter than was announced")
    if status != 200:
        raise Failed(f"the server answers {status} {response.reason[:80]}")
    if part.have:  # it knows no ranges: all of it again
        part.clear()
    length = response.headers.get("Content-Length")
    if length is not None and length != str(size):
        raise Refused(f"the server's file has {length[:20]} bytes, and {size} were announced")


def _take(response: http.client.HTTPResponse, part: _Part, limits: Limits, is_cancelled: Callable[[], bool]) -> None:
    began = mark = time.monotonic()
    first = marked = part.have
    while part.have < part.size:
        if is_cancelled():
            raise Cancelled
        block = response.read1(min(BLOCK, part.size - part.have))
        if not block:
            raise Failed(f"the connection ended after {part.have} of {part.size} bytes")
        part.add(block)
        now = time.monotonic()
        if now - mark >= limits.patience_s:
            if part.have - marked < limits.min_rate * limits.patience_s:
                raise Failed(f"the server sends less than {limits.min_rate} bytes per second")
            mark, marked = now, part.have
        ahead = (part.have - first) / limits.bandwidth - (now - began)
        while ahead > 0 and not is_cancelled():
            time.sleep(min(ahead, 0.5))
            ahead -= 0.5
