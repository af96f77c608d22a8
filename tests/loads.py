"""What onnxruntime makes of model files, and which files it opens for them, seen from outside the process that loads them."""

from __future__ import annotations

import contextlib
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
    """A child that loads files one by one; it is started anew where one of them ends it. `watched`: folders in which it is seen
    what is opened."""

    def __init__(self, watched: Iterable[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders = {
            libc.inotify_add_watch(self._fd, os.fsencode(f), ctypes.c_uint32(IN_OPEN | IN_ONLYDIR)): f for f in watched
        }
        assert min(self._folders) > 0
        self._child: subprocess.Popen[str] | None = None
        self.crashes = 0

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        if self._child is not None:
            self._end(self._child)

    def load(self, path: Path) -> tuple[str, set[Path]]:
        """What it answers, or why it does not load; and the files that were opened for it, but for itself."""
        self._opened()
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.loads"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=Path(__file__).parents[1],
                env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{path}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().strip()
        if not answer:
            self._end(self._child)
            self._child, answer = None, CRASHED
            self.crashes += 1
        return answer, self._opened() - {path}

    def _opened(self) -> set[Path]:
        found = set()
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

    @staticmethod
    def _end(child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.wait()
        child.stdout.close()


def main() -> None:
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer

    import numpy as np
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    x = np.array([[1, 2, 3]], np.float32)
    for line in sys.stdin:
        try:
            session = ort.InferenceSession(line.rstrip("\n"), options, providers=["CPUExecutionProvider"])
            (y,) = session.run(["y"], {"x": x})
            answer = f"gives {y.tobytes().hex()}"
        except Exception as error:
            answer = f"refused {type(error).__name__} {' '.join(str(error).split())[:300]}"
        print(answer, file=say, flush=True)


if __name__ == "__main__":
    main()
