from __future__ import annotations

import os
import termios
from pathlib import Path

import pytest

from edged.serialport.terminal import Errors, Settings, console_at, errors, mark_errors, reason_of, set_rs485
from tests.support.ptys import Pty


def opened(pty: Pty) -> int:
    return os.open(pty.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)


def test_settings_that_another_program_changes_are_named_and_put_right() -> None:
    pty = Pty()
    fd = opened(pty)
    attributes = termios.tcgetattr(fd)
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    settings = Settings(fd)
    assert settings.differs() == ""
    changed = termios.tcgetattr(fd)
    changed[3] |= termios.ICANON | termios.ECHO
    changed[5] = termios.B1200
    termios.tcsetattr(fd, termios.TCSANOW, changed)
    assert settings.differs() == "canonical mode, echo, baud rate 1200"
    assert settings.differs() == ""
    assert termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO) == 0
    assert termios.tcgetattr(fd)[5] == attributes[5]
    os.close(fd)
    pty.hang_up()


def test_errors_are_marked_and_ff_is_doubled() -> None:
    pty = Pty()
    fd = opened(pty)
    attributes = termios.tcgetattr(fd)
    attributes[0], attributes[1], attributes[3] = 0, 0, 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    mark_errors(fd)
    pty.write(b"a\xffb")
    assert os.read(fd, 10) == b"a\xff\xffb"
    assert errors(fd) is None  # a pseudo-terminal has no line, and counts nothing
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        set_rs485(fd)
    os.close(fd)
    pty.hang_up()


def test_the_driver_says_which_error_it_was() -> None:
    none = Errors(0, 0, 0)
    assert reason_of(none, Errors(0, 1, 0), False) == "parity"
    assert reason_of(none, Errors(1, 0, 0), True) == "framing"
    assert reason_of(none, Errors(0, 0, 1), True) == "framing"
    assert reason_of(None, None, True) == "parity"
    assert reason_of(None, None, False) == "framing"


def test_the_kernels_console_is_known_by_its_list_and_by_its_command_line(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "dev").mkdir()
    for name in ("ttyAMA0", "ttyS0", "ttyUSB0"):
        (tmp_path / "dev" / name).touch()
    (tmp_path / "dev" / "serial0").symlink_to("ttyAMA0")
    (tmp_path / "proc/consoles").write_text("ttyAMA0              -W- (EC p a)  204:64\n")
    (tmp_path / "proc/cmdline").write_text("console=ttyS0,115200 console=tty1 root=/dev/mmcblk0p2\n")
    assert console_at("/dev/serial0", tmp_path) == "/dev/serial0 is the kernel's console (/proc/consoles)"
    assert console_at("/dev/ttyS0", tmp_path) == "/dev/ttyS0 is the kernel's console (console=ttyS0,115200 in /proc/cmdline)"
    assert console_at("/dev/ttyUSB0", tmp_path) == ""
