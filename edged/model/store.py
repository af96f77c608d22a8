"""The private copies of models in the state directory: only they are ever loaded.

    models/<id>/        model.onnx, model.toml, golden samples, files of weights: read-only, complete, synced
    models/<name>.json  which copy the model `name` runs with, and which it ran with before

onnxruntime maps what it loads: whoever shortened the original would end the process, whoever overwrote it would change its
answers. `<id>` is the SHA-256 of the one file, or of what `sha256sum` prints for several, so that equal models are one copy.
A copy is made beside and renamed when it is whole; a pointer is replaced in one step. Everything here blocks: call it in a
one-shot thread, one call at a time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edged.config.units import KIB, MIB, in_mib
from edged.durable import NEW, read_kept, replaced, sync
from edged.errors import Problem
from edged.model.manifest import Manifest, read_manifest
from edged.model.records import ModelRefused

BLOCK = 1 << 20
COPY = re.compile(r"[0-9a-f]{64}")
POINTER_BYTES = 4 * KIB
SPARE_BYTES = 4 * MIB
"""Left free on the disk: a log and a saved state must still find room."""


class Unfinished(ModelRefused):
    """The files change while they are read: somebody is still writing them. Look again when they have been quiet."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A private copy: `id` names its contents, `path` is its folder."""

    id: str
    path: Path


@dataclass(frozen=True, slots=True)
class _File:
    """One file to copy. `within`: the folder in which it must lie itself, by no link; None: links are followed."""

    path: Path
    within: Path | None = None


class Pointer(msgspec.Struct, frozen=True):
    """`current` runs. `previous` ran before it. `held`: what a rollback went away from, not to be taken again by itself."""

    current: str
    previous: str | None = None
    held: str | None = None


class Store:
    """`root`: the folder `models` of the state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def take(self, name: str, path: Path) -> tuple[Copy, Manifest]:
        """Copies the model at `path`, a folder or a bare .onnx, and reads the copy. What is there already is not copied again.

        Raises `ModelRefused` with everything that is wrong with it, `Unfinished` while it is being written.
        """
        source = _read(name, path)
        files = _files(source, path)
        try:
            copy = Copy(_name(_hashes(files)), self.root)
            copy = replace(copy, path=self.root / copy.id)
            if not self._is_whole(copy):
                self._copy(name, files, copy)
            manifest, _ = read_manifest(name, copy.path)
        except OSError as error:
            raise _refused(name, f"{path} cannot be copied to {self.root}: {error.strerror or error}") from None
        if manifest is None or manifest.sha256 != source.sha256:
            raise Unfinished([Problem(f"model.{name}.path", f"{path} changes while it is read: it is still being written")])
        return copy, manifest

    def current(self, name: str) -> Copy | None:
        """What `name` runs with, if it is whole; a damaged copy is as good as none."""
        pointer = self._pointer(name)
        return self._whole(pointer.current) if pointer is not None else None

    def previous(self, name: str) -> Copy:
        """What a rollback of `name` would load. Raises `ModelRefused` if there is nothing."""
        pointer = self._pointer(name)
        if pointer is None or pointer.previous is None:
            raise _refused(name, "there is no earlier version of it here to go back to")
        copy = self._whole(pointer.previous)
        if copy is None:
            raise _refused(name, f"its earlier version {pointer.previous[:8]} in {self.root} is damaged or gone")
        return copy

    def is_held(self, name: str, copy: Copy) -> bool:
        """Whether a rollback went away from this one: it is not taken again until another one was, or somebody asks for it."""
        pointer = self._pointer(name)
        return pointer is not None and pointer.held == copy.id

    def promote(self, copies: Mapping[str, Copy]) -> None:
        """These run now, by name; what ran until now stays as the previous one, older ones and those that were refused go: call
        it when nothing is being tried. Raises `OSError`."""
        for name, copy in copies.items():
            before = self._pointer(name)
            if before is None:
                self._point(name, Pointer(copy.id))
            elif before.current != copy.id:
                self._point(name, Pointer(copy.id, previous=before.current))
        self.sweep()

    def roll_back(self, name: str) -> Copy:
        """The previous one runs now, and the other way round the next time. Raises `ModelRefused`, `OSError`."""
        copy, pointer = self.previous(name), self._pointer(name)
        assert pointer is not None
        self._point(name, Pointer(copy.id, previous=pointer.current, held=pointer.current))
        return copy

    def sweep(self) -> None:
        """Removes copies that no pointer names, and what a crash left half done."""
        if not self.root.is_dir():
            return
        kept: set[str] = set()
        for file in self.root.glob("*.json*"):
            pointer = self._pointer(file.name.partition(".json")[0])
            if pointer is None:
                return  # it cannot be read, or was set aside: rather a copy too many
            kept |= {pointer.current, pointer.previous or ""}
        for folder in self.root.iterdir():
            if folder.name not in kept and COPY.fullmatch(folder.name.removesuffix(NEW)):
                shutil.rmtree(folder, ignore_errors=True)

    def _pointer(self, name: str) -> Pointer | None:
        return read_kept(self._file(name), POINTER_BYTES, _pointer_in, "model's versions", lost="which ran last, and rollback")

    def _point(self, name: str, pointer: Pointer) -> None:
        with replaced(self._file(name)) as file:
            file.write(msgspec.json.encode(pointer) + b"\n")

    def _file(self, name: str) -> Path:
        return self.root / f"{name}.json"

    def _whole(self, id: str) -> Copy | None:
        copy = Copy(id, self.root / id)
        return copy if self._is_whole(copy) else None

    def _is_whole(self, copy: Copy) -> bool:
        """Whether it is there and still what its name says: a bad card must not change what a model answers."""
        try:
            files = {p.relative_to(copy.path).as_posix(): _File(p) for p in copy.path.rglob("*") if p.is_file()}
            return bool(files) and _name(_hashes(files)) == copy.id
        except OSError:
            return False

    def _copy(self, name: str, files: dict[str, _File], copy: Copy) -> None:
        """Raises `OSError`, `Unfinished` if it is no longer what it was when it was hashed."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        size = sum(f.path.stat().st_size for f in files.values())
        free = _free(self.root)
        if size + SPARE_BYTES > free:
            text = f"no room for a copy of it in {self.root}: it needs {in_mib(size + SPARE_BYTES)}, {in_mib(free)} are free"
            raise _refused(name, text)
        new = copy.path.with_name(copy.id + NEW)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(copy.path, ignore_errors=True)  # damaged, or it would have been taken
        try:
            new.mkdir(mode=0o700)
            hashes = {n: _copy_file(f, new / n) for n, f in files.items()}
            if _name(hashes) != copy.id:
                text = f"{files['model.onnx'].path} changes while it is read: it is still being written"
                raise Unfinished([Problem(f"model.{name}.path", text)])
            for folder in (*(p for p in new.rglob("*") if p.is_dir()), new):
                sync(folder)
            os.rename(new, copy.path)
            sync(self.root)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def _read(name: str, path: Path) -> Manifest:
    manifest, problems = read_manifest(name, path)
    if manifest is None:
        raise ModelRefused([p for p in problems if not p.is_warning])
    return manifest


