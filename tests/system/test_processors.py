from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.system.processors import cores
from tests.system.test_process_memory import V1, V2, kernel


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "most"),
    [
        ("0::/a/b\n", V2, {"a/cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", V2, {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),  # of the group around it
        ("0::/a/b\n", V2, {"a/b/cpu.max": "50000 100000\n"}, 1),
        ("1:cpu:/a\n0::/\n", V1, {"cpu/a/cpu.cfs_quota_us": "100000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 1),
        ("1:cpu:/a\n0::/\n", V1, {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/a/b\n", V2, {"a/b/cpu.max": "12345600000 100000\n"}, None),
        ("0::/a/b\n", V2, {"a/b/cpu.max": "nonsense\n"}, None),
    ],
)
def test_as_many_as_it_may_use_at_once(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], most: int | None
) -> None:
    here = len(os.sched_getaffinity(0))
    assert cores(kernel(tmp_path, cgroup, mountinfo, files)) == (here if most is None else most)


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert cores(tmp_path) == len(os.sched_getaffinity(0))
