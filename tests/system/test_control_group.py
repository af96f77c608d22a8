from __future__ import annotations

from pathlib import Path

from edged.system.control_group import files
from tests.system.test_process_memory import INNER, V2, kernel


def found(proc: Path) -> list[str]:
    return [str((folder / name).relative_to(proc / "fs")) for folder, name in files(proc, "cpu", ("cpu.max",), ("old",))]


def test_from_the_own_group_outwards(tmp_path: Path) -> None:
    assert found(kernel(tmp_path, "0::/a/b\n", V2, {"a/b/x": ""})) == ["a/b/cpu.max", "a/cpu.max", "cpu.max"]


def test_in_a_container_only_a_part_of_the_tree_is_there(tmp_path: Path) -> None:
    assert found(kernel(tmp_path, "0::/box/a\n", INNER, {"a/x": ""})) == ["a/cpu.max", "cpu.max"]


def test_where_there_are_none(tmp_path: Path) -> None:
    assert list(files(tmp_path, "cpu", ("cpu.max",), ("old",))) == []
