from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edged.daemon import file_watch as module
from edged.daemon.file_watch import Watch, folders_of, mark_of

LIMIT_S = 10


async def following(changes: AsyncIterator[set[str]]) -> set[str]:
    return await asyncio.wait_for(changes.__anext__(), LIMIT_S)


async def test_what_was_saved_is_told_once_it_is_quiet(tmp_path: Path) -> None:
    one, folder = tmp_path / "edged.toml", tmp_path / "model"
    one.write_text("1")
    folder.mkdir()
    (folder / "model.onnx").write_text("1")
    changes = Watch(lambda: {"": one, "m": folder, "absent": tmp_path / "absent"}).changes()
    assert await following(changes) == {"", "m", "absent"}
    new = tmp_path / "new"
    new.write_text("2")
    new.replace(one)
    assert await following(changes) == {""}
    (folder / "model.onnx").write_text("22")
    assert await following(changes) == {"m"}
    (tmp_path / "absent").write_text("here")
    assert await following(changes) == {"absent"}
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_symlink_to_another_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edged.toml").write_text(name)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "a" / "edged.toml")
    changes = Watch(lambda: {"": link}).changes()
    await following(changes)
    (tmp_path / "a" / "edged.toml").write_text("a, edited in place")
    assert await following(changes) == {""}
    other = tmp_path / "other"
    other.symlink_to(tmp_path / "b" / "edged.toml")
    other.replace(link)
    assert await following(changes) == {""}
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_release_is_gone_over_to(tmp_path: Path) -> None:
    """`releases/current`, and the `..data` of Kubernetes: the link is not the file itself."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edged.toml").write_text(name)
    (tmp_path / "current").symlink_to("1")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "edged.toml").symlink_to("../..data/edged.toml")
    files = {"release": tmp_path / "current" / "edged.toml", "map": tmp_path / "etc" / "edged.toml"}
    changes = Watch(lambda: files).changes()
    await following(changes)
    for link, name in (("current", "release"), ("..data", "map")):
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(tmp_path / link)
        assert await following(changes) == {name}
    await changes.aclose()  # type: ignore[attr-defined]


async def test_what_was_not_there_with_its_folder(tmp_path: Path) -> None:
    late = tmp_path / "a" / "edged.toml"
    changes = Watch(lambda: {"": late}).changes()
    await following(changes)
    (tmp_path / "a").mkdir()
    late.write_text("1")
    assert await following(changes) == {""}
    await changes.aclose()  # type: ignore[attr-defined]


def test_folders_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "round").symlink_to("round")
    assert folders_of(tmp_path / "a" / ".." / "link" / "b" / "f") == {tmp_path, tmp_path / "a" / "b"}
    assert folders_of(tmp_path / "a" / "b") == {tmp_path / "a", tmp_path / "a" / "b"}
    assert folders_of(tmp_path / "round" / "f") == {tmp_path}


async def test_without_inotify_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class None_:
        def __init__(self) -> None:
            raise OSError("fs.inotify.max_user_instances")

    monkeypatch.setattr(module, "Inotify", None_)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    one = tmp_path / "edged.toml"
    one.write_text("1")
    changes = Watch(lambda: {"": one}).changes()
    await following(changes)
    one.write_text("22")
    assert await following(changes) == {""}
    await changes.aclose()  # type: ignore[attr-defined]


def test_the_mark_of_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert mark_of(tmp_path / "absent") == ()
    assert mark_of(tmp_path) == ()
