"""From a configuration file to a plan and its models, or to every reason why not: what starting, checking and reloading share."""

from __future__ import annotations

import gc
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edged.assemble import load_models
from edged.budget import cgroup_limit, machine_bytes, resident_bytes
from edged.config.load import Draft, read, report
from edged.config.schema import Config
from edged.errors import ConfigError, Problem
from edged.model.engines import Engines
from edged.model.ladder import Ladder, found_here, ladder_here, pick
from edged.model.manifest import Manifest, hash_file, read_manifest
from edged.model.onnx import available
from edged.model.records import ModelRefused
from edged.model.runner import Loaded
from edged.model.store import Copy, Store
from edged.plan.make import make_plan
from edged.plan.memory import check_budget, check_cgroup, with_measured
from edged.plan.records import Machine, Plan
from edged.process import trim
from edged.runtime.outside import free_bytes, look_outside, state_dir
from edged.runtime.watch import Mark, mark_of


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A model as its files were at `mark`: what they say, what is wrong with them, and the private copy it is loaded from."""

    mark: tuple[str, Mark]
    manifest: Manifest | None
    problems: list[Problem]
    copy: Copy | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A configuration that can be run: its plan for this machine, and the warnings as lines."""

    draft: Draft
    plan: Plan
    machine: Machine
    warnings: tuple[str, ...]
    models: Mapping[str, Found] = field(default_factory=dict)


def prepare(path: Path, copies_models: bool = False) -> Prepared:
    """Reads, checks and plans a configuration. Raises ConfigError with every problem of the file and of its models.

    `copies_models`: as the daemon does, into the state directory. Where that cannot be done, and where a file is refused of which
    an earlier version is there, that is a warning: a device must start."""
    return prepare_draft(read(path), copies_models)


def prepare_draft(draft: Draft, copies_models: bool) -> Prepared:
    """The same of what was read, or kept."""
    if draft.config.model:
        available()  # onnxruntime itself belongs to the base that the plan starts from
    gc.collect()
    state = state_dir(draft.config)
    free = free_bytes(draft.config.spool.path or state)
    gpu = found_here(state / "engines").gpu if _may_use_gpu(draft.config) else None
    machine = Machine(socket.gethostname(), machine_bytes(), resident_bytes(), state, free, cgroup_limit(), gpu)
    return plan_draft(draft, machine, model_store(machine) if copies_models else None, may_fall_back=True)


def _may_use_gpu(config: Config) -> bool:
    return any(m.providers is None or {"tensorrt", "cuda"} & set(m.providers) for m in config.model.values())


def model_store(machine: Machine) -> Store:
    return Store(machine.state_dir / "models")


def ladder_of(machine: Machine) -> Ladder:
    return ladder_here(Engines(machine.state_dir / "engines"))


def plan_draft(
    draft: Draft, machine: Machine, store: Store | None, may_fall_back: bool = False, before: Prepared | None = None
) -> Prepared:
    """Plans what was read, for a machine as it is or was. Raises ConfigError."""
    models = _found(draft.config, store, model_store(machine).root, may_fall_back, before, draft.copy is not None)
    manifests = {name: one.manifest for name, one in models.items() if one.manifest is not None}
    problems = [*draft.problems, *(problem for one in models.values() for problem in one.problems)]
    plan, more = make_plan(draft.config, manifests, machine)
    problems += [*more, *look_outside(draft.config)]
    if plan is None or any(not p.is_warning for p in problems):
        raise ConfigError(report(draft, [p for p in problems if not p.is_warning]))
    return Prepared(draft, plan, machine, tuple(report(draft, problems)), models)


def _found(
    config: Config, store: Store | None, root: Path, may_fall_back: bool, before: Prepared | None, prefers_own: bool
) -> dict[str, Found]:
    """The models of a configuration by name. What did not change since `before` is not read again. `prefers_own`: the versions
    that ran last, whatever the files are now."""
    found: dict[str, Found] = {}
    for name, model in config.model.items():
        if prefers_own and store is not None and (own := store.current(name)) is not None:
            found[name] = Found(("", ()), *read_manifest(name, own.path), own)
            continue
        mark = (str(model.path), mark_of(model.path))
        known = before.models.get(name) if before is not None else None
        if known is not None and known.mark == mark:
            found[name] = known
        elif store is None:
            manifest, problems = read_manifest(name, model.path)
            found[name] = Found(mark, _own(manifest, root) if manifest is not None else None, problems)
        else:
            found[name] = _copied(store, name, model.path, mark, may_fall_back)
    return found


def _own(manifest: Manifest, root: Path) -> Manifest:
    """The same model where the daemon has it, if it does: TensorRT knows an engine by the name of the model's file."""
    copy = root / manifest.sha256 / "model.onnx"
    return replace(manifest, path=copy) if "tensorrt" in available() and copy.is_file() else manifest


def _copied(store: Store, name: str, path: Path, mark: tuple[str, Mark], may_fall_back: bool) -> Found:
    """A model from its private copy: of the file as it is, but where a rollback went away from that."""
    try:
        copy, manifest = store.take(name, path)
        if not store.is_held(name, copy):
            return Found(mark, manifest, read_manifest(name, path)[1], copy)
        text = f"{path} is the version from which a rollback went away; the one before is used until the file changes"
        problems = [Problem(f"model.{name}.path", text, is_warning=True)]
    except ModelRefused as error:
        if not may_fall_back:
            return Found(mark, None, error.problems)
        problems = [replace(p, is_warning=True) for p in error.problems]
    current = store.current(name)
    if current is not None:
        said = [replace(p, text=f"{p.text}; the version that ran before is used") for p in problems]
        return Found(mark, read_manifest(name, current.path)[0], said, current)
    own, wrong = read_manifest(name, path)
    where = "it is loaded where it is: do not write to it while edged runs"
    return Found(mark, own, wrong if own is None else [*wrong, *(replace(p, text=f"{p.text}; {where}") for p in problems)])


def load(prepared: Prepared) -> tuple[Plan, dict[str, Loaded]]:
    """Loads and tries the models of the plan; the plan with what they really took. Raises ConfigError when one cannot be run as
    configured, or when they do not fit into the budget."""
    plan, draft = prepared.plan, prepared.draft
    if not plan.models:
        return plan, {}
    before = resident_bytes()
    try:
        loaded = load_models(plan.models, pick(plan.models, ladder_of(prepared.machine)))
    except ModelRefused as error:
        raise ConfigError(report(draft, error.problems)) from error
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
        log.warning("models not noted", path=str(store.root), reason=error.strerror, lost="rollback")
    engines = ladder_of(prepared.machine).engines
    if engines.root.is_dir():
        engines.sweep({hash_file(file) for file in store.root.glob("*/model.onnx")})
