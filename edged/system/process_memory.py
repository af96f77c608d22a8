"""The process's own memory: read it, and compare it with what it was given.

Read from the process itself, never from a control group: Raspberry Pi OS boots without the memory controller. What a control
group allows is looked up once, since the kernel ends whoever exceeds it.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from edged.system import control_group

PAGE = os.sysconf("SC_PAGE_SIZE")
LARGEST_DEFAULT = 512 << 20


def resident_bytes() -> int:
    """Resident memory of this process, in bytes."""
    return int(os.pread(_statm(), 256, 0).split()[1]) * PAGE


@cache
def _statm() -> int:
    """Opened once: a daemon that has no file descriptor left must still know its memory."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def machine_bytes() -> int:
    """Memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * PAGE


def default_budget(machine: int) -> int:
    """A quarter of the machine's, at most 512 MiB."""
    return min(machine // 4, LARGEST_DEFAULT)


def cgroup_limit(proc: Path = Path("/proc/self")) -> int | None:
    """The memory limit that the kernel enforces on this process, in bytes: the smallest of its control group and of those
    around it. None where there is none, or no memory controller."""
    machine = machine_bytes()
    return min((limit for limit in _limits(proc) if limit < machine), default=None)


def bound_private(room: int | None) -> None:
    """Lets the private memory of this process grow by `room` bytes from here, and no further; None: as far as it likes. Where a
    kernel has no memory controller, this is what stands between one run of a model and the whole machine."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = hard
    if room is not None:
        limit = int(Path("/proc/self/statm").read_text().split()[5]) * PAGE + room
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def has_memory_cgroup(proc: Path = Path("/proc/self")) -> bool:
    """Whether the kernel could enforce a limit at all."""
    return any(folder.joinpath(name).exists() for folder, name in _limit_files(proc))


def _limits(proc: Path) -> Iterator[int]:
    for folder, name in _limit_files(proc):
        try:
            yield int((folder / name).read_text())  # "max": no limit
        except (OSError, ValueError):
            continue


def _limit_files(proc: Path) -> Iterator[tuple[Path, str]]:
    """Where limits of its memory stand."""
    return control_group.files(proc, "memory", ("memory.max", "memory.high"), ("memory.limit_in_bytes",))
