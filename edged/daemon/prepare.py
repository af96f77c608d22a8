"""From a configuration file to a plan and its models, or to every reason why not: what starting, checking and reloading share."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from edged.config.load import Draft, content_of, line_of, read, report
from edged.config.schema import Config
from edged.daemon.file_watch import Mark, mark_of
from edged.daemon.preflight import free_bytes, look_at_rights, look_outside, state_dir
from edged.errors import ConfigError, Finding, Problem
from edged.model.gpu.engines import Engines
from edged.model.gpu.ladder import Ladder, found_here, ladder_here, pick
from edged.model.gpu.providers import rungs
from edged.model.load_all import load_models
from edged.model.manifest import Manifest, read_manifest
from edged.model.onnx import available
from edged.model.records import ModelPlan, ModelRefused, Tried
from edged.model.runner import Loaded
from edged.model.store import Copy, Store, scratch
from edged.model.trial.attempt import attempt_now, limits
from edged.model.trial.notes import Trials, trials_here
from edged.plan.make import make_plan
from edged.plan.memory import FIRST_SESSION, check_budget, check_cgroup, with_measured, with_tried
from edged.plan.publishes import shared_topics
from edged.plan.records import Machine, Plan
from edged.system.process import trim
from edged.system.process_memory import cgroup_limit, machine_bytes, resident_bytes
from edged.system.processors import cores

if TYPE_CHECKING:
    from edged.fleet.ledger import Ledger


class Found(msgspec.Struct, frozen=True, eq=False):
    """A model as its files were at `mark`: what they say, what is wrong with them, and the private copy it is loaded from."""

    mark: tuple[str, Mark]
    manifest: Manifest | None
    problems: list[Problem]
    copy: Copy | None = None


class Prepared(msgspec.Struct, frozen=True, eq=False):
    """A configuration that can be run: its plan for this machine, and what is to be warned of."""

    draft: Draft
    plan: Plan
    machine: Machine
    remarks: tuple[Finding, ...]
    models: Mapping[str, Found] = msgspec.field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for a person each."""
        return tuple(map(str, self.remarks))


def prepare(path: Path, copies_models: bool = False) -> Prepared:
    """Reads, checks and plans a configuration. Raises ConfigError with every problem of the file and of its models.

    Models are copied, and only the copies are loaded. `copies_models`: as the daemon does, into the state directory, where what
    an earlier start copied is taken instead of a file that is refused: a device must start. Else for this process alone."""
    return prepare_draft(read(path), copies_models)


def read_led(path: Path, at_start: bool) -> Draft:
    """What the daemon runs: the file, or what the fleet put in its place. Raises ConfigError; but `at_start` the file
    replaces the latter where that cannot be read, with a warning."""
    local = read(path)
    fleet = local.config.fleet
    if fleet is None or not fleet.configuration or any(not p.is_warning for p in local.problems):
        return local
    from edged.fleet.led import lead
    from edged.fleet.ledger import Ledger

    file = Ledger(state_dir(local.config) / "fleet").load().configuration(at_start)
    if file is None:
        return local
    try:
        draft = lead(local, content_of(file), file)
        if at_start and (wrong := [p for p in draft.problems if not p.is_warning]):
            raise ConfigError(report(draft, wrong))
    except ConfigError as error:
        if not at_start:
            raise
        return not_led(local, error)
    return draft


def not_led(local: Draft, error: ConfigError) -> Draft:
    """The local file, with a warning of why the fleet's configuration does not run."""
    text = f"the fleet's configuration cannot be run, and the local file is: {error.lines[0]}"
    return replace(local, problems=(*local.problems, Problem("fleet.configuration", text, is_warning=True)))


def prepare_draft(draft: Draft, copies_models: bool) -> Prepared:
    """The same of what was read, or kept."""
    if any(m.path is not None for m in draft.config.model.values()):
        available()  # onnxruntime itself belongs to the base that the plan starts from
    gc.collect()
    gc.freeze()  # what is imported stays: the next look is at what comes now
    state = state_dir(draft.config)
    free = free_bytes(draft.config.spool.path or state)
    gpu = found_here(state / "engines").gpu if _may_use_gpu(draft.config) else None
    machine = Machine(socket.gethostname(), machine_bytes(), resident_bytes(), state, free, cgroup_limit(), gpu, cores())
    store = model_store(machine) if copies_models else Store(scratch(), lender=model_store(machine))
    return plan_draft(draft, machine, store, may_fall_back=copies_models)


def _may_use_gpu(config: Config) -> bool:
    here = [m for m in config.model.values() if m.path is not None]
    return any(m.providers is None or {"tensorrt", "cuda"} & set(m.providers) for m in here)


def model_store(machine: Machine) -> Store:
    return Store(machine.state_dir / "models")


