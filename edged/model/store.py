"""The private copies of models in the state directory: only they are ever loaded.

    models/<id>/        model.onnx, model.toml, golden samples, files of weights: read-only, complete, synced
    models/<id>/copied  what they were copied from, and the SHA-256 of each
    models/<name>.json  which copy the model `name` runs with, and which it ran with before

onnxruntime maps what it loads: whoever shortened the original would end the process, whoever overwrote it would change its
answers; and it reads more into odd bytes than they say, so model.onnx is rewritten (`model/onnx_copy.py`). `<id>` is the
SHA-256 of the one file that was copied, or of what `sha256sum` prints for several, so that equal models are one copy.
A copy is made beside and renamed when it is whole; a pointer is replaced in one step. Everything here blocks: call it in a
one-shot thread, one call at a time.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

import msgspec
from msgspec.structs import replace

from edged.errors import Problem
from edged.model.manifest import Manifest, hash_file, read_manifest
from edged.model.onnx_copy import Weights, written
from edged.model.onnx_file import MAX_WEIGHTS
from edged.model.records import ModelRefused
from edged.notation.units import KIB, MIB, in_mib
from edged.system.durable import NEW, read_kept, replaced, sync
from edged.system.plain_file import UnfitFile, opened_plain, read_plain

BLOCK = 1 << 20
MODEL = "model.onnx"
NOTE, MAX_NOTE = "copied", 1 << 20
COPY = re.compile(r"[0-9a-f]{64}")
SCRATCH = re.compile(r"edged-[0-9a-f]{16}")
POINTER_BYTES = 4 * KIB
SPARE_BYTES = 4 * MIB
"""Left free on the disk: a log and a saved state must still find room."""


class Unfinished(ModelRefused):
    """The files change while they are read: somebody is still writing them. Look again when they have been quiet."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A private copy: `id` names what it was made of, `path` is its folder. `warnings`: what was found when it was taken."""

    id: str
    path: Path
    warnings: tuple[Problem, ...] = field(default=(), compare=False)


class _File(msgspec.Struct, frozen=True):
    """One file to copy. `within`: the folder in which it must lie itself, by no link; None: links are followed."""

    path: Path
    within: Path | None = None


class Note(msgspec.Struct, frozen=True):
    """What a copy was made of: `sha256` as a manifest has it. `files`: the SHA-256 of each file in the copy."""

    sha256: str
    files: dict[str, str]


class Pointer(msgspec.Struct, frozen=True):
    """`current` runs. `previous` ran before it. `held`: what a rollback went away from, not to be taken again by itself."""

    current: str
    previous: str | None = None
    held: str | None = None


