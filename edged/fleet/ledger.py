"""What must outlive a restart: which announcement of each model was taken last, and which files are of them.

STATE_DIR/fleet/ledger.json
STATE_DIR/fleet/SHA256.part      on its way
STATE_DIR/fleet/SHA256           as it was announced
STATE_DIR/fleet/SHA256.d/        the folder that a .tar held
STATE_DIR/fleet/SHA256.toml      a configuration
"""

from __future__ import annotations

import shutil
import tarfile
import threading
from pathlib import Path, PurePosixPath

import msgspec

from edged.fleet.announcement import CONFIGURATION, Known, Refused
from edged.system.durable import read_kept, replaced, sync

MAX_BYTES = 1 << 20
MAX_FILES = 64
ONNX, TOML = ".onnx", ".toml"
UNSETTLED = ("trying", "guarded")
"""States in which a version runs that may yet be left."""
LOCAL = "local"
"""The version that runs while nothing that was announced does: the file of the configuration."""


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model, or a configuration, that was fetched."""

    version: str
    sha256: str
    size: int
    is_tar: bool = False
    is_configuration: bool = False


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """`running`: None is the local file of the configuration. `wanted` was announced; `state` and `reason`: what came of it.
    `is_unsettled`: the guard of what runs is not over, whatever was announced since; `before` is what it goes back to."""

    counter: int = -1
    digest: str = ""
    running: File | None = None
    before: File | None = None
    wanted: str = ""
    state: str = "none"
    reason: str = ""
    is_unsettled: bool = False

    @property
    def may_be_left(self) -> bool:
        """Whether what runs may yet be left. A ledger of an older edged says so by its state alone."""
        return self.is_unsettled or self.state in UNSETTLED

    @property
    def known(self) -> Known:
        return Known(self.counter, self.digest)


class Ledger:
    """`root` is the folder `fleet` of the state directory. All of it blocks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: dict[str, Entry] = {}
        self._lock = threading.Lock()  # each announcement is noted by a thread of its own

    def load(self) -> Ledger:
        decode = msgspec.json.Decoder(dict[str, Entry]).decode
        self.entries = read_kept(self._path, MAX_BYTES, decode, lost="which announcements of the fleet were taken") or {}
        return self

    def get(self, model: str) -> Entry:
        return self.entries.get(model) or Entry()

    def put(self, model: str, entry: Entry) -> None:
        """Raises OSError."""
        with self._lock:
            entries = {**self.entries, model: entry}
            with replaced(self._path) as file:
                file.write(msgspec.json.encode(entries))
            self.entries = entries

    def path_of(self, file: File) -> Path:
        """What a `[model.NAME]` would have as its path, or where the configuration is."""
        return self.root / f"{file.sha256}{'.d' if file.is_tar else TOML if file.is_configuration else ONNX}"

    def configuration(self, at_start: bool) -> Path | None:
        """What is to be read in the place of the local file, if anything is. `at_start`: one that was not yet settled when the
        process ended may be why it did: then that before it."""
        entry = self.get(CONFIGURATION)
        file = entry.before if at_start and entry.may_be_left else entry.running
        return self.path_of(file) if file is not None else None

    def override(self, model: str) -> Path | None:
        """What runs in the place of the configured file, if it is there."""
        entry = self.entries.get(model)
        if entry is None or entry.running is None:
            return None
        path = self.path_of(entry.running)
        return path if path.exists() else None

    def settle(self, copy: Path | None, guard_s: float) -> str:
        """At a start, which has decided what runs in the place of the local file: a configuration that was left half done, or
        cannot be run, is left for good. Returns why one was. Raises OSError."""
        entry = self.get(CONFIGURATION)
        runs = next((file for file in (entry.running, entry.before) if file is not None and self.path_of(file) == copy), None)
        if runs == entry.running and not entry.may_be_left:
            return ""
        why = "it cannot be run any more: the log says why"
        if entry.may_be_left:
            why = f"edged ended within {guard_s:g} s of the change"
        left = msgspec.structs.replace(entry, running=runs, before=None, state="went_back", reason=why, is_unsettled=False)
        self.put(CONFIGURATION, left)
        return why

    def make_room(self, size: int, max_bytes: int) -> None:
        """Removes files that nobody names. Raises Refused if a file of this size would be too much all the same."""
        named = {file.sha256 for entry in self.entries.values() for file in (entry.running, entry.before) if file is not None}
        taken = 0
        for path in self.root.iterdir() if self.root.is_dir() else ():
            digest = path.name.split(".")[0]
            if digest == "ledger":
                continue
            if digest in named:
                taken += _size(path)
            elif not path.name.endswith(".part"):
                _remove(path)
        if taken + size > max_bytes:
            raise Refused(f"{size} bytes, and {taken} are taken of fleet.max_bytes, {max_bytes}")

    def keep_only_part(self, sha256: str) -> None:
        """Of files on their way only this one is still wanted."""
        for path in self.root.glob("*.part"):
            if path.name != f"{sha256}.part":
                _remove(path)

    @property
    def _path(self) -> Path:
        return self.root / "ledger.json"


def unpack(archive: Path, folder: Path) -> None:
    """The plain files of a .tar, each directly in `folder`. Raises Refused for anything else, OSError."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    try:
        with tarfile.open(archive, "r:") as tar:
            for count, member in enumerate(tar):
                name = PurePosixPath(member.name).name
                if not member.isfile() or member.name.removeprefix("./") != name or name.startswith("."):
                    raise Refused(f"the archive holds {member.name!r:.80}; expected plain files without folders")
                if count >= MAX_FILES:
                    raise Refused(f"the archive holds more than {MAX_FILES} files")
                held = tar.extractfile(member)
                assert held is not None
                with (new / name).open("xb") as out:
                    shutil.copyfileobj(held, out, 1 << 16)
                sync(new / name)
    except (tarfile.TarError, FileExistsError, EOFError) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise Refused(f"not a .tar that can be read: {error}") from None
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync(new)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
