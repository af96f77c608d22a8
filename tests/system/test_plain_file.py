from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edged.system.plain_file import UnfitFile, opened_plain, read_plain


def test_a_plain_file_is_read_whole_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_000)
    assert read_plain(path, 3_000_000) == b"x" * 3_000_000
    with pytest.raises(UnfitFile, match=r"expected at most 2.9 MiB, found 2.9 MiB"):
        read_plain(path, 2_999_999)
    path.write_bytes(b"")
    assert read_plain(path, 0) == b""


def test_links_are_followed_to_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    (tmp_path / "l").symlink_to("f")
    assert read_plain(tmp_path / "l", 3) == b"abc"


def test_what_would_never_end_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name, kind in {"pipe": "a pipe", "zero": "a device", "socket": "a socket", ".": "a folder"}.items():
            with pytest.raises(UnfitFile, match=f"expected a plain file, found {kind}"):
                read_plain(tmp_path / name, 10)


def test_a_file_with_holes_is_measured_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 300 << 20)
    with pytest.raises(UnfitFile, match=r"expected at most 1000 bytes, found 300.0 MiB"), opened_plain(tmp_path / "f", 1000):
        pass


def test_a_file_that_claims_nothing_is_bounded_while_it_is_read() -> None:
    with pytest.raises(UnfitFile, match="expected at most 10 bytes, found more"):
        read_plain(Path("/proc/self/status"), 10)


def test_what_is_not_there_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "f", 10)
