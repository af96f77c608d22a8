"""A process under test: started, watched from outside, ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

READY_LIMIT_S = 20.0
LOG = "contestant.log"
REPO = Path(__file__).parents[2]


class Contestant:
    """One running process. Use as a context manager; `ready_s` is the time from exec to READY, for one that says so."""

    def __init__(self, command: list[str], folder: Path, *, says_ready: bool) -> None:
        self.ready_s: float | None = None
        self._command = command
        self._folder = folder
        self._says_ready = says_ready

    def __enter__(self) -> Contestant:
        address = self._folder / "notify"
        address.unlink(missing_ok=True)
        self._log = (self._folder / LOG).open("w")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(address))
            notify.settimeout(0.5)
            env = {**os.environ, "NOTIFY_SOCKET": str(address)}
            env.pop("PYTHONDONTWRITEBYTECODE", None)  # as it is installed: nobody compiles all of it at each start
            began = time.monotonic()
            self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, env=env, cwd=REPO)
            if self._says_ready:
                self._wait_until_ready(notify)
                self.ready_s = time.monotonic() - began
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait_until_ready(self, notify: socket.socket) -> None:
        end = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in notify.recv(4096):
                    return
        self.__exit__(None, None, None)
        raise TimeoutError("not ready")

    def cpu_s(self) -> float:
        """Processor time of all its threads so far, in user and system mode."""
        return time.clock_gettime(~self._process.pid << 3 | 2)  # clock_getcpuclockid(3), as Linux numbers these clocks

    def wait_until_opened(self, path: str, limit_s: float) -> None:
        """Returns when the process has that file open. Raises TimeoutError after `limit_s`, or when it has ended."""
        folder = f"/proc/{self._process.pid}/fd"
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self._process.poll() is None:
            for name in os.listdir(folder):
                try:
                    if os.readlink(f"{folder}/{name}") == path:
                        return
                except FileNotFoundError:  # closed meanwhile
                    continue
            time.sleep(0.01)
        raise TimeoutError(f"did not open {path} within {limit_s:.0f} s")

    def resident_mib(self) -> float:
        return int(self._status("VmRSS").split()[0]) / 1024

    def threads(self) -> int:
        return int(self._status("Threads"))

    def _status(self, key: str) -> str:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(key + ":"))


def python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