def ladder_of(machine: Machine) -> Ladder:
    return ladder_here(Engines(machine.state_dir / "engines"))


def plan_draft(
    draft: Draft, machine: Machine, store: Store | None, may_fall_back: bool = False, before: Prepared | None = None
) -> Prepared:
    """Plans what was read, for a machine as it is or was. Without a `store` nothing of it can be loaded. Raises ConfigError."""
    fetched = _fetched(machine) if draft.config.fleet is not None else None
    models = _found(draft.config, store, may_fall_back, before, draft.is_last_good, fetched)
    manifests = {name: one.manifest for name, one in models.items() if one.manifest is not None}
    problems = [*draft.problems, *(problem for one in models.values() for problem in one.problems)]
    trials = trials_here(machine.state_dir)
    plan, more = make_plan(draft.config, manifests, machine, partial(_tried, trials), partial(_seen, trials))
    problems += [*more, *look_outside(draft.config), *look_at_rights(draft.path, draft.config, os.geteuid())]
    if plan is not None:
        problems += shared_topics(plan.pipelines, draft.config.broker, partial(line_of, draft.positions))
    if plan is None or any(not p.is_warning for p in problems):
        raise ConfigError(report(draft, [p for p in problems if not p.is_warning]))
    return Prepared(draft, plan, machine, tuple(report(draft, problems)), models)


def _fetched(machine: Machine) -> Ledger:
    """What the fleet put in the place of files."""
    from edged.fleet.ledger import Ledger

    return Ledger(machine.state_dir / "fleet").load()


def _found(
    config: Config,
    store: Store | None,
    may_fall_back: bool,
    before: Prepared | None,
    prefers_own: bool,
    fetched: Ledger | None = None,
) -> dict[str, Found]:
    """The models of a configuration by name. What did not change since `before` is not read again. `prefers_own`: the versions
    that ran last, whatever the files are now. `fetched`: what the fleet put in the place of files."""
    found: dict[str, Found] = {}
    for name, model in config.model.items():
        if model.path is None:  # it runs elsewhere
            continue
        if prefers_own and store is not None and (own := store.current(name)) is not None:
            found[name] = Found(("", ()), store.manifest(name, own), [], own)
            continue
        path = (fetched.override(name) if fetched is not None else None) or model.path
        mark = (str(path), mark_of(path))
        known = before.models.get(name) if before is not None else None
        if known is not None and known.mark == mark:
            found[name] = known
        elif store is None:
            found[name] = Found(mark, *read_manifest(name, path))
        else:
            found[name] = _copied(store, name, path, mark, may_fall_back)
    return found


def _copied(store: Store, name: str, path: Path, mark: tuple[str, Mark], may_fall_back: bool) -> Found:
    """A model from its private copy: of the file as it is, but where a rollback went away from that."""
    try:
        copy, manifest = store.take(name, path)
        if not store.is_held(name, copy):
            return Found(mark, manifest, list(copy.warnings), copy)
        text = f"{path} is the version that a rollback left; edged uses the one before it until the file changes"
        problems = [Problem(f"model.{name}.path", text, is_warning=True)]
    except ModelRefused as error:
        if not may_fall_back:
            return Found(mark, None, error.problems)
        problems = error.problems
    return _ran_before(store, name, mark, problems) or _copied_elsewhere(name, path, mark, problems)


def _ran_before(store: Store, name: str, mark: tuple[str, Mark], problems: list[Problem]) -> Found | None:
    """The version that ran before, where the one that is there cannot be taken."""
    current = store.current(name)
    if current is None:
        return None
    said = [replace(p, text=f"{p.text}; edged uses the version that ran before", is_warning=True) for p in problems]
    return Found(mark, store.manifest(name, current), said, current)


def _copied_elsewhere(name: str, path: Path, mark: tuple[str, Mark], problems: list[Problem]) -> Found:
    """A copy for this process alone, where there is no room in the state directory or it cannot be written."""
    store = Store(scratch())
    try:
        copy, manifest = store.take(name, path)
    except ModelRefused as error:
        return Found(mark, None, error.problems)
    said = [replace(p, text=f"{p.text}; its copy is in {store.root}", is_warning=True) for p in problems]
    return Found(mark, manifest, [*copy.warnings, *said])


def _tried(trials: Trials, plan: ModelPlan) -> Tried | None:
    known = trials.find(on_cpu(plan))
    return known.report.tried if known is not None else None


def _seen(trials: Trials, plan: ModelPlan) -> dict[str, tuple[int, ...]]:
    """What came out of the model, by output, where its file leaves that open; nothing of one that is refused."""
    alone = on_cpu(plan)
    try:
        trial = trials.once(alone, limits(alone), attempt_now)
    except ModelRefused:
        return {}
    shapes = {
        o.name: o.seen if o.shape is None else o.shape for o in trial.report.outputs
    }  # onnxruntime may know more than the file
    return {name: shape for name, shape in shapes.items() if shape is not None}


