"""What onnxruntime makes of model files, and which files it opens for them, seen from outside the process that loads them."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

IN_OPEN, IN_ONLYDIR = 0x20, 0x01000000
EVENT = struct.Struct("iIII")
CRASHED = "crashed"


class Loader:
    """A child that loads files one by one, and goes on where one of them ends it. `watched`: folders in which it is seen what is
    opened."""

    def __init__(self, watched: Iterable[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders = {
            libc.inotify_add_watch(self._fd, os.fsencode(f), ctypes.c_uint32(IN_OPEN | IN_ONLYDIR)): f for f in watched
        }
        assert min(self._folders) > 0
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.loads"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
        self.crashes = 0

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()

    def load(self, path: Path) -> tuple[str, set[Path]]:
        """What it answers, or why it does not load; and the files that were opened for it, but for itself."""
        self._opened()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{path}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().strip()
        assert answer, f"ended with {self._child.wait()}"
        self.crashes += answer == CRASHED
        return answer, self._opened() - {path}

    def _opened(self) -> set[Path]:
        found = set[Path]()
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, mask, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size + length
                name = os.fsdecode(data[at - length : at].rstrip(b"\0"))
                if name and mask & IN_OPEN and not mask & 0x40000000:  # not a folder
                    found.add(self._folders[watch] / name)


def main() -> None:
    """Forks the process that loads, so that another one is there at once when it crashes."""
    say = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not look like an answer

    import numpy  # noqa: F401 once, for all of them
    import onnxruntime  # noqa: F401

    while True:
        pid = os.fork()
        if not pid:
            _answer(say)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not status:
            return
        os.write(say, f"{CRASHED}\n".encode())


def _answer(say: int) -> None:
    import numpy as np
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    x = np.array([[1, 2, 3]], np.float32)
    while line := os.read(0, 1 << 16):  # one at a time: the next comes after the answer
        try:
            session = ort.InferenceSession(line.decode().rstrip("\n"), options, providers=["CPUExecutionProvider"])
            (y,) = session.run(["y"], {"x": x})
            answer = f"gives {y.tobytes().hex()}"
        except Exception as error:
            answer = f"refused {type(error).__name__} {' '.join(str(error).split())[:300]}"
        os.write(say, f"{answer}\n".encode())


if __name__ == "__main__":
    main()
