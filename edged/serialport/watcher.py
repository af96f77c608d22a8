"""What may be wrong with an open port beside its device: another program changes its settings or reads with us, its driver cannot
do what is asked of it, or the kernel's console is on it. `port` looks once a second.
"""

from __future__ import annotations

import asyncio
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from edged.serialport import faults, terminal
from edged.system.one_shot import start_one_shot_thread

if TYPE_CHECKING:
    from edged.serialport.port import LineSettings

log: Any = structlog.get_logger("edged")


class Watcher:
    """Looks whether an open port is as it was opened."""

    def __init__(self, fd: int, name: str, settings: LineSettings, path: str) -> None:
        self.robbed = False
        """Whether somebody else may read what is there to be read."""
        self._fd = fd
        self._name = name
        self._path = path
        self._has_parity = settings.parity != "none"
        self._standing = _set_up(fd, settings, path)
        self._settings = terminal.Settings(fd)
        self._errors = terminal.errors(fd)
        self._others = ""
        self._is_looking = False
        self._said: set[str] = set()
        if self._standing:
            self._say("port_not_as_set", self._standing)

    @property
    def trouble(self) -> str:
        return "; ".join(filter(None, (self._standing, self._others)))

    def reason(self) -> str:
        """What is wrong with a byte that came marked."""
        before, self._errors = self._errors, terminal.errors(self._fd)
        return terminal.reason_of(before, self._errors, self._has_parity)

    def look(self) -> bool:
        """Puts right what was changed, and looks for who did it; whether anything was changed."""
        changed = ""
        with suppress(OSError):  # a device that is gone is told by `read`
            changed = self._settings.differs()
        if changed:
            self._say("port_settings_changed", f"another program changed {changed}; changed back", changed=changed)
        if (changed or self.robbed or self._others) and not self._is_looking:
            self.robbed = False
            self._is_looking = True
            looking = start_one_shot_thread("who has a port", lambda: faults.others(self._path), lambda _: None)
            looking.add_done_callback(self._found)
        return bool(changed)

    def _found(self, finding: asyncio.Future[list[tuple[int, str]]]) -> None:
        self._is_looking = False
        if finding.cancelled() or finding.exception() is not None:
            return
        found = finding.result()
        who = ", ".join(f"{name} (pid {pid})" for pid, name in found)
        self._others = f"{self._name} is also read by {who}, which takes bytes from edged: end it" if found else ""
        if found:
            self._say("port_shared", self._others)

    def _say(self, event: str, text: str, **facts: str) -> None:
        """Each thing once."""
        if (event + text) not in self._said:
            self._said.add(event + text)
            log.warning(event, port=self._name, reason=text, **facts)


def _set_up(fd: int, settings: LineSettings, path: str) -> str:
    """What pyserial does not set; says what cannot be set, and what speaks against this port."""
    said = []
    with suppress(termios.error):
        terminal.mark_errors(fd)
    if settings.rs485 and not terminal.is_pty(fd):
        try:
            terminal.set_rs485(fd)
        except OSError as e:
            why = f"its driver cannot switch an RS-485 transmitter ({e.strerror})"
            said.append(f"rs485: {why}; if the adapter does so by itself, remove rs485")
    if console := terminal.console_at(path):
        said.append(f"{console}: its messages mix with what the sensor sends; {terminal.CONSOLE_FIX}")
    return "; ".join(said)
