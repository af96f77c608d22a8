"""From a configuration file to a plan and its models, or to every reason why not: what starting, checking and reloading share."""

from __future__ import annotations

import gc
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from edged.assemble import load_models
from edged.budget import cgroup_limit, machine_bytes, resident_bytes
from edged.config.load import Draft, read, report
from edged.config.schema import Config
from edged.errors import ConfigError, Problem
from edged.model.manifest import Manifest, read_manifest
from edged.model.onnx import available
from edged.model.records import ModelRefused
from edged.model.runner import Loaded
from edged.plan.make import make_plan
from edged.plan.memory import check_budget, check_cgroup, with_measured
from edged.plan.records import Machine, Plan
from edged.process import trim
from edged.runtime.outside import free_bytes, look_outside, state_dir


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A configuration that can be run: its plan for this machine, and the warnings as lines."""

    draft: Draft
    plan: Plan
    machine: Machine
    warnings: tuple[str, ...]


def prepare(path: Path) -> Prepared:
    """Reads, checks and plans a configuration. Raises ConfigError with every problem of the file and of its models."""
    draft = read(path)
    if draft.config.model:
        available()  # onnxruntime itself belongs to the base that the plan starts from
    gc.collect()
    state = state_dir(draft.config)
    free = free_bytes(draft.config.spool.path or state)
    machine = Machine(socket.gethostname(), machine_bytes(), resident_bytes(), state, free, cgroup_limit())
    return plan_draft(draft, machine)


def plan_draft(draft: Draft, machine: Machine) -> Prepared:
    """Plans what was read, for a machine as it is or was. Raises ConfigError."""
    problems = list(draft.problems)
    manifests = _manifests(draft.config, problems)
    plan, more = make_plan(draft.config, manifests, machine)
    problems += [*more, *look_outside(draft.config)]
    if plan is None or any(not p.is_warning for p in problems):
        raise ConfigError(report(draft, [p for p in problems if not p.is_warning]))
    return Prepared(draft, plan, machine, tuple(report(draft, problems)))


def _manifests(config: Config, problems: list[Problem]) -> dict[str, Manifest]:
    manifests = {}
    for name, model in config.model.items():
        manifest, found = read_manifest(name, model.path)
        problems += found
        if manifest is not None:
            manifests[name] = manifest
    return manifests


def load(prepared: Prepared) -> tuple[Plan, dict[str, Loaded]]:
    """Loads and tries the models of the plan; the plan with what they really took. Raises ConfigError when one cannot be run as
    configured, or when they do not fit into the budget."""
    plan, draft = prepared.plan, prepared.draft
    if not plan.models:
        return plan, {}
    before = resident_bytes()
    try:
        loaded = load_models(plan.models)
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
