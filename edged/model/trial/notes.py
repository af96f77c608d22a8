"""What came of trying a model on this machine, so that it is tried once and not at each start, check and look.

    trials/<id>.json      in the state directory, or the cache of whoever asked; `<id>` names all that the outcome depends on

A refusal is not noted: it may be for want of memory or time, which come and go. A note is in doubt while the daemon loads what it
speaks of: should that end the process, the model is tried elsewhere again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from edged import __version__
from edged.model.gpu.notes import Note
from edged.model.gpu.providers import NVIDIA, rungs
from edged.model.onnx import available, provider_stamp
from edged.model.records import LoadReport, ModelPlan
from edged.model.trial.attempt import Limits, Trial
from edged.system.plain_file import UnfitFile, read_plain

FOLDER = "trials"
MAX_NOTES = 100
"""In one folder: the newest stay."""
MAX_GOLDEN = 1 << 30
CPU_LINES = ("model name", "CPU implementer", "CPU part", "isa", "uarch")
CPUINFO = Path("/proc/cpuinfo")

Try = Callable[[ModelPlan, Limits], Trial]


class Noted(msgspec.Struct, frozen=True):
    """A trial that a model passed."""

    report: LoadReport
    peak_bytes: int


class Trials(msgspec.Struct, frozen=True):
    """`folders`: where notes are read; they are written to those that are there, else to the last."""

    folders: tuple[Path, ...]

    def find(self, plan: ModelPlan, room_bytes: int | None = None) -> Trial | None:
        """What an earlier trial found, where it took no more than `room_bytes`."""
        for note in self.notes(plan):
            noted = note.read()
            if noted is not None and (room_bytes is None or noted.report.resident_bytes <= room_bytes):
                return Trial(noted.report, noted.peak_bytes)
        return None

    def keep(self, plan: ModelPlan, trial: Trial) -> None:
        notes = self.notes(plan)
        there = [note for note in notes if note.path.parent.parent.is_dir()]
        written = [note for note in there if note.write(Noted(trial.report, trial.peak_bytes))]
        written += [note for note in notes[-1:] if not written and note.write(Noted(trial.report, trial.peak_bytes))]
        for note in written:
            _sweep(note.path.parent)

    def notes(self, plan: ModelPlan) -> list[Note[Noted]]:
        """Where it is noted. Nowhere for one that a GPU may run, whose driver comes and goes: that has notes of its own."""
        if set(rungs(plan.providers)) & set(available()) & set(NVIDIA):
            return []
        id = trial_id(plan)
        return [Note(folder / f"{id}.json", Noted) for folder in self.folders]

    def once(self, plan: ModelPlan, allowed: Limits, attempt: Try) -> Trial:
        """What is noted, else what comes of `attempt`, which is noted. Raises `ModelRefused`."""
        known = self.find(plan, allowed.room_bytes)
        if known is None:
            known = attempt(plan, allowed)
            self.keep(plan, known)
        return known


def trials_here(state_dir: Path | None = None, environ: Mapping[str, str] = os.environ) -> Trials:
    """Those of the daemon's state directory, where one is known, and of this user's cache."""
    cache = environ.get("XDG_CACHE_HOME", "")
    folders = [state_dir / FOLDER] if state_dir is not None else []
    with contextlib.suppress(RuntimeError):  # a user without a home
        folders.append((Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "edged" / FOLDER)
    return Trials(tuple(folders))


def trial_id(plan: ModelPlan) -> str:
    """Names a model as it is run, by what, on which processor."""
    golden = plan.manifest.golden
    samples = (golden.rtol, golden.atol, _digest(golden.path)) if golden is not None else None
    (_, *of_file), *rest = plan.identity
    whole = repr((of_file, rest, samples, __version__, provider_stamp(), platform.machine(), _processor()))
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    with contextlib.suppress(OSError, UnfitFile):
        return hashlib.sha256(read_plain(path, MAX_GOLDEN)).hexdigest()
    return ""


def _processor() -> str:
    """What tells one kind of processor from another."""
    with contextlib.suppress(OSError):
        lines = CPUINFO.read_text(errors="replace").splitlines()
        return repr(sorted({line for line in lines if line.startswith(CPU_LINES)}))
    return ""


def _sweep(folder: Path) -> None:
    with contextlib.suppress(OSError):
        files = sorted(folder.iterdir(), key=lambda f: -f.stat().st_mtime_ns)
        for file in files[MAX_NOTES:]:
            file.unlink()
