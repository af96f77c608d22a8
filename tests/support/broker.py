"""A real mosquitto on a free port, to be started, stopped, killed, frozen and brought back by tests.

with Broker(tmp_path) as broker:                      # anonymous, no persistence
with Broker(tmp_path, "max_inflight_messages 5", listener="listener {port} 127.0.0.1\\ncafile ...") as broker:
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.lacking import lacking

START_TIMEOUT_S = 10.0


def find_mosquitto() -> str | None:
    """Debian puts it where only root's PATH looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


BLOCK = 400


def _claimed() -> tuple[socket.socket, range]:
    """Ports of this process alone, whoever else runs tests on this machine, and none that the kernel gives to somebody's
    connection before the broker is there. They are ours while the socket is open."""
    mark = socket.socket(socket.AF_UNIX)
    for start in range(20_000, 32_000, BLOCK):
        try:
            mark.bind(f"\0edged-test-ports-{start}")
        except OSError:
            continue
        return mark, range(start, start + BLOCK)
    raise AssertionError("too many tests run at once")


_MARK, _PORTS = _claimed()
PORTS = itertools.cycle(_PORTS)


def free_port() -> int:
    for port in PORTS:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError


class Broker:
    """One mosquitto process. `options` are lines of its configuration; `{port}` and `{dir}` in `listener` are filled in."""

    def __init__(self, folder: Path, *options: str, port: int = 0, listener: str = "listener {port} 127.0.0.1") -> None:
        self.folder = folder
        self.options = options
        self.port = port or free_port()
        self.listener = listener
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> str:
        return (self.folder / f"mosquitto-{self.port}.log").read_text(errors="replace")

    def start(self) -> None:
        """Starts it and returns when it takes connections. Skips the test without mosquitto; under CI fails it."""
        program = find_mosquitto()
        if program is None:
            lacking("mosquitto")
        conf = self.folder / f"mosquitto-{self.port}.conf"
        lines = [self.listener.format(port=self.port, dir=self.folder), "log_type all", *self.options]
        if not any(o.startswith("allow_anonymous") for o in self.options):
            lines.append("allow_anonymous true")
        if not any(o.startswith("persistence ") for o in self.options):
            lines.append("persistence false")
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes a user who may not read pytest's folders
        conf.write_text("\n".join(lines) + "\n")
        with (self.folder / f"mosquitto-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen([program, "-c", str(conf)], stdout=log, stderr=log)
        self._wait_until_open()

    def _wait_until_open(self) -> None:
        assert self.process
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                pass
            try:
                self.process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"mosquitto ended at start:\n{self.log}")
        pytest.fail(f"mosquitto took no connection within {START_TIMEOUT_S} s:\n{self.log}")

    def stop(self) -> None:
        """Ends it in good order; with `persistence true` it saves its sessions. Also from the frozen state."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without a word: what it did not save is lost."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """From now on its connections are half open: the kernel accepts bytes, nobody answers."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)
