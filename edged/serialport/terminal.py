"""What the kernel says of an open port and its line: settings, errors, who else has it.

The settings are read and written as the kernel has them (`struct termios2`), so that any baud rate survives.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TCGETS2, TCSETS2 = 0x802C542A, 0x402C542B
TCGETS, TCSETS = 0x5401, 0x5402
TERMIOS2_BYTES = 44
TIOCGICOUNT = 0x545D
TIOCSBRK, TIOCCBRK = 0x5427, 0x5428
TIOCSRS485 = 0x542F
RS485_ENABLED, RS485_RTS_ON_SEND = 1, 2
_FLAGS = struct.Struct("4I")
_SPEEDS = struct.Struct("2I")
_COUNTS = struct.Struct("11i")
FRAME, PARITY, BREAK = 6, 8, 9
"""Where the kernel's counts of errors stand."""
PTY_MAJORS = range(136, 144)


def is_pty(port: str | int) -> bool:
    """Whether a path or a descriptor is a pseudo-terminal, which has no line. Raises OSError."""
    return os.major(os.stat(port).st_rdev) in PTY_MAJORS


class Settings:
    """The settings of a terminal as they were when this was made. They must not change: who changes them is put right."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wanted = _read(fd)

    def differs(self) -> str:
        """What somebody changed since, and has now been changed back; empty if nothing. Raises OSError when the port is gone."""
        found = _read(self._fd)
        if found == self._wanted:
            return ""
        said = _difference(self._wanted, found)
        _write(self._fd, self._wanted)
        return said


def mark_errors(fd: int) -> None:
    """Bytes with parity and framing errors come marked, and never as good ones."""
    attributes = termios.tcgetattr(fd)
    attributes[0] |= termios.INPCK | termios.PARMRK
    attributes[0] &= ~(termios.IGNPAR | termios.IGNBRK | termios.BRKINT | termios.ISTRIP)
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


class Errors(NamedTuple):
    """How many of each the driver has counted."""

    framing: int
    parity: int
    breaks: int


def errors(fd: int) -> Errors | None:
    """None where the driver does not count."""
    counts = bytearray(80)
    try:
        fcntl.ioctl(fd, TIOCGICOUNT, counts)
    except OSError:
        return None
    found = _COUNTS.unpack_from(counts)
    return Errors(found[FRAME], found[PARITY], found[BREAK])


def reason_of(before: Errors | None, after: Errors | None, has_parity: bool) -> str:
    """Which error a marked byte has: `parity` or `framing`."""
    if before is not None and after is not None:
        if after.parity > before.parity:
            return "parity"
        if (after.framing, after.breaks) > (before.framing, before.breaks):
            return "framing"
    return "parity" if has_parity else "framing"


def set_rs485(fd: int) -> None:
    """Lets the driver switch the transmitter. Raises OSError where it cannot."""
    fcntl.ioctl(fd, TIOCSRS485, struct.pack("8I", RS485_ENABLED | RS485_RTS_ON_SEND, 0, 0, 0, 0, 0, 0, 0))


def set_break(fd: int, is_on: bool) -> None:
    """Raises OSError when the port is gone."""
    fcntl.ioctl(fd, TIOCSBRK if is_on else TIOCCBRK)


def console_at(path: str, root: Path = Path("/")) -> str:
    """Why a port is the kernel's console, which writes its messages there; empty if it is not."""
    device = os.path.basename(os.path.realpath(root / path.lstrip("/")))
    with suppress(OSError):
        for line in (root / "proc/consoles").read_text("utf-8", "replace").splitlines():
            if line.split(" ")[0] == device:
                return f"{path} is the kernel's console (/proc/consoles)"
    with suppress(OSError):
        for word in (root / "proc/cmdline").read_text("utf-8", "replace").split():
            if word.partition(",")[0] == f"console={device}":
                return f"{path} is the kernel's console ({word} in /proc/cmdline)"
    return ""


CONSOLE_FIX = "take console=... out of the kernel's command line (raspi-config: no login shell on the serial port), then reboot"


def _read(fd: int) -> bytes:
    for request, size in ((TCGETS2, TERMIOS2_BYTES), (TCGETS, 36)):
        held = bytearray(size)
        with suppress(OSError):
            fcntl.ioctl(fd, request, held)
            return bytes(held)
    raise OSError("the terminal does not tell its settings")


def _write(fd: int, settings: bytes) -> None:
    fcntl.ioctl(fd, TCSETS2 if len(settings) == TERMIOS2_BYTES else TCSETS, settings)


_NAMED: tuple[tuple[str, int, int], ...] = (
    ("canonical mode", 3, termios.ICANON),
    ("echo", 3, termios.ECHO),
    ("signals", 3, termios.ISIG),
    ("CR to LF", 0, termios.ICRNL),
    ("xonxoff", 0, termios.IXON | termios.IXOFF),
    ("marks of errors", 0, termios.PARMRK | termios.INPCK),
    ("parity", 2, termios.PARENB | termios.PARODD),
    ("byte size", 2, termios.CSIZE),
    ("stop bits", 2, termios.CSTOPB),
    ("rtscts", 2, termios.CRTSCTS),
)


def _difference(wanted: bytes, found: bytes) -> str:
    ours, theirs = _FLAGS.unpack_from(wanted), _FLAGS.unpack_from(found)
    parts = [name for name, which, bits in _NAMED if ours[which] & bits != theirs[which] & bits]
    if len(wanted) == TERMIOS2_BYTES and _SPEEDS.unpack_from(wanted, 36) != _SPEEDS.unpack_from(found, 36):
        parts.append(f"baud rate {_SPEEDS.unpack_from(found, 36)[1]}")
    return ", ".join(parts) or "other settings"
