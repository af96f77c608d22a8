"""How many processors this process may use at once."""

from __future__ import annotations

import math
import os
from pathlib import Path

from edged.system.control_group import files

PERIOD_US = 100_000


def cores(proc: Path = Path("/proc/self")) -> int:
    """Those that it may run on; fewer where its control group, or one around it, is given less time than they have."""
    allowed = float(len(os.sched_getaffinity(0)))
    for folder, name in files(proc, "cpu", ("cpu.max",), ("cpu.cfs_quota_us",)):
        quota = _quota(folder, name)
        allowed = min(allowed, quota) if quota is not None else allowed
    return max(1, math.ceil(allowed))


def _quota(folder: Path, name: str) -> float | None:
    """In processors; None: as much as it likes."""
    try:
        words = (folder / name).read_text().split()
        period = words[1] if name == "cpu.max" else (folder / "cpu.cfs_period_us").read_text()
        quota = int(words[0])  # "max": no limit
        return quota / int(period) if quota > 0 else None
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return None
