"""Recordings of single inputs that are worth a look, in a folder of their own. All of it waits for the disk.

    STATE_DIR/samples/PIPELINE/TIME-RUN-SEQ.rec            (of several sources: TIME-RUN-SEQ.SOURCE.rec)

The label of one stands in its header, so that whoever has the file has all of it. What is there is bounded in bytes: when it is
full the oldest go, those with a label last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from edged.sources.recording import Header, head_of, read_header
from edged.system.durable import replaced
from edged.system.plain_file import opened_plain

SUFFIX = ".rec"
MAX_FILES = 20_000
MAX_LABEL = 200
COPY_BYTES = 1 << 18


class Unknown(ValueError):
    """A label for what is not there; the text says so."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the result of a kept sample should have been."""

    run: str
    seq: int
    label: str

    @staticmethod
    def of(payload: bytes) -> Label:
        """A message. Raises ValueError."""
        label = msgspec.json.decode(payload, type=Label)
        if not 1 <= len(label.label) <= MAX_LABEL or not label.run.isalnum() or len(label.run) > 64:
            raise ValueError(f"expected a label of 1 to {MAX_LABEL} characters, and the run of a result")
        return label


class Named(NamedTuple):
    """A sample, by what its result says of itself."""

    time_ns: int
    run: str
    seq: int

    def file(self, source: str = "") -> str:
        moment = datetime.fromtimestamp(self.time_ns / 1e9, timezone.utc).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        return f"{moment}Z-{self.run}-{self.seq}{f'.{source}' if source else ''}{SUFFIX}"


def keep(folder: Path, files: Sequence[tuple[str, bytes]], max_bytes: int) -> int:
    """Writes the recordings of one result, by their names; returns how many others had to go. Raises OSError, ValueError."""
    size = sum(len(data) for _, data in files)
    if size > max_bytes:
        raise ValueError(f"{size} bytes, and samples.max_bytes is {max_bytes}")
    gone = _make_room(folder, size, max_bytes)
    for name, data in files:
        with replaced(folder / name) as file:
            file.write(data)
    return gone


def attach(folder: Path, run: str, seq: int, label: str, max_bytes: int) -> list[str]:
    """Writes what a result should have been into the recordings of it; returns their names. Raises Unknown, OSError."""
    found = [path for path in _files(folder) if f"-{run}-{seq}." in path.name]
    for path in found:
        with opened_plain(path, max_bytes) as (fd, _), open(fd, "rb", closefd=False) as old:
            header = read_header(old)
            if header is None or header.sample is None:
                raise Unknown(f"{path}: not a sample that edged wrote")
            _rewrite(path, old, header, label)
    if not found:
        raise Unknown(f"no sample of run {run}, seq {seq} is kept in {folder}")
    return [path.name for path in found]


def samples_in(folder: Path) -> list[Path]:
    """The recordings of a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))


def _rewrite(path: Path, old: BinaryIO, header: Header, label: str) -> None:
    assert header.sample is not None
    with replaced(path) as new:
        new.write(head_of(msgspec.structs.replace(header, sample=msgspec.structs.replace(header.sample, label=label))))
        while block := old.read(COPY_BYTES):
            new.write(block)


def _make_room(folder: Path, size: int, max_bytes: int) -> int:
    found = _files(folder)
    sizes = {path: path.stat().st_size for path in found}
    total, count, gone = sum(sizes.values()), len(sizes), 0
    if total + size <= max_bytes and count < MAX_FILES:
        return 0
    for path in sorted(found, key=lambda path: (_has_label(path), path.name)):
        if total + size <= max_bytes and count < MAX_FILES:
            break
        path.unlink(missing_ok=True)
        total, count, gone = total - sizes[path], count - 1, gone + 1
    return gone


def _files(folder: Path) -> list[Path]:
    return samples_in(folder) if folder.is_dir() else []


def _has_label(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = read_header(file)
    except (OSError, ValueError):
        return False
    return header is not None and header.sample is not None and bool(header.sample.label)
