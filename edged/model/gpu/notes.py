"""What an earlier start found out about this machine's GPU and about models on it, so that the next one need not try it again.

    engines/gpu.json               the GPU, for as long as driver and onnxruntime are what they were
    engines/<id>.<rung>.json       what came of trying a model there; `<id>` names all that it depends on

A note is in doubt (`.doubt`) while the daemon itself loads what it speaks of: a library that ends the process then is tried in a
process of its own again at the next start. Notes that cannot be read or written are none; what is damaged is moved aside.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edged.model.gpu.gpu import Found
from edged.model.gpu.providers import Probe
from edged.notation.units import KIB
from edged.system.durable import read_kept

T = TypeVar("T")
DOUBT = ".doubt"
MAX_BYTES = 64 * KIB


class Seen(msgspec.Struct, frozen=True):
    """A GPU as it was found when `stamp` described this machine."""

    stamp: str
    found: Found


class Note(msgspec.Struct, Generic[T], frozen=True):
    """One that is there, or will be, at `path`: a record of `kind`."""

    path: Path
    kind: type[T]

    def read(self) -> T | None:
        return _read(self.path, self.kind)

    def write(self, found: T) -> bool:
        """Whether it could be written."""
        return _write(self.path, found)

    def doubt(self) -> None:
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path.with_suffix(DOUBT))

    def trust(self) -> None:
        with contextlib.suppress(OSError):
            os.replace(self.path.with_suffix(DOUBT), self.path)


class Notes(msgspec.Struct, frozen=True):
    """`root`: the folder `engines` of the state directory."""

    root: Path

    def of(self, id: str, rung: str) -> Note[Probe]:
        return Note(self.root / f"{id}.{rung}.json", Probe)

    def found(self, stamp: str) -> Found | None:
        seen = _read(self.root / "gpu.json", Seen)
        return seen.found if seen is not None and seen.stamp == stamp else None

    def keep_found(self, stamp: str, found: Found) -> None:
        """Only what is there and whole: what is broken may be fixed before the next start."""
        if found.gpu is not None and not found.errors:
            _write(self.root / "gpu.json", Seen(stamp, found))


def _read(path: Path, kind: type[T]) -> T | None:
    decoder = msgspec.json.Decoder(kind)
    return read_kept(path, MAX_BYTES, decoder.decode, lost="what a trial of the model found")


def _write(path: Path, value: object) -> bool:
    new = path.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.write_bytes(msgspec.json.encode(value))
        os.replace(new, path)
        return True
    return False
