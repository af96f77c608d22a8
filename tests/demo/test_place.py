from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edged.demo import place
from tests.support.broker import free_port
from tests.support.daemon import edged, said


def test_the_wanted_folder_is_taken_and_kept(tmp_path: Path) -> None:
    with place.folder(tmp_path / "demo") as folder:
        assert folder == tmp_path / "demo"
    assert folder.is_dir()
    with place.folder(tmp_path / "demo") as again:
        assert again == folder


def test_a_second_demo_has_a_folder_of_its_own(tmp_path: Path) -> None:
    with place.folder(tmp_path / "demo") as first, place.folder(tmp_path / "demo") as second:
        assert first != second
        assert second.is_dir()
    assert first.exists()
    assert not second.exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_of_ours_is_left_alone(kind: str, tmp_path: Path) -> None:
    wanted, other = tmp_path / "demo", tmp_path / "other"
    other.mkdir()
    if kind == "file":
        wanted.write_text("mine")
    else:
        wanted.symlink_to(other)
    with place.folder(wanted) as folder:
        assert folder not in (wanted, other)
    assert not list(other.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    wanted = tmp_path / "demo"
    wanted.mkdir()
    os.chown(wanted, 12345, 12345)
    with place.folder(wanted) as folder:
        assert folder != wanted
    assert not list(wanted.iterdir())


@pytest.mark.parametrize(("family", "address"), place.LOOPBACK)
def test_a_port_that_is_taken_is_left_alone(family: int, address: str) -> None:
    # Free everywhere: one that is free at this address may be taken at the other.
    number = next(n for n in (free_port() for _ in range(100)) if place.port(n) == n)
    with socket.socket(family) as taken:
        try:
            taken.bind((address, number))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        taken.listen()
        assert place.port(number) != number
    assert place.port(number) == number


def test_a_configuration_without_changes_is_the_original(tmp_path: Path) -> None:
    original = tmp_path / "demo.toml"
    original.write_text("a = 1\n")
    assert place.configuration(original, tmp_path / "elsewhere", {}) == original


def test_a_copy_differs_in_what_was_asked(tmp_path: Path) -> None:
    original = tmp_path / "demo.toml"
    original.write_text("a = 1\nb = 2\n")
    (tmp_path / "copy").mkdir()
    copy = place.configuration(original, tmp_path / "copy", {"a = 1": "a = 3"})
    assert copy.read_text() == "a = 3\nb = 2\n"
    with pytest.raises(ValueError, match="once, found it 0 times"):
        place.configuration(original, tmp_path / "copy", {"c = 1": ""})


def test_the_tests_of_its_configuration_pass() -> None:
    code, out, err = said(edged("test", "-c", str(Path(__file__).parents[2] / "edged" / "demo" / "demo.toml")))
    assert (code, err) == (0, "")
    assert "3 passed" in out
