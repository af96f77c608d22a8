"""The real disk and the fake one do the same; and the real one leaves nothing half done when there is no room."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.spool.disk import FileDisk
from edged.spool.store import Disk
from tests.fakes.disk import FakeDisk


@pytest.fixture(params=["real", "fake"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    one: Disk = FileDisk(tmp_path / "state" / "spool") if request.param == "real" else FakeDisk()
    yield one
    one.close()


def test_nothing_there(disk: Disk) -> None:
    assert list(disk.list()) == []


def test_write_and_read(disk: Disk) -> None:
    assert disk.write("main/a.log", 0, b"hello", 16) == 16
    assert disk.write("main/a.log", 5, b" world", 16) == 16
    assert disk.write("main/a.log", 11, b"!" * 10, 16) == 21
    assert disk.read("main/a.log", 0, 100) == b"hello world" + b"!" * 10
    assert disk.read("main/a.log", 6, 5) == b"world"
    assert list(disk.list()) == [("main/a.log", 21)]


def test_a_new_file_must_be_new(disk: Disk) -> None:
    disk.write("main/a.log", 0, b"x", 1)
    with pytest.raises(FileExistsError):
        disk.write("main/a.log", 0, b"y", 1)


def test_replace_rename_remove(disk: Disk) -> None:
    disk.write("main/a.log", 0, b"x", 1)
    disk.replace("main/done", b"1")
    disk.replace("main/done", b"22")
    assert disk.read("main/done", 0, 9) == b"22"
    disk.rename("main/a.log", "main/a.log.bad")
    assert [name for name, _ in disk.list()] == ["main/a.log.bad", "main/done"]
    disk.remove(["main/done", "main/gone"])
    assert [name for name, _ in disk.list()] == ["main/a.log.bad"]
    with pytest.raises(FileNotFoundError):
        disk.read("main/done", 0, 1)


def test_what_somebody_removed(disk: Disk) -> None:
    disk.write("main/a.log", 0, b"abc", 4096)
    disk.remove(["main/a.log"])
    with pytest.raises(FileNotFoundError):
        disk.write("main/a.log", 3, b"d", 4096)
    with pytest.raises(FileNotFoundError):
        disk.read("main/a.log", 0, 3)
    disk.rename("main/a.log", "main/a.log.bad")
    assert [name for name, _ in disk.list()] == []


def test_a_folder_that_somebody_removed_is_made_again_and_locked_again(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    disk, other = FileDisk(root), FileDisk(root)
    disk.write("main/a.log", 0, b"abc", 4096)
    shutil.rmtree(root)
    with pytest.raises(FileNotFoundError):
        disk.write("main/a.log", 3, b"d", 4096)
    disk.replace("main/done", b"1")
    disk.rename("main/a.log", "main/a.log.bad")
    disk.remove(["main/a.log"])
    assert disk.write("main/b.log", 0, b"abc", 4096) == 4096
    with pytest.raises(OSError, match="another edged uses this folder"):
        list(other.list())
    disk.close()
    assert [name for name, _ in other.list()] == ["main/b.log"]
    other.close()


def test_a_pipe_by_a_files_name_is_an_error(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    disk.write("main/a.log", 0, b"abc", 4096)
    (tmp_path / "main" / "a.log").unlink()
    os.mkfifo(tmp_path / "main" / "a.log")
    with pytest.raises(OSError, match="expected a plain file, found a pipe"):
        disk.read("main/a.log", 0, 3)
    with pytest.raises(OSError, match="No such device"):
        disk.write("main/a.log", 3, b"d", 4096)
    disk.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.mounts
def test_no_room(small: Path) -> None:
    disk = FileDisk(small)
    size = disk.write("main/a.log", 0, bytes(500_000), 500_000)
    with pytest.raises(OSError, match="No space") as raised:
        disk.write("main/a.log", size, b"x" * 600_000, 1_100_000)
    assert raised.value.errno == errno.ENOSPC
    assert list(disk.list()) == [("main/a.log", size)]
    with pytest.raises(OSError, match="No space"):
        disk.write("main/b.log", 0, b"x" * 600_000, 600_000)
    grown = disk.write("main/a.log", size, b"y" * 100, 2_000_000)  # room for the data, not for all the zeros
    assert size + 100 <= grown <= 1 << 20
    assert disk.read("main/a.log", size, 100) == b"y" * 100
    disk.close()


def test_a_folder_belongs_to_one(tmp_path: Path) -> None:
    first, second = FileDisk(tmp_path), FileDisk(tmp_path)
    first.write("main/a.log", 0, b"x", 1)
    for act in (lambda: second.list(), lambda: second.write("main/b.log", 0, b"y", 1)):
        with pytest.raises(OSError, match="another edged"):
            act()
    first.close()
    assert list(second.list()) == [("main/a.log", 1)]
    second.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    disk = FileDisk(tmp_path / "file" / "spool")
    assert list(disk.list()) == []
    with pytest.raises(OSError, match="Not a directory"):
        disk.write("main/a.log", 0, b"x", 1)
