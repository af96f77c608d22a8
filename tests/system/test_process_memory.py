from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.notation.units import MIB
from edged.system.process_memory import (
    LARGEST_DEFAULT,
    cgroup_limit,
    default_budget,
    has_memory_cgroup,
    machine_bytes,
    resident_bytes,
)


def test_the_process_knows_its_own_memory() -> None:
    before = resident_bytes()
    held = np.ones(8 * MIB)  # written, so resident
    grown = resident_bytes() - before
    assert 60 * MIB < grown < 80 * MIB
    assert held.nbytes == 64 * MIB
    assert before < machine_bytes()


@pytest.mark.parametrize(
    ("machine", "budget"),
    [(512 * MIB, 128 * MIB), (1024 * MIB, 256 * MIB), (2048 * MIB, LARGEST_DEFAULT), (2**40, LARGEST_DEFAULT)],
)
def test_a_quarter_of_the_machine_at_most_512_mib(machine: int, budget: int) -> None:
    assert default_budget(machine) == budget


BOUND = """
import numpy as np
from edged.system.process_memory import bound_private
bound_private(64 << 20)
held = np.ones(4 << 20)
try:
    np.ones(16 << 20)
except MemoryError:
    print("bounded")
bound_private(None)
np.ones(16 << 20)
print("free")
"""


def test_memory_grows_no_further_than_it_may() -> None:
    """32 MiB fit into 64, 128 do not; and it can be taken back."""
    out = subprocess.run([sys.executable, "-c", BOUND], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["bounded", "free"]


def kernel(folder: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """A /proc/self, and control groups under `folder`."""
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(mountinfo.format(top=folder / "fs"))
    for name, text in files.items():
        path = folder / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


V1 = (
    "35 31 0:32 / {top}/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n36 31 0:33 / {top}/cpu rw - cgroup cgroup rw,cpu\n"
)
V2 = "30 23 0:26 / {top} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
INNER = "30 23 0:26 /box {top} rw,nosuid - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "limit", "is_there"),
    [
        ("4:memory:/a\n1:cpu:/a\n0::/\n", V1, {"memory/a/memory.limit_in_bytes": "104857600\n"}, 100, True),
        ("4:memory:/a\n", V1, {"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, None, True),
        ("1:cpu:/a\n0::/\n", V1, {"cpu/a/x": ""}, None, False),
        ("0::/a/b\n", V2, {"a/b/memory.max": "104857600\n", "a/b/memory.high": "max\n"}, 100, True),
        ("0::/a/b\n", V2, {"a/b/memory.max": "104857600\n", "a/b/memory.high": "52428800\n"}, 50, True),
        ("0::/a/b\n", V2, {"a/b/memory.max": "max\n", "a/memory.max": "104857600\n"}, 100, True),
        ("0::/a/b\n", V2, {"a/b/memory.max": "max\n"}, None, True),
        ("0::/a/b\n", V2, {"a/b/cgroup.procs": ""}, None, False),
        ("0::/box/a\n", INNER, {"a/memory.max": "104857600\n"}, 100, True),
        ("0::/elsewhere\n", V2, {"memory.max": "104857600\n"}, 100, True),
        ("", "", {}, None, False),
    ],
    ids=["v1", "v1-none", "v1-off", "v2", "high", "outer", "none", "off", "container", "hidden", "nothing"],
)
def test_the_limit_of_the_control_group(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], limit: int | None, is_there: bool
) -> None:
    proc = kernel(tmp_path, cgroup, mountinfo, files)
    assert cgroup_limit(proc) == (None if limit is None else limit * MIB)
    assert has_memory_cgroup(proc) is is_there


def test_without_proc_nothing_is_enforced(tmp_path: Path) -> None:
    assert cgroup_limit(tmp_path / "nowhere") is None
    assert not has_memory_cgroup(tmp_path / "nowhere")
