from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.model.records import ModelRefused
from edged.model.store import Copy, Pointer, Store
from tests.support import hostile, models


def version(folder: Path, number: int) -> Path:
    models.linear(folder / "model.onnx", metadata={"version": str(number)})
    return folder


def names(store: Store) -> list[str]:
    return sorted(p.name for p in store.root.iterdir())


def take(store: Store, path: Path) -> Copy:
    return store.take("m", path)[0]


def refused(store: Store, path: Path) -> str:
    with pytest.raises(ModelRefused) as caught:
        store.take("m", path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0].text


def test_a_copy_of_one_file_has_its_hash(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "models"), models.linear(tmp_path / "pump.onnx")
    copy, manifest = store.take("m", path)
    assert copy.id == manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.path == copy.path / "model.onnx" == tmp_path / "models" / copy.id / "model.onnx"
    assert manifest.path.read_bytes() == path.read_bytes()
    assert stat.S_IMODE(manifest.path.stat().st_mode) == 0o400
    assert names(store) == [copy.id]


def test_a_copy_of_a_folder_has_all_its_files_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    models.external(folder / "model.onnx", "w.bin")
    (folder / "model.toml").write_text('version = "7"\ngolden = "golden.npz"\n')
    np.savez(folder / "golden.npz", x=np.ones((1, 3), np.float32), y=np.array([[6, 9]], np.float32))
    (folder / "README.md").write_text("not a part of it")
    store = Store(tmp_path / "models")
    copy, manifest = store.take("m", folder)
    files = ["golden.npz", "model.onnx", "model.toml", "w.bin"]
    assert sorted(p.name for p in copy.path.iterdir()) == ["copied", *files]
    assert (manifest.version, manifest.onnx.external_files) == ("7", (copy.path / "w.bin",))
    for where in (folder, copy.path):
        listed = subprocess.run(["sha256sum", *files], cwd=where, capture_output=True)
        assert copy.id == hashlib.sha256(listed.stdout).hexdigest()


def test_weights_beside_it_are_part_of_what_it_is(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "models"), models.external(tmp_path / "m" / "model.onnx", "w.bin")
    one, before = store.take("m", path.parent)
    (tmp_path / "m" / "w.bin").write_bytes(bytes(24))
    two, after = store.take("m", path.parent)
    assert one.id != two.id
    assert before.sha256 != after.sha256
    assert (one.path / "w.bin").read_bytes() != bytes(24)


def test_the_original_may_change_afterwards(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "models"), version(tmp_path / "m", 1)
    copy, manifest = store.take("m", folder)
    before = manifest.path.read_bytes()
    os.truncate(folder / "model.onnx", 10)
    assert manifest.path.read_bytes() == before
    assert take(store, version(folder, 1)) == copy


def test_the_same_again_is_not_copied_again(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "models"), version(tmp_path / "m", 1)
    first = take(store, folder).path.stat()
    assert take(store, folder).path.stat() == first


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "models"), version(tmp_path / "m", 1)
    copy = take(store, folder)
    store.promote({"m": copy})
    file = copy.path / "model.onnx"
    good = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(good[:-1] + b"x")
    assert store.current("m") is None
    assert take(store, folder) == copy
    assert file.read_bytes() == good
    assert store.current("m") == copy


def test_the_last_two_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    copies = []
    for number in range(4):
        copies.append(take(store, version(tmp_path / "m", number)))
        store.promote({"m": copies[-1]})
    assert store.current("m") == copies[3]
    assert store.previous("m") == copies[2]
    assert names(store) == sorted([copies[2].id, copies[3].id, "m.json"])


def test_models_share_copies(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    one = take(store, version(tmp_path / "m", 1))
    store.promote({"a": one})
    store.promote({"b": one})
    for number in (2, 3):
        store.promote({"a": take(store, version(tmp_path / "m", number))})
    assert store.current("b") == one


def test_a_rollback_goes_there_and_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    with pytest.raises(ModelRefused, match="there is no earlier version of it here to go back to"):
        store.roll_back("m")
    good = take(store, version(tmp_path / "m", 1))
    store.promote({"m": good})
    with pytest.raises(ModelRefused, match="no earlier version"):
        store.previous("m")
    bad = take(store, version(tmp_path / "m", 2))
    store.promote({"m": bad})
    assert store.roll_back("m") == good
    assert (store.current("m"), store.previous("m")) == (good, bad)
    assert store.is_held("m", bad)  # the file that was copied over the old one is still there, and is not taken again
    assert not store.is_held("m", good)
    assert store.roll_back("m") == bad
    assert not store.is_held("m", bad)
    store.roll_back("m")
    better = take(store, version(tmp_path / "m", 3))
    store.promote({"m": better})
    assert (store.current("m"), store.previous("m"), store.is_held("m", bad)) == (better, good, False)


def test_a_previous_version_that_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    for number in (1, 2):
        store.promote({"m": take(store, version(tmp_path / "m", number))})
    shutil.rmtree(store.previous("m").path)
    with pytest.raises(ModelRefused, match="is damaged or gone"):
        store.roll_back("m")
    assert store.current("m") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"current": "../../etc"}', '{"current": 1}'])
