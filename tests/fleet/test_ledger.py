"""What outlives a restart, within its bound of disk."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edged.fleet.announcement import Refused
from edged.fleet.ledger import UNSETTLED, Entry, File, Ledger, unpack


def test_is_read_again(tmp_path: Path) -> None:
    entry = Entry(7, "d", File("4", "a" * 64, 3), None, "4", "running")
    Ledger(tmp_path).put("normal", entry)
    ledger = Ledger(tmp_path).load()
    assert ledger.get("normal") == entry
    assert ledger.override("normal") is None  # the file is not there
    (tmp_path / f"{'a' * 64}.onnx").write_bytes(b"abc")
    assert ledger.override("normal") == tmp_path / f"{'a' * 64}.onnx"
    assert ledger.override("other") is None


def test_two_threads_lose_nothing_of_each_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: ledger.put(f"m{n}", Entry(counter=n)), range(64)))
    assert {name: entry.counter for name, entry in Ledger(tmp_path).load().entries.items()} == {f"m{n}": n for n in range(64)}


def test_a_damaged_one_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_bytes(b"{")
    assert Ledger(tmp_path).load().entries == {}
    assert (tmp_path / "ledger.json.aside").exists()


def test_room_is_made_of_what_nobody_names(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put("normal", Entry(running=File("4", "a" * 64, 100), before=File("3", "b" * 64, 100)))
    for name in "abc":
        (tmp_path / f"{name * 64}.onnx").write_bytes(b"x" * 100)
    (tmp_path / f"{'d' * 64}.part").write_bytes(b"x")
    ledger.make_room(100, 300)
    assert sorted(path.name[0] for path in tmp_path.glob("*.onnx")) == ["a", "b"]
    with pytest.raises(Refused, match=r"200 are taken of fleet\.max_bytes, 300"):
        ledger.make_room(101, 300)
    ledger.keep_only_part("e" * 64)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", ["../up", "a/b", "/abs", ".hidden"])
def test_an_archive_that_reaches_elsewhere(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(Refused, match="plain files"):
        unpack(tmp_path / "x.tar", tmp_path / "x.d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


def test_a_link_in_an_archive(tmp_path: Path) -> None:
    info = tarfile.TarInfo("model.onnx")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(info)
    with pytest.raises(Refused, match="plain files"):
        unpack(tmp_path / "x.tar", tmp_path / "x.d")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(Refused, match=r"not a \.tar"):
        unpack(tmp_path / "x.tar", tmp_path / "x.d")


class TestAConfigurationAtAStart:
    """What runs in the place of the local file, and what is said of the others."""

    NEW, OLD = (File(version, version * 64, 9, is_configuration=True) for version in ("a", "b"))

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Ledger:
        return Ledger(tmp_path)

    @pytest.mark.parametrize("state", ["trying", "guarded", "fetching", "refused", "failed"])
    @pytest.mark.parametrize("before", [OLD, None])
    def test_one_that_was_not_settled_is_left(self, ledger: Ledger, state: str, before: File | None) -> None:
        """Also after a newer announcement, of which the state tells; an older edged had nothing but the state."""
        is_unsettled = state not in UNSETTLED
        ledger.put("", Entry(running=self.NEW, before=before, state=state, counter=7, is_unsettled=is_unsettled))
        copy = ledger.configuration(at_start=True)
        assert copy == (ledger.path_of(before) if before is not None else None)
        assert ledger.configuration(at_start=False) == ledger.path_of(self.NEW)
        assert ledger.settle(copy, 60) == "edged ended within 60 s of the change"
        kept = Ledger(ledger.root).load()
        assert kept.get("") == Entry(running=before, state="went_back", counter=7, reason="edged ended within 60 s of the change")
        assert kept.settle(kept.configuration(at_start=True), 60) == ""

    def test_one_that_was_settled_runs_on(self, ledger: Ledger) -> None:
        ledger.put("", Entry(running=self.NEW, before=self.OLD, state="running"))
        assert ledger.settle(ledger.configuration(at_start=True), 60) == ""
        assert ledger.get("").before == self.OLD

    def test_one_that_cannot_be_run_any_more_is_said(self, ledger: Ledger) -> None:
        ledger.put("", Entry(running=self.NEW, state="running"))
        assert ledger.settle(None, 60) == "it cannot be run any more: the log says why"
        assert ledger.get("").running is None
