"""An open serial port: `await port.read()`, or `await port.read_each(take)`. `discovery` finds it, and waits for it.

pyserial opens and configures; reading is `os.read` on the loop's word. An empty read, EIO, SerialException and termios.error
are one event: the device is gone. `faults` says what each fault means.

Invariants: a descriptor is watched by one object, let go before it is closed, and closed on a later turn of the loop
(uvloop unregisters late; a number that is reused too early would silence its new owner).
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import select
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import serial

from edged.clock.timed_event import TimedEvent
from edged.errors import Retryable
from edged.serialport import faults, terminal
from edged.serialport.discovery import UsbId, find, missing, port_name, ports_here
from edged.serialport.marks import Marks
from edged.serialport.watcher import Watcher
from edged.system.one_shot import Few, in_one_shot_thread

BLOCK_BYTES = 64 * 1024
"""The most that one read returns."""

TTY_BYTES = 4096  # a tty hands out up to 4095 bytes at a time
SHORT_READ = 1024  # less than this and there is nothing more
LOOK_S = 1.0  # how often an open port is looked at: whether it is still there, and as it was set
MIDWAY_S = 0.02  # a device that sends so soon after the port was opened was in the middle of something
MIDWAY_BITS = 33  # three characters, where that is longer
OPENING = Few(8, 1.0)  # ports that are opened at a time, each in a thread: systemd may allow no more than 64

TIOCGEXCL = 0x80045440
PARITIES = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


class LineSettings(Protocol):
    """What `[source.NAME]` says about its port; the words are those of the configuration."""

    @property
    def port(self) -> str | UsbId: ...
    @property
    def baudrate(self) -> int: ...
    @property
    def bytesize(self) -> int: ...
    @property
    def parity(self) -> str: ...
    @property
    def stopbits(self) -> float: ...
    @property
    def flow(self) -> str: ...
    @property
    def dtr(self) -> bool: ...
    @property
    def rts(self) -> bool: ...
    @property
    def rs485(self) -> bool: ...


class SerialPort:
    """`async with SerialPort(settings) as port: data = await port.read()`. Opening, reading and writing raise Retryable."""

    def __init__(self, settings: LineSettings) -> None:
        self._settings = settings
        self._name = port_name(settings.port)
        self._serial: Any = None
        self._fd = -1
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] = _keeps_nothing
        self._is_watched = False
        self._lost: Retryable | None = None
        self._marks = Marks()
        self._writing = asyncio.Lock()
        self.bad: list[tuple[int, str]] = []
        """Where in what `read` returned last a byte was that came damaged, and how: `parity` or `framing`."""

    async def __aenter__(self) -> SerialPort:
        self._loop = asyncio.get_running_loop()
        # A driver may take seconds to open a device that is about to fail.
        async with OPENING:
            self._serial = await in_one_shot_thread("open a port", lambda: _open(self._settings), _close)
        self._fd = self._serial.fileno()
        self._watcher = Watcher(self._fd, self._name, self._settings, str(self._serial.port))
        self._hangup = select.poll()
        self._hangup.register(self._fd, 0)
        self._timer = self._loop.call_later(LOOK_S, self._check)
        self._watch()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._unwatch()
        self._loop.remove_writer(self._fd)
        try:
            await asyncio.sleep(0)
        finally:
            _close(self._serial)

    async def read(self) -> bytes:
        """What has come in, 1 byte to BLOCK_BYTES. Other tasks run before it returns, always; one reader at a time.

        Raises Retryable("unplugged") when the device is gone, after everything it sent was returned.
        """
        got = b""

        def keep(data: bytes) -> bool:
            nonlocal got
            got = data
            return False

        await self.read_each(keep)
        if not got and self._lost is not None:
            raise self._lost
        return got

    async def read_each(self, take: Callable[[bytes], bool]) -> None:
        """Hands each read to `take` in the wake-up that brought it, without a turn of the loop; returns when `take` says that it
        can have no more for now, or the device is gone. Raises Retryable where that was so before, and what `take` raises."""
        if self._lost is not None:
            raise self._lost
        self._watch()
        self._waiter, self._take = self._loop.create_future(), take
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def write(self, data: bytes, limit_s: float) -> bool:
        """Hands all of it to the driver, and nothing of anybody else in between; False if that had no room for it in time. Raises
        Retryable when the device is gone."""
        end = time.monotonic() + limit_s
        async with self._writing:
            return await self._write(data, end)

    async def _write(self, data: bytes, end: float) -> bool:
        left = memoryview(data)
        while left:
            if self._lost is not None:
                raise self._lost
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                if not await self._has_room(end - time.monotonic()):
                    return False
            except OSError as e:
                self._lose(e.strerror or str(e))
        return True

    async def send_break(self, seconds: float) -> None:
        """Holds the line in the other state for this long. Raises Retryable when the device is gone."""
        try:
            terminal.set_break(self._fd, True)
            try:
                await asyncio.sleep(seconds)
            finally:
                terminal.set_break(self._fd, False)
        except OSError as e:
            self._lose(e.strerror or str(e))
            raise self._lost or faults.unplugged(self._name, "no break") from e

    def suspect(self) -> None:
        """What comes makes no sense: perhaps somebody else takes part of it."""
        self._watcher.robbed = True

    @property
    def trouble(self) -> str:
        """What is not as it should be of an open port: who else reads it, what cannot be set; empty if nothing."""
        return self._watcher.trouble

    async def _has_room(self, limit_s: float) -> bool:
        room = TimedEvent()
        self._loop.add_writer(self._fd, room.set)
        try:
            return await room.wait(limit_s)
        finally:
            self._loop.remove_writer(self._fd)

    async def is_midway(self) -> bool:
        """Whether bytes come as soon as the port is open: then the first of them may be the rest of a line."""
        await asyncio.sleep(max(MIDWAY_S, MIDWAY_BITS / self._settings.baudrate))
        waiting = array.array("i", [0])
        with suppress(OSError):  # a device that is gone is told by `read`
            fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
        return waiting[0] > 0

    def _on_readable(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._unwatch()  # nobody reads now; left watched it would be reported on every turn
            return
        data = self._drain()
        self.bad = []
        if data:
            data, places = self._marks.take(data)
            self.bad = [(place, self._watcher.reason()) for place in places]
        elif self._lost is None:
            self._watcher.robbed = True  # there was something to read, and somebody else was faster
        has_room = True
        if data or self.bad:
            try:
                has_room = self._take(data)
            except Exception as error:  # whoever reads is told
                waiter.set_exception(error)
                return
        if self._lost is not None:
            self._unwatch()
        if not has_room or self._lost is not None:
            waiter.set_result(None)

    def _drain(self) -> bytes:
        """Everything there is, at most about BLOCK_BYTES. Sets `_lost` when the device turns out to be gone."""
        data = b""
        pieces: list[bytes] = []
        try:
            while True:
                data = os.read(self._fd, TTY_BYTES)
                if not data and not self._watcher.look():  # in canonical mode a byte 0x04 ends a read
                    self._lose("no more bytes")
                if len(data) < SHORT_READ:
                    break
                pieces.append(data)
                data = b""
                if len(pieces) * TTY_BYTES >= BLOCK_BYTES:
                    break
        except BlockingIOError:
            pass
        except OSError as e:
            self._lose(e.strerror or str(e))
        return b"".join((*pieces, data)) if pieces else data

    def _lose(self, how: str) -> None:
        self._lost = faults.unplugged(self._name, how)

    def _check(self) -> None:
        """Looks once a second whether the device hung up: uvloop may keep that to itself."""
        self._timer = self._loop.call_later(LOOK_S, self._check)
        if self._lost is None and self._waiter is not None and self._hangup.poll(0):
            self._on_readable()
            if self._lost is None and not self._waiter.done():
                self._lose("hung up")
                self._unwatch()
                self._waiter.set_result(None)
        if self._lost is None:
            self._watcher.look()

    def _watch(self) -> None:
        if not self._is_watched:
            self._loop.add_reader(self._fd, self._on_readable)
            self._is_watched = True

    def _unwatch(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._fd)
            self._is_watched = False


def _keeps_nothing(data: bytes) -> bool:
    """Until somebody reads."""
    return False


class _Port(serial.Serial):  # type: ignore[misc]
    """pyserial's port, with two habits changed."""

    def _reconfigure_port(self, force_update: bool = False) -> None:
        _refuse_exclusive(self.fd, self.port)
        super()._reconfigure_port(force_update)

    def _reset_input_buffer(self) -> None:
        """Nothing is thrown away: a pseudo-terminal may hold whole frames from before it was opened."""