def on_cpu(plan: ModelPlan) -> ModelPlan:
    """As it is tried elsewhere for the CPU; on a GPU the ladder tries it."""
    return replace(plan, providers=("cpu",), tried=None)


def load(prepared: Prepared, all_golden: bool = True) -> tuple[Plan, dict[str, Loaded]]:
    """Tries the models of the plan elsewhere, unless that was done before, and loads them; the plan with what they really took.
    Raises ConfigError when one cannot be run as configured, or when they do not fit into the budget. `all_golden` False: the
    first golden samples do, beside those of the trial."""
    try:
        return _load(_try_new(prepared), all_golden)
    except ModelRefused as error:
        raise ConfigError(report(prepared.draft, error.problems)) from error


def load_or_fall_back(prepared: Prepared) -> tuple[Prepared, dict[str, Loaded]]:
    """As a daemon starts: a model that was not tried here is tried elsewhere first, and is replaced by the one that ran before
    where it is refused. Raises ConfigError."""
    try:
        prepared = _try_new(prepared)
        plan, loaded = _load(prepared, all_golden=False)
    except ModelRefused as error:
        before = _before(prepared, error.problems)
        if before is None:
            raise ConfigError(report(prepared.draft, error.problems)) from error
        prepared = before
        plan, loaded = load(prepared, all_golden=False)
    return replace(prepared, plan=plan), loaded


def _try_new(prepared: Prepared) -> Prepared:
    """Tries the models of which there is no note; the plan with the batches that they will have. Raises `ModelRefused` with what
    is wrong with them, but for a version that ran here before."""
    machine = prepared.machine
    store, trials = model_store(machine), trials_here(machine.state_dir)
    problems: list[Problem] = []
    found: dict[str, Tried] = {}
    for name, plan in prepared.plan.models.items():
        if "cpu" not in rungs(plan.providers):
            continue
        copy, alone = prepared.models[name].copy, on_cpu(plan)
        try:
            trial = trials.once(alone, limits(alone, room_for(prepared.plan, name)), attempt_now)
            found[name] = trial.report.tried
        except ModelRefused as error:
            problems += error.problems if copy is None or copy.id != store.current_id(name) else []
    if problems:
        raise ModelRefused(problems)
    return replace(prepared, plan=with_tried(prepared.plan, machine, found)) if found else prepared


def _before(prepared: Prepared, problems: list[Problem]) -> Prepared | None:
    """The same with the versions that ran before of the models that have `problems`; None if one of them has none."""
    store, models = model_store(prepared.machine), dict(prepared.models)
    for name in {p.path.split(".")[1] for p in problems}:
        found, own = models[name], [p for p in problems if p.path.startswith(f"model.{name}.")]
        ran = _ran_before(store, name, found.mark, [*found.problems, *own])
        if ran is None or ran.copy == found.copy:
            return None
        models[name] = ran
    return plan_draft(prepared.draft, prepared.machine, store, True, replace(prepared, models=models))


def room_for(plan: Plan, name: str) -> int:
    """What the budget leaves for one model, in bytes, with the pages that a first session takes."""
    own = sum(line.bytes for line in plan.memory if line.what.startswith(f"model.{name}:"))
    return max(0, plan.budget - plan.planned_bytes + own) + FIRST_SESSION


def _load(prepared: Prepared, all_golden: bool) -> tuple[Plan, dict[str, Loaded]]:
    """Raises ModelRefused, ConfigError."""
    plan, draft = prepared.plan, prepared.draft
    if not plan.models:
        return plan, {}
    before = resident_bytes()
    loaded = load_models(plan.models, pick(plan.models, ladder_of(prepared.machine)), all_golden)
    gc.collect()
    trim()
    plan = replace(plan, memory=with_measured(plan.memory, resident_bytes() - before))
    too_much = check_budget(plan.memory, plan.budget, draft.config.memory.budget is not None)
    problems = [p for p in (too_much, check_cgroup(plan.memory, plan.budget, plan.cgroup)) if p is not None and not p.is_warning]
    if problems:
        raise ConfigError(report(draft, problems))
    return plan, loaded


def promote(prepared: Prepared, log: Any) -> None:
    """Notes which copies run now, so that the next start and a rollback find them. Blocks."""
    store = model_store(prepared.machine)
    try:
        store.promote({name: one.copy for name, one in prepared.models.items() if one.copy is not None})
    except OSError as error:
        log.warning(
            "models_not_noted",
            path=str(store.root),
            reason=error.strerror,
            lost="which models ran last, and edged model rollback",
        )
    engines = ladder_of(prepared.machine).engines
    if engines.root.is_dir():
        engines.sweep(store.digests())