class Store:
    """`root`: the folder `models` of the state directory, or one that is gone when the process ends (`scratch`). `lender`: where
    a copy may be already."""

    def __init__(self, root: Path, lender: Store | None = None) -> None:
        self.root = root
        self._lender = lender

    def take(self, name: str, path: Path) -> tuple[Copy, Manifest]:
        """Copies the model at `path`, a folder or a bare .onnx, and reads the copy. What is there already is not copied again.

        Raises `ModelRefused` with everything that is wrong with it, `Unfinished` while it is being written.
        """
        source, warnings = _read(name, path)
        files = _files(source, path)
        try:
            id = _name({n: _hash(f) for n, f in files.items()})
            copy = self._whole(id) or (self._lender._whole(id) if self._lender is not None else None)
            if copy is None:
                copy = Copy(id, self.root / id)
                self._copy(source, files, copy)
            copy = dataclasses.replace(copy, warnings=tuple(warnings))
            manifest = self.manifest(name, copy)
        except UnfitFile as error:
            raise _refused(name, f"{path} cannot be copied to {self.root}: {error}") from None
        except OSError as error:
            raise _refused(name, f"{path} cannot be copied to {self.root}: {error.strerror or error}") from None
        if manifest is None or manifest.sha256 != source.sha256:
            raise _unfinished(name, path)
        return copy, replace(manifest, origin=source.path)

    def manifest(self, name: str, copy: Copy) -> Manifest | None:
        """What a copy says of itself, for the model `name`; None if it can be read no more."""
        note = _note(copy.path)
        return read_manifest(name, copy.path, note.sha256)[0] if note is not None else None

    def digests(self) -> set[str]:
        """The SHA-256 of every model of which there is a copy, as manifests have it."""
        notes = (_note(file.parent) for file in self.root.glob(f"*/{NOTE}"))
        return {note.sha256 for note in notes if note is not None}

    def current(self, name: str) -> Copy | None:
        """What `name` runs with, if it is whole; a damaged copy is as good as none."""
        pointer = self._pointer(name)
        return self._whole(pointer.current) if pointer is not None else None

    def current_id(self, name: str) -> str | None:
        """What `name` ran with last, be it whole or not."""
        pointer = self._pointer(name)
        return pointer.current if pointer is not None else None

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
                return  # it cannot be read, or was moved aside: rather a copy too many
            kept |= {pointer.current, pointer.previous or ""}
        for folder in self.root.iterdir():
            if folder.name not in kept and COPY.fullmatch(folder.name.removesuffix(NEW)):
                shutil.rmtree(folder, ignore_errors=True)

    def _pointer(self, name: str) -> Pointer | None:
        return read_kept(
            self._file(name), POINTER_BYTES, _pointer_in, lost="which version of the model ran last, and its rollback"
        )

    def _point(self, name: str, pointer: Pointer) -> None:
        with replaced(self._file(name)) as file:
            file.write(msgspec.json.encode(pointer) + b"\n")

    def _file(self, name: str) -> Path:
        return self.root / f"{name}.json"

    def _whole(self, id: str) -> Copy | None:
        """The copy, if it is there and still what was written: a bad card must not change what a model answers."""
        copy = Copy(id, self.root / id)
        note = _note(copy.path)
        if note is None:
            return None
        try:
            found = {p.relative_to(copy.path).as_posix() for p in copy.path.rglob("*") if not p.is_dir()} - {NOTE}
            is_whole = found == note.files.keys() and all(hash_file(copy.path / n) == note.files[n] for n in found)
            return copy if is_whole else None
        except (OSError, ValueError):
            return None

    def _copy(self, source: Manifest, files: dict[str, _File], copy: Copy) -> None:
        """Raises `OSError`, `Unfinished` if it is no longer what it was when it was hashed."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        size = sum(f.path.stat().st_size for f in files.values())
        free = _free(self.root)
        if size + SPARE_BYTES > free:
            text = f"no room for a copy of it in {self.root}: it needs {in_mib(size + SPARE_BYTES)}, {in_mib(free)} are free"
            raise _refused(source.name, text)
        new = copy.path.with_name(copy.id + NEW)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(copy.path, ignore_errors=True)  # damaged, or it would have been taken
        try:
            new.mkdir(mode=0o700)
            hashes = {n: _write(_blocks(f), new / n) for n, f in files.items() if n != MODEL}
            written = _write(_model_blocks(source), new / MODEL)
            if _name(hashes | {MODEL: _hash(files[MODEL])}) != copy.id:
                raise _unfinished(source.name, source.path)
            _write([msgspec.json.encode(Note(source.sha256, hashes | {MODEL: written}))], new / NOTE)
            for folder in (*(p for p in new.rglob("*") if p.is_dir()), new):
                sync(folder)
            os.rename(new, copy.path)
            sync(self.root)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


@cache
def scratch() -> Path:
    """A folder for copies that nobody wants when this process has ended. Takes away those of processes that were killed: whoever
    lives has a lock on his."""
    large = Path("/var/tmp")  # on a disk, where /tmp may be memory
    is_chosen = "TMPDIR" in os.environ or not os.access(large, os.W_OK)
    parent = Path(tempfile.gettempdir()) if is_chosen else large
    for folder in parent.glob("edged-*"):
        if SCRATCH.fullmatch(folder.name) and (fd := _locked(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(fd)
    folder = parent / f"edged-{secrets.token_hex(8)}"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # whoever copies says why there can be none
        folder.mkdir(mode=0o700)
        _locked(folder)
    return folder


def _locked(folder: Path) -> int | None:
    """A descriptor with the lock of a folder of this user's, for as long as the process lives; None where somebody has it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _read(name: str, path: Path) -> tuple[Manifest, list[Problem]]:
    manifest, problems = read_manifest(name, path)
    if manifest is None:
        raise ModelRefused([p for p in problems if not p.is_warning])
    return manifest, problems


