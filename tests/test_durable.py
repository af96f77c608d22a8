from __future__ import annotations

from pathlib import Path

import pytest

from edged.durable import replaced, sync


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