def _open(settings: LineSettings) -> Any:
    """Opens and locks the port. Raises Retryable."""
    path = find(settings.port)
    if path is None:
        raise missing(settings.port)
    port = _Port()
    port.port = path
    port.exclusive = True  # flock, before anything is changed
    port.inter_byte_timeout = 0.0  # VMIN = 1: an empty read means gone, and nothing there yet is EAGAIN
    port.dtr, port.rts = settings.dtr, settings.rts
    port.rtscts, port.xonxoff = settings.flow == "rtscts", settings.flow == "xonxoff"
    is_pty = False
    try:
        is_pty = terminal.is_pty(path)
        port.baudrate, port.bytesize = settings.baudrate, settings.bytesize
        port.parity, port.stopbits = PARITIES[settings.parity], settings.stopbits
        try:
            port.open()
        except (ValueError, termios.error):
            if not is_pty:
                raise
            # A pseudo-terminal has no line, so no line setting matters to it.
            port.baudrate, port.bytesize, port.parity, port.stopbits = 115200, 8, PARITIES["none"], 1
            port.open()
        _claim(port.fileno(), is_pty)
    except ValueError as e:
        raise Retryable("unsupported", f"{path} cannot do these settings: {e}") from e
    except (OSError, termios.error) as e:  # SerialException is an OSError
        _close(port)
        raise faults.explain(e, path, ports_here) from e
    except Retryable:
        _close(port)
        raise
    return port


def _refuse_exclusive(fd: int, path: str) -> None:
    """Root is let in where others hold the port exclusively: leave before anything is changed. Raises OSError EBUSY."""
    held = array.array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(fd, TIOCGEXCL, held)
    if held[0] and faults.others(path):  # on a pseudo-terminal the mark stays when its holder is gone
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _claim(fd: int, is_pty: bool) -> None:
    """Keeps other programs out, and DTR as it is when the port is closed (many boards reset when it drops)."""
    if not is_pty:
        # The mark on a tty outlives a killed process while anyone has it open; so has, always, who made a pseudo-terminal.
        with suppress(OSError):
            fcntl.ioctl(fd, termios.TIOCEXCL)
    with suppress(termios.error):
        attributes = termios.tcgetattr(fd)
        if attributes[2] & termios.HUPCL:
            attributes[2] &= ~termios.HUPCL
            termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _close(port: Any) -> None:
    if port.is_open:
        with suppress(OSError):
            fcntl.ioctl(port.fileno(), termios.TIOCNXCL)
    with suppress(OSError, termios.error):
        port.close()
