"""A simulated sensor on a real pseudo-terminal: the `Machine` of `sources/simulation.py`, as CSV lines at 1000 per second."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edged.sources import simulation

RATE = 1000
BLOCK = 50
SEED = 2


class Sensor:
    """Links `path` to a pseudo-terminal and speaks on it from a thread, from when somebody first opens it; `said` is told, on
    that thread, when the machine's condition changes."""

    def __init__(self, path: Path, said: Callable[[str], None]) -> None:
        self.path = path
        self._said = said
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="sensor", daemon=True)

    def __enter__(self) -> Sensor:
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        os.close(slave)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)
        os.close(self._master)

    def _speak(self) -> None:
        listener = select.poll()
        listener.register(self._master, 0)  # POLLHUP, while nobody has it open, comes unasked
        while listener.poll(0):
            if self._stop.wait(0.02):
                return
        start, count, condition = time.monotonic(), 0, ""
        for block in simulation.blocks("vibration", SEED, RATE, BLOCK):
            now = simulation.condition_at(count / RATE)
            if now != condition:
                condition = now
                self._said(condition)
            if not listener.poll(0):
                lines = "".join(f"{x:.3f},{y:.3f},{z:.3f}\n" for x, y, z in block.tolist())
                with suppress(BlockingIOError):  # it is not read fast enough: lost, as on a wire
                    os.write(self._master, lines.encode())
            count += BLOCK
            if self._stop.wait(max(0.0, start + count / RATE - time.monotonic())):
                return