def test_a_pointer_that_is_none(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path / "models")
    copy = take(store, version(tmp_path / "m", 1))
    (store.root / "m.json").write_text(text)
    assert store.current("m") is None
    store.sweep()
    assert copy.path.is_dir()
    store.promote({"m": copy})
    assert store.current("m") == copy


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    store.sweep()
    kept, other, loose = (take(store, version(tmp_path / "m", number)) for number in (1, 2, 3))
    shutil.copytree(loose.path, store.root / f"{'0' * 64}.new")
    (store.root / "somebody else's").mkdir()
    store.promote({"m": kept, "n": other})
    assert names(store) == sorted([kept.id, other.id, "m.json", "n.json", "somebody else's"])


def test_the_pointer_is_a_file_that_a_person_can_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    copy = take(store, version(tmp_path / "m", 1))
    store.promote({"m": copy})
    text = (store.root / "m.json").read_text()
    assert text == f'{{"current":"{copy.id}","previous":null,"held":null}}\n'
    assert Pointer(copy.id) == Pointer(copy.id, None, None)


AT_TRIAL = {"endless loop", "64 GiB", "unknown operator", "damaged golden", "only NaN"}


@pytest.mark.parametrize("kind", sorted(hostile.ALL.keys() - AT_TRIAL))
def test_what_the_scan_refuses_is_not_copied(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path / "models")
    assert hostile.ALL[kind][1] in refused(store, hostile.build(kind, tmp_path / "m"))
    assert not store.root.exists()


def test_files_that_never_end_are_refused(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "models"), tmp_path / "m"
    folder.mkdir()
    os.mkfifo(folder / "model.onnx")
    assert "expected a plain file, found a pipe" in refused(store, folder)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("/dev/zero")
    assert "expected a plain file, found a device" in refused(store, folder)
    (folder / "model.onnx").unlink()
    models.linear(folder / "model.onnx")
    os.truncate(folder / "model.onnx", 3 << 30)
    assert "an ONNX file has at most 2048 MiB" in refused(store, folder)


def test_weights_may_not_have_the_name_of_the_manifest(tmp_path: Path) -> None:
    path = models.external(tmp_path / "m" / "pump.onnx", "model.toml")
    text = refused(Store(tmp_path / "models"), path)
    assert text == "its weights lie in 'model.toml', which is the name of another file; give them one of their own"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.mounts
def test_a_full_disk_keeps_what_there_is(tmp_path: Path, small_disk: Path) -> None:
    store = Store(small_disk / "models")
    one = take(store, version(tmp_path / "m", 1))
    store.promote({"m": one})
    large = models.linear(tmp_path / "large.onnx", width=1000, out=1000)
    text = refused(store, large)
    assert text == f"no room for a copy of it in {store.root}: it needs 8 MiB, 6 MiB are free"
    assert store.current("m") == one
    assert names(store) == sorted([one.id, "m.json"])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = refused(Store(tmp_path / "file" / "models"), version(tmp_path / "m", 1))
    assert text == f"{tmp_path / 'm'} cannot be copied to {tmp_path / 'file' / 'models'}: Not a directory"


def with_unknown_fields(path: Path) -> tuple[bytes, bytes]:
    """A model as an exporter wrote it, and with something more that nobody knows, which is put in its place."""
    plain = models.linear(path).read_bytes()
    path.write_bytes(plain + b"\xba\x3e\x04more")
    return plain, path.read_bytes()


def test_a_copy_is_written_anew_and_goes_by_the_name_of_its_original(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "models"), tmp_path / "m"
    plain, whole = with_unknown_fields(folder / "model.onnx")
    digest = hashlib.sha256(whole).hexdigest()
    (folder / "model.toml").write_text(f'sha256 = "{digest}"\n')
    copy, manifest = store.take("m", folder)
    assert manifest.path.read_bytes() == plain
    assert (manifest.sha256, manifest.origin, store.digests()) == (digest, folder / "model.onnx", {digest})
    store.promote({"m": copy})
    again = store.current("m")
    assert again == copy
    read = store.manifest("m", copy)
    assert read is not None
    assert read.sha256 == digest


def test_a_copy_that_was_not_written_anew_is_none(tmp_path: Path) -> None:
    """As an earlier edged made them, or somebody who can write there."""
    store, path = Store(tmp_path / "models"), tmp_path / "m.onnx"
    plain, whole = with_unknown_fields(path)
    id = hashlib.sha256(whole).hexdigest()
    (store.root / id).mkdir(parents=True)
    (store.root / id / "model.onnx").write_bytes(whole)
    (store.root / "m.json").write_text(f'{{"current": "{id}"}}')
    assert store.current("m") is None
    copy, manifest = store.take("m", path)
    assert copy.id == id
    assert manifest.path.read_bytes() == plain


@pytest.mark.parametrize("name", ["extra", "copied"])
def test_a_copy_with_another_file_is_damaged(tmp_path: Path, name: str) -> None:
    store, folder = Store(tmp_path / "models"), version(tmp_path / "m", 1)
    copy = take(store, folder)
    store.promote({"m": copy})
    (copy.path / name).unlink(missing_ok=True)
    (copy.path / name).write_text("{}")
    assert store.current("m") is None


def test_what_is_lent_is_not_copied(tmp_path: Path) -> None:
    daemon, folder = Store(tmp_path / "models"), version(tmp_path / "m", 1)
    command = Store(tmp_path / "scratch", lender=daemon)
    assert command.take("m", folder)[0].path.parent == command.root
    shutil.rmtree(command.root)
    copy = take(daemon, folder)
    assert command.take("m", folder)[0] == copy
    assert not command.root.exists()
