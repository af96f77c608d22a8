"""TensorRT's engines on disk, so that one is built once: complete or not there.

    engines/<id>/          what TensorRT keeps: an engine for each part of the graph, and its timings
    engines/<id>.<pid>.new/ one that this process is building; renamed when it is whole and synced

`<id>` begins with the model's own and names all that the engine depends on: another onnxruntime, TensorRT, GPU or driver would
read it wrong, or not at all. Everything here blocks: call it in a one-shot thread.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from edged.model.gpu.gpu import Gpu
from edged.model.gpu.providers import options
from edged.model.records import ModelPlan
from edged.notation.units import MIB, in_mib
from edged.system.durable import NEW, sync

MODEL_DIGITS, REST_DIGITS = 32, 16
PER_MODEL = 2
"""Engines that stay of one model, the newest: whoever goes back to the options of before shall not wait again."""
SPARE_BYTES = 64 * MIB
WEIGHTS = 3
"""Disk for an engine: its weights, once more while it is written, and what TensorRT adds."""


class NoRoom(Exception):
    """There is no disk left for an engine; the text says how much it would need."""


def engine_id(plan: ModelPlan, shapes: dict[str, tuple[int, ...]], buckets: Sequence[int], gpu: Gpu, onnxruntime: str) -> str:
    """Names the engine of a model: for these shapes and options, by these versions, on this GPU. What memory was free when it was
    built makes it no other one; TensorRT itself goes by the name of the model's file, too."""
    given = options("tensorrt", shapes, buckets[-1], plan.provider_options, least=buckets[0])
    whole = repr((plan.manifest.path.name, given, onnxruntime, gpu.tensorrt, gpu.name, gpu.driver))
    return f"{plan.manifest.sha256[:MODEL_DIGITS]}-{hashlib.sha256(whole.encode()).hexdigest()[:REST_DIGITS]}"


class Engines(msgspec.Struct, frozen=True):
    """`root`: the folder `engines` of the state directory."""

    root: Path

    def find(self, id: str) -> Path | None:
        """The folder of an engine that is complete."""
        folder = self.root / id
        return folder if folder.is_dir() else None

    def begin(self, id: str, weight_bytes: int) -> Path:
        """An empty folder to build in. Raises `NoRoom`, `OSError`."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = os.statvfs(self.root)
        free, need = status.f_bavail * status.f_frsize, WEIGHTS * weight_bytes + SPARE_BYTES
        if need > free:
            raise NoRoom(f"no room for an engine in {self.root}: it needs {in_mib(need)}, {in_mib(free)} are free")
        new = self.root / f"{id}.{os.getpid()}{NEW}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        return new

    def keep(self, new: Path) -> Path:
        """What was built is whole: from now on it is found. Raises `OSError`."""
        for file in new.rglob("*"):
            sync(file)
        sync(new)
        folder = new.with_name(new.name.partition(".")[0])
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(new, folder)
        sync(self.root)
        return folder

    def drop(self, new: Path) -> None:
        """What was built is of no use."""
        shutil.rmtree(new, ignore_errors=True)

    def sweep(self, models: Collection[str]) -> None:
        """Removes what a crash left half built, and engines beyond the newest two of each of these models (by SHA-256) and of all
        others together: one that was built ahead waits for its model."""
        if not self.root.is_dir():
            return
        kept: dict[str, int] = {}
        known = {sha256[:MODEL_DIGITS] for sha256 in models}
        for folder in sorted(self.root.iterdir(), key=lambda f: -f.stat().st_mtime_ns):
            model = folder.name.partition("-")[0]
            if folder.is_file():  # a note (`model/gpu/notes.py`)
                if folder.suffix == NEW or ("-" in folder.name and model not in known):
                    folder.unlink(missing_ok=True)
                continue
            if folder.suffix == NEW:
                if not Path("/proc", folder.name.split(".")[-2]).exists():  # its builder is gone
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            model = model if model in known else ""
            kept[model] = kept.get(model, 0) + 1
            if kept[model] > PER_MODEL:
                shutil.rmtree(folder, ignore_errors=True)
