"""Which serial ports this machine has, under which path a port is there now, and when one appears. It opens none.

pyserial's `list_ports` enumerates them; a path is a port for as long as it exists. Nothing spins while a port is away.
"""

from __future__ import annotations

import asyncio
import glob
import os
import time
from contextlib import suppress
from typing import Protocol

from serial.tools import list_ports

from edged.errors import Retryable
from edged.serialport import faults
from edged.system.inotify import Inotify

SEARCH_S = 1.0  # how often it looks for a port that it waits for, where inotify reports nothing
MAX_TOLD = 16  # ports that inotify tells of at a time
SETTLE_S = 1.0  # how long udev may take to give a new device its owner


class UsbId(Protocol):
    """A device by what it says of itself on the bus; `serial` may be None where one is plugged in at a time."""

    @property
    def vid(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def serial(self) -> str | None: ...


def port_name(port: str | UsbId) -> str:
    """How a port is called in messages."""
    if isinstance(port, str):
        return port
    return f"USB device {port.vid:04x}:{port.pid:04x}" + (f" serial number {port.serial}" if port.serial else "")


def find(port: str | UsbId) -> str | None:
    """The path that `port` has at this moment, None when it is not there."""
    if isinstance(port, str):
        return port if os.path.exists(port) else None
    for found in list_ports.comports():
        if (found.vid, found.pid) == (port.vid, port.pid) and port.serial in (None, found.serial_number):
            return str(found.device)
    return None


def missing(port: str | UsbId) -> Retryable:
    """Says that `port` is not there, and what is."""
    return faults.missing(port_name(port), ports_here())


def ports_here() -> list[str]:
    """The serial ports of this machine as a person knows them, for a message."""
    by_id = sorted(glob.glob("/dev/serial/by-id/*"))
    return by_id or sorted(f"{p.device} ({p.description})" if p.vid else p.device for p in list_ports.comports())


def usb_ports() -> list[str]:
    """The serial ports that are USB devices, by names that they keep where there are such."""
    return sorted(glob.glob("/dev/serial/by-id/*")) or sorted(str(p.device) for p in list_ports.comports() if p.vid)


async def appeared(port: str | UsbId) -> None:
    """Returns soon after `port` is there and may be opened: by inotify, and by a look once per second where that reports nothing.

    Permissions that udev has not set after SETTLE_S are left for the opening to complain of.
    """
    seen_at: float | None = None
    async with _Folders() as folders:
        while True:
            folders.follow(port if isinstance(port, str) else "/dev/tty")
            path = find(port)
            if path is not None:
                seen_at = seen_at or time.monotonic()
                if os.access(path, os.R_OK | os.W_OK) or time.monotonic() - seen_at >= SETTLE_S:
                    return
            await folders.changed(SEARCH_S)


class _Folders:
    """Waits for a change near a path: in the deepest of its folders that exists, and in that of what it links to."""

    told = 0
    """How many are told by inotify now. The kernel gives a user 128 instances, and other programs want some."""

    async def __aenter__(self) -> _Folders:
        self._inotify: Inotify | None = None
        if _Folders.told < MAX_TOLD:  # looking once a second has to do for more, and where the user has none left
            with suppress(OSError):
                self._inotify = await Inotify().__aenter__()
                _Folders.told += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._inotify is not None:
            _Folders.told -= 1
            await self._inotify.__aexit__()

    def follow(self, path: str) -> None:
        if self._inotify is None:
            return
        for near in {path, os.path.realpath(path)}:
            folder = os.path.dirname(near)
            while not os.path.isdir(folder) and folder not in ("/", ""):
                folder = os.path.dirname(folder)
            with suppress(OSError):
                self._inotify.add(folder or ".")

    async def changed(self, limit_s: float) -> None:
        if self._inotify is None:
            await asyncio.sleep(limit_s)
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._inotify.changes(), limit_s)
