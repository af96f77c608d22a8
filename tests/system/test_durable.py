from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edged.system.durable import read_kept, replaced, sync, write_kept


def test_it_takes_the_place_of_what_was_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    for text in (b"one", b"two"):
        with replaced(path) as file:
            file.write(text)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == text
    assert path.stat().st_mode & 0o777 == 0o600
    sync(path.parent)


def test_what_fails_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail_half_way() -> None:
        with replaced(path) as file:
            file.write(b"half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail_half_way()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"before")]


def test_what_a_kill_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"half of what was to be written then")
    with replaced(tmp_path / "file") as file:
        file.write(b"now")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"now")]


def numbers(data: bytes) -> list[int]:
    return [int(one) for one in json.loads(data)["numbers"]]


def looped(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 300 << 20)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "expected a plain file, found a pipe"),
        (looped, "expected a plain file, found a device"),
        (huge, "expected at most 1000 bytes, found 300.0 MiB"),
        (lambda path: path.write_bytes(b"[" * 999), "too deeply nested"),
        (lambda path: path.write_bytes(b"{"), "Expecting property name"),
        (lambda path: path.write_bytes(b"[1]"), "list indices must be integers"),
        (lambda path: path.write_bytes(b"{}"), "'numbers'"),
        (lambda path: path.write_bytes(b"\xff\xff"), "codec can't decode"),
    ],
)
def test_what_is_damaged_is_set_aside(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "state"
    (tmp_path / "state.aside").write_text("of another day")
    make(path)
    with capture_logs() as logs:
        assert read_kept(path, 1000, numbers, lost="the numbers") is None
    [line] = logs
    assert (line["event"], line["path"], line["lost"]) == ("file_moved_aside", f"{path}.aside", "the numbers")
    assert reason in line["reason"]
    path.write_bytes(b'{"numbers": [1, 2]}')
    assert read_kept(path, 1000, numbers, lost="the numbers") == [1, 2]


def test_what_is_not_there_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        assert read_kept(tmp_path / "state", 1000, numbers, lost="") is None
        assert read_kept(tmp_path / "file" / "state", 1000, numbers, lost="") is None
    assert logs == []


def test_what_cannot_be_kept_is_logged_with_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    with capture_logs() as logs:
        assert write_kept(tmp_path / "state", b"[1]", "numbers_not_kept", lost="the numbers")
        assert not write_kept(tmp_path / "file" / "state", b"[1]", "numbers_not_kept", lost="the numbers")
    assert (tmp_path / "state").read_bytes() == b"[1]"
    assert logs == [
        {
            "event": "numbers_not_kept",
            "log_level": "warning",
            "path": f"{tmp_path}/file/state",
            "reason": "File exists",
            "lost": "the numbers",
        }
    ]
