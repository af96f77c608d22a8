from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edged.system.rights import others_may_read, who_may_write

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Pytest's own are closed to others."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_file_that_others_may_read(folder: Path) -> None:
    file = folder / "password"
    file.write_text("hunter2")
    for mode, is_open in ((0o644, True), (0o604, True), (0o640, False), (0o600, False)):
        file.chmod(mode)
        assert others_may_read(file) == is_open
    file.chmod(0o644)
    link = folder / "link"
    link.symlink_to(file)
    assert others_may_read(link)
    folder.chmod(0o750)
    assert not others_may_read(file)
    assert not others_may_read(folder / "absent")


@ROOT_ONLY
def test_who_may_put_something_else_in_its_place(folder: Path) -> None:
    deep = folder / "etc"
    deep.mkdir()
    file = deep / "steps.py"
    file.write_text("")
    file.chmod(0o644)
    assert who_may_write(file) is None
    for path, mode, who in (
        (file, 0o666, f"everybody may write to {file}"),
        (file, 0o644, None),
        (deep, 0o777, f"everybody may write to {deep}"),
        (deep, 0o1777, None),  # like /tmp: what lies there stays its owner's
        (deep, 0o755, None),
    ):
        path.chmod(mode)
        assert who_may_write(file) == who
    os.chown(deep, 0, NOBODY.pw_gid)
    assert who_may_write(file) is None
    deep.chmod(0o775)
    assert who_may_write(file) == f"group {deep.group()} may write to {deep}"
    deep.chmod(0o755)
    os.chown(file, NOBODY.pw_uid, 0)
    assert who_may_write(file) == f"{file} belongs to nobody"
    os.chown(file, 4_000_000, 0)
    assert who_may_write(file) == f"{file} belongs to 4000000"


@ROOT_ONLY
def test_the_target_of_a_link_counts_and_so_does_its_own_place(folder: Path) -> None:
    open_, closed = folder / "open", folder / "closed"
    for one in (open_, closed):
        one.mkdir()
    (closed / "edged.toml").write_text("")
    (open_ / "edged.toml").write_text("")
    (open_ / "link").symlink_to(closed / "edged.toml")
    (closed / "link").symlink_to(open_ / "edged.toml")
    open_.chmod(0o777)
    assert who_may_write(open_ / "link") == f"everybody may write to {open_}"
    assert who_may_write(closed / "link") == f"everybody may write to {open_}"
    assert who_may_write(closed / "edged.toml") is None
