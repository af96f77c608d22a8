"""What some tests need of a machine that not every container gives, not even to root: where it is not given they are not there,
and the end of the run says which.

A tool that is missing is installed by `make test`; these are rights, which nothing can install.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


@cache
def may_mount() -> bool:
    return os.geteuid() == 0 and _mounts("-t", "tmpfs", "-o", "size=16k", "tmpfs")


@cache
def may_mount_files() -> bool:
    if not may_mount():
        return False
    with tempfile.NamedTemporaryFile() as image:
        image.truncate(1 << 20)
        subprocess.run(["mkfs.ext4", "-q", image.name], check=True, capture_output=True)
        return _mounts("-o", "loop", image.name)


@cache
def may_limit_memory() -> bool:
    group = (MEMORY_GROUPS if MEMORY_GROUPS.is_dir() else MEMORY_GROUPS.parent) / f"edged-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError:
        return False
    try:
        (group / ("memory.limit_in_bytes" if MEMORY_GROUPS.is_dir() else "memory.max")).write_text(str(64 << 20))
        return True
    except OSError:
        return False
    finally:
        group.rmdir()


NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "mounts": ("a root that may mount a file system", may_mount),
    "mounts_files": ("a root that may mount a file with ext4 in it", may_mount_files),
    "limits_memory": ("the right to make a control group that limits memory", may_limit_memory),
}
"""By marker: what it takes, and whether it is given here."""


def _mounts(*what: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", *what, folder], capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True