def _note(folder: Path) -> Note | None:
    """None of a copy of an earlier edged, too: it was not rewritten."""
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
        return msgspec.json.decode(read_plain(folder / NOTE, MAX_NOTE), type=Note)
    return None


def _files(manifest: Manifest, path: Path) -> dict[str, _File]:
    """All files of a model, by their names in a copy. Raises `ModelRefused` if two would be one."""
    folder = manifest.path.parent
    files = {MODEL: _File(manifest.path)}
    more = {p.relative_to(folder).as_posix(): _File(p, folder) for p in manifest.onnx.external_files}
    if path.is_dir() and (path / "model.toml").exists():
        files["model.toml"] = _File(path / "model.toml")
    if manifest.golden is not None:
        more[manifest.golden.path.name] = _File(manifest.golden.path)
    if taken := {MODEL, "model.toml", NOTE} & more.keys():
        raise _refused(
            manifest.name, f"its weights lie in {taken.pop()!r}, which is the name of another file; give them one of their own"
        )
    return files | more


def _model_blocks(source: Manifest) -> Iterator[bytes]:
    """Raises `OSError`, `ModelRefused` for what cannot be rewritten."""
    weights = {n: Weights(str(PurePosixPath(n)), p.stat().st_size) for n, p in source.onnx.external.items()}
    with opened_plain(source.path, MAX_WEIGHTS) as (fd, status):
        try:
            yield from written(fd, status.st_size, weights)
        except ValueError as error:
            raise _refused(source.name, f"{source.path}: not an ONNX model, or a damaged one: {error}") from None


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


def _write(blocks: Iterable[bytes], target: Path) -> str:
    """Its SHA-256. Synced."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _created(target, 0o400) as fd:
        for block in blocks:
            digest.update(block)
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
        os.fsync(fd)
    return digest.hexdigest()


def _blocks(file: _File) -> Iterator[bytes]:
    """The bytes of a plain file. Raises `OSError`, `ValueError`."""
    with opened_plain(file.path, MAX_WEIGHTS) as (fd, status):
        if file.within is not None:  # looked at before, by its name; what was opened by that name now is what counts
            expected = file.within.resolve() / file.path.relative_to(file.within)
            if status.st_nlink > 1 or os.readlink(f"/proc/self/fd/{fd}") != str(expected):
                raise OSError(errno.ELOOP, f"{file.path} is a link")
        left = status.st_size
        while left and (block := os.read(fd, min(BLOCK, left))):
            yield block
            left -= len(block)


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


def _unfinished(name: str, path: Path) -> Unfinished:
    return Unfinished([Problem(f"model.{name}.path", f"{path} changes while it is read: it is still being written")])


def _refused(name: str, text: str) -> ModelRefused:
    return ModelRefused([Problem(f"model.{name}.path", text)])


def _pointer_in(data: bytes) -> Pointer:
    pointer = msgspec.json.decode(data, type=Pointer)
    if not (COPY.fullmatch(pointer.current) and COPY.fullmatch(pointer.previous or pointer.current)):
        raise ValueError("it names no copy")
    return pointer
