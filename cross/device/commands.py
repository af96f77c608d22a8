"""Commands of the system."""

from __future__ import annotations

import subprocess
from typing import Any

from cross.device.words import Refused


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL, capture_output=True, **options
    )


def must(*command: str) -> str:
    done = run(*command)
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or f'status {done.returncode}'}")
    return done.stdout
