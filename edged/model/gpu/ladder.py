"""Who is to run a model on this machine: each rung that is a GPU's is tried in a process of its own before this one touches it.

climb (pure)  --which rung?-->  probe: is it built in, do its libraries load, does it run, are its answers the CPU's?
              <--what came of it--
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edged.model.fit import fit
from edged.model.gpu import providers
from edged.model.gpu.engines import Engines, engine_id
from edged.model.gpu.gpu import Found, driver_stamp, find, now
from edged.model.gpu.notes import Note, Notes
from edged.model.gpu.providers import Choice, Probe
from edged.model.onnx import available, provider_stamp, version
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial.arithmetic import split_buckets
from edged.model.trial.attempt import Trial, attempt_now, limits
from edged.model.trial.notes import Trials, trials_here

UNKNOWN_GPU = "the driver does not say what GPU this is, so an engine could not be told from those of others"
Try = Callable[[ModelPlan, str], Trial]
"""Tries a plan that names one provider, with the folder of its engine; `ModelRefused` has the reason."""


@cache
def found_here(root: Path) -> Found:
    """What this machine has for the GPU rungs of this onnxruntime; asked once, and noted in `root`."""
    rungs = [rung for rung in available() if rung in providers.NVIDIA]
    if not rungs:
        return Found()
    notes, stamp = Notes(root), f"{driver_stamp()} {provider_stamp()}"
    noted = notes.found(stamp)
    if noted is not None:
        return now(noted)
    found = find(rungs)
    notes.keep_found(stamp, found)
    return found


class Ladder(msgspec.Struct, frozen=True):
    """`found`: the GPU of this machine, and what does not load. `engines`: those that were built before."""

    found: Found
    engines: Engines
    built_in: tuple[str, ...]
    try_out: Try
    trials: Trials = msgspec.field(default_factory=lambda: Trials(()))

    def choose(self, plan: ModelPlan) -> Choice:
        """Who is to run it. Takes seconds for each rung of a GPU, nothing for the CPU, which is tried where it is loaded."""
        return providers.choose(plan.providers, lambda rung: self.probe(plan, rung))

    def probe(self, plan: ModelPlan, rung: str) -> Probe:
        if rung not in self.built_in:
            return Probe(reason=providers.missing(rung, None))
        if rung == "cpu":
            return Probe()
        if rung in self.found.errors:
            return Probe(reason=self.found.errors[rung])
        if rung == "tensorrt" and not self.engine_id(plan):
            return Probe(reason=UNKNOWN_GPU)
        if rung == "tensorrt" and not self.engine(plan):
            return Probe(needs_engine=True)
        if rung not in providers.NVIDIA:
            return self._probe_other(replace(plan, providers=(rung,), tried=None))
        note = self.note(plan, rung)
        if note is not None and (known := note.read()) is not None:
            return known
        alone = replace(plan, providers=(rung,))
        try:
            trial = self.try_out(alone, self.engine(plan) if rung == "tensorrt" else "")
        except ModelRefused as error:
            return Probe(reason="; ".join(p.text for p in error.problems))
        found = probe_of(trial)
        if note is not None:
            note.write(found)
        return found

    def _probe_other(self, plan: ModelPlan) -> Probe:
        """One whose libraries came with onnxruntime, which all that is noted depends on."""
        try:
            known = self.trials.find(plan)
            if known is None:
                known = self.try_out(plan, "")
                self.trials.keep(plan, known)
        except ModelRefused as error:
            return Probe(reason="; ".join(p.text for p in error.problems))
        return probe_of(known)

    def note(self, plan: ModelPlan, rung: str) -> Note[Probe] | None:
        """Where it stands what came of trying it here before."""
        id = self.engine_id(plan)
        return Notes(self.engines.root).of(id, rung) if id and rung != "cpu" else None

    def engine(self, plan: ModelPlan) -> str:
        """The folder of the engine of this plan; empty where there is none."""
        id = self.engine_id(plan)
        folder = self.engines.find(id) if id else None
        return str(folder) if folder is not None else ""

    def engine_id(self, plan: ModelPlan) -> str:
        """What an engine for it is called here; empty where there can be none."""
        fitted, _ = fit(plan)
        if fitted is None or self.found.gpu is None:
            return ""
        buckets = split_buckets(fitted.batch_max, fitted.fixed, exact=1)
        return engine_id(plan, fitted.shapes, buckets, self.found.gpu, version())


def probe_of(trial: Trial) -> Probe:
    report = trial.report
    return Probe(run_ns=report.p50_us * 1e3, cpu_ns=report.cpu_us * 1e3, rows=report.batch_max)


def ladder_here(engines: Engines) -> Ladder:
    """For this machine, and with processes of their own."""
    return Ladder(
        found_here(engines.root),
        engines,
        tuple(available()),
        lambda plan, engine: attempt_now(plan, limits(plan), engine, compares=True),
        trials_here(engines.root.parent),
    )


class Picked(msgspec.Struct, frozen=True):
    """Who is to run a model, the folder of its engine, and what is noted of the one that comes first."""

    choice: Choice
    engine: str = ""
    note: Note[Probe] | None = None


def pick(plans: Mapping[str, ModelPlan], ladder: Ladder) -> dict[str, Picked]:
    """Who is to run each of these models. Takes seconds for each rung of a GPU."""
    found = {}
    for name, plan in plans.items():
        choice = ladder.choose(plan)
        note = ladder.note(plan, choice.rungs[0]) if choice.rungs else None
        found[name] = Picked(choice, ladder.engine(plan) if "tensorrt" in choice.rungs else "", note)
    return found
