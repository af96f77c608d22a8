"""Processes that end with the demo, even when it is killed."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec there is no time for it


def child(command: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, so that a Ctrl-C in the terminal is for the demo alone."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent, **streams)


def stop(process: subprocess.Popen[bytes], limit_s: float) -> int:
    """Ends it, by force after `limit_s`; returns its exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _end_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