def _files(manifest: Manifest, path: Path) -> dict[str, _File]:
    """All files of a model, by their names in a copy. Raises `ModelRefused` if two would be one."""
    folder = manifest.path.parent
    files = {"model.onnx": _File(manifest.path)}
    more = {p.relative_to(folder).as_posix(): _File(p, folder) for p in manifest.onnx.external_files}
    if path.is_dir() and (path / "model.toml").exists():
        files["model.toml"] = _File(path / "model.toml")
    if manifest.golden is not None:
        more[manifest.golden.path.name] = _File(manifest.golden.path)
    if taken := {"model.onnx", "model.toml"} & more.keys():
        raise _refused(
            manifest.name, f"its weights lie in {taken.pop()!r}, which is the name of another file; give them one of their own"
        )
    return files | more


def _hashes(files: dict[str, _File]) -> dict[str, str]:
    return {name: _hash(file) for name, file in files.items()}


def _name(hashes: dict[str, str]) -> str:
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _hash(file: _File) -> str:
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
    return digest.hexdigest()


def _copy_file(source: _File, target: Path) -> str:
    """Its SHA-256. Synced."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _created(target, 0o400) as fd:
        for block in _blocks(source):
            digest.update(block)
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
        os.fsync(fd)
    return digest.hexdigest()


def _blocks(file: _File) -> Iterator[bytes]:
    """The bytes of a plain file. Raises `OSError`, for anything else too: a pipe would never end."""
    fd = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{file.path} is no plain file")
        if file.within is not None:  # looked at before, by its name; what was opened by that name now is what counts
            expected = file.within.resolve() / file.path.relative_to(file.within)
            if status.st_nlink > 1 or os.readlink(f"/proc/self/fd/{fd}") != str(expected):
                raise OSError(errno.ELOOP, f"{file.path} is a link")
        while block := os.read(fd, BLOCK):
            yield block
    finally:
        os.close(fd)


@contextlib.contextmanager
def _created(path: Path, mode: int) -> Iterator[int]:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _refused(name: str, text: str) -> ModelRefused:
    return ModelRefused([Problem(f"model.{name}.path", text)])


def _pointer_in(data: bytes) -> Pointer:
    pointer = msgspec.json.decode(data, type=Pointer)
    if not (COPY.fullmatch(pointer.current) and COPY.fullmatch(pointer.previous or pointer.current)):
        raise ValueError("it names no copy")
    return pointer
