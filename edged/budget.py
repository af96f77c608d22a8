"""The process's own memory: read it, and compare it with what it was given.

Read from the process itself, never from a cgroup: Raspberry Pi OS boots without the memory controller.
"""

from __future__ import annotations

import os

MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
LARGEST_DEFAULT = 512 * MIB
TIGHT = 0.9
"""Above this share of the budget memory is `tight`."""


def resident_bytes() -> int:
    """Resident memory of this process, in bytes."""
    with open("/proc/self/statm", "rb") as f:
        return int(f.read().split()[1]) * PAGE


def machine_bytes() -> int:
    """Memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * PAGE


def default_budget(machine: int) -> int:
    """A quarter of the machine's, at most 512 MiB."""
    return min(machine // 4, LARGEST_DEFAULT)


def level(resident: int, budget: int) -> str:
    """`ok`, `tight` (above nine tenths of the budget) or `over`."""
    if resident > budget:
        return "over"
    return "tight" if resident > TIGHT * budget else "ok"
