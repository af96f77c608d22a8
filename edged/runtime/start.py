"""From a configuration file to a running daemon, or to every reason why not: what `edged run` and `edged check` share."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import socket
import sys
from collections.abc import Coroutine
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvloop

from edged import __version__, log
from edged.assemble import assemble, connect, load_models
from edged.budget import cgroup_limit, has_memory_cgroup, machine_bytes, resident_bytes
from edged.clock import Clock
from edged.config.load import Draft, read, report
from edged.config.schema import Config
from edged.errors import EX_OK, ConfigError, Fatal, Problem
from edged.model.manifest import Manifest, read_manifest
from edged.model.onnx import available
from edged.model.records import ModelRefused
from edged.model.runner import Loaded
from edged.plan.make import make_plan
from edged.plan.memory import check_budget, check_cgroup, with_measured
from edged.plan.records import Machine, Plan
from edged.process import trim
from edged.report import load_text, plan_json, plan_text
from edged.runtime.health import Health
from edged.runtime.lifecycle import serve
from edged.runtime.notify import Notifier
from edged.runtime.outside import free_bytes, look_outside, state_dir

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A configuration that can be run: its plan, and the warnings as lines."""

    draft: Draft
    plan: Plan
    warnings: tuple[str, ...]


def prepare(path: Path) -> Prepared:
    """Reads, checks and plans a configuration. Raises ConfigError with every problem of the file and of its models."""
    draft = read(path)
    problems = list(draft.problems)
    manifests = _manifests(draft.config, problems)
    if draft.config.model:
        available()  # onnxruntime itself belongs to the base that the plan starts from
    gc.collect()
    state = state_dir(draft.config)
    free = free_bytes(draft.config.spool.path or state)
    machine = Machine(socket.gethostname(), machine_bytes(), resident_bytes(), state, free, cgroup_limit())
    plan, more = make_plan(draft.config, manifests, machine)
    problems += [*more, *look_outside(draft.config)]
    if plan is None or any(not p.is_warning for p in problems):
        raise ConfigError(report(draft, [p for p in problems if not p.is_warning]))
    return Prepared(draft, plan, tuple(report(draft, problems)))


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


def check(path: Path, as_json: bool) -> int:
    """Prints the plan, or raises ConfigError. Models are loaded and run; nothing else is opened."""
    prepared = prepare(path)
    plan, loaded = load(prepared)
    if as_json:
        facts = plan_json(plan)
        facts["warnings"] = list(prepared.warnings)
        facts["loaded"] = {
            n: {
                "provider": x.report.provider,
                "run": x.report.run,
                "batch_max": x.report.batch_max,
                "p50_us": round(x.report.p50_us, 1),
            }
            for n, x in loaded.items()
        }
        _print(json.dumps(facts, indent=2))
        return EX_OK
    for line in prepared.warnings:
        sys.stderr.write(f"warning: {line}\n")
    models = [load_text(x.report, plan.models[n].providers == "auto") for n, x in loaded.items()]
    _print("\n".join([plan_text(plan), "", *models, f"{path}: ok"]))
    return EX_OK


def _print(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        raise
    except OSError as error:
        raise Fatal(f"cannot write to standard output: {error.strerror}") from error


def run(path: Path) -> int:
    """The daemon, from its configuration to its exit status."""
    prepared = prepare(path)
    settings = prepared.draft.config.log
    log.configure(settings.level, settings.format)
    logger: Any = structlog.get_logger("edged")
    logger.info("starting", version=__version__, config=str(path))
    for line in prepared.warnings:
        logger.warning("configuration", problem=line)
    if not has_memory_cgroup():
        logger.warning("memory limit not enforced", by="the kernel: it has no memory controller", instead="edged watches itself")
    plan, loaded = load(prepared)
    for name, one in loaded.items():
        if prepared.plan.models[name].providers != "auto":  # what auto did not take is in the model's topic
            for reason in one.report.reasons:
                logger.info("model", model=name, note=reason)
    config_hash = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    return on_loop(_serve(plan, loaded, config_hash, logger))


async def _serve(plan: Plan, loaded: dict[str, Loaded], config_hash: str, logger: Any) -> int:
    clock = Clock()
    assembly = assemble(plan, loaded, clock, logger)
    connect(assembly)
    health = Health(assembly, clock, config_hash)
    with closing(Notifier()) as notifier:
        return await serve(assembly, health, notifier, clock)


def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a uvloop of its own."""
    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
