"""A serial sensor in a process of its own: a pseudo-terminal that talks as fast as it is read, or at a rate.

Flow control is the terminal's own buffer: a write waits for the reader, nothing is dropped. The lines differ, from a seed.

    python -m tests.bench.sensor FIELDS     prints the terminal's path, then obeys lines of "COUNT RATE" (0: at full speed)
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import tty
from types import TracebackType

LINES = 4096
CHUNK_BYTES = 4096


class Sensor:
    """The process. Use as a context manager; `path` is the terminal."""

    def __init__(self, fields: int) -> None:
        self.path = ""
        self._fields = fields

    def __enter__(self) -> Sensor:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.sensor", str(self._fields)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdout
        self.path = self._process.stdout.readline().strip()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def talk(self, lines: int, rate: float = 0) -> None:
        """Writes so many lines, in the background."""
        assert self._process.stdin
        self._process.stdin.write(f"{lines} {rate}\n")


def main(fields: int) -> None:
    master, slave = os.openpty()  # the slave stays open here, so that readers may come and go
    tty.setraw(slave)
    print(os.ttyname(slave), flush=True)
    draw = random.Random(fields)
    lines = [(",".join(f"{draw.uniform(-2, 2):.4f}" for _ in range(fields)) + "\n").encode() for _ in range(LINES)]
    for order in sys.stdin:
        count, rate = order.split()
        if float(rate):
            _pace(master, lines, int(count), float(rate))
        else:
            _pour(master, lines, int(count))


def _pour(fd: int, lines: list[bytes], count: int) -> None:
    text = memoryview(b"".join(lines))
    for _ in range(count // LINES):
        _write(fd, text)
    _write(fd, memoryview(b"".join(lines[: count % LINES])))


def _write(fd: int, text: memoryview) -> None:
    at = 0
    while at < len(text):
        at += os.write(fd, text[at : at + CHUNK_BYTES])


def _pace(fd: int, lines: list[bytes], count: int, rate: float) -> None:
    began = time.monotonic()
    for i in range(count):
        time.sleep(max(0.0, began + i / rate - time.monotonic()))
        os.write(fd, lines[i % LINES])


if __name__ == "__main__":
    main(int(sys.argv[1]))
