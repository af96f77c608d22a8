"""What the command `edged model prepare` does: builds TensorRT's engine of a model before the daemon needs it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from edged.config.load import report
from edged.daemon.prepare import Prepared, ladder_of, prepare
from edged.errors import EX_OK, ConfigError, Problem
from edged.model.gpu.build import build_engine
from edged.model.gpu.ladder import Ladder
from edged.model.gpu.providers import none_ran, not_taken
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial.attempt import Trial
from edged.notation.words import found_among
from edged.system.process import say

SAY_EVERY_S = 5.0


def prepare_model(config: Path, name: str) -> int:
    """Returns when the engine is there, or says that there is nothing to build. Raises ConfigError when there can be none."""
    prepared = prepare(config, copies_models=True)
    models = prepared.plan.models
    if name not in models:
        raise ConfigError([f"{config}: expected a model that a pipeline uses, {found_among(name, tuple(models))}"])
    plan, ladder = models[name], ladder_of(prepared.machine)
    if plan.providers != "auto" and "tensorrt" not in plan.providers:
        say(f"model.{name}: nothing to build: its providers do not name tensorrt")
        return EX_OK
    found = ladder.probe(plan, "tensorrt")
    if found.reason and plan.providers == "auto":
        say(f"model.{name}: nothing to build: {found.reason}")
        return EX_OK
    if found.reason:
        raise _refused(prepared, plan, found.reason)
    if not found.needs_engine:
        say(f"model.{name}: its engine is there: {ladder.engine(plan)}")
        return EX_OK
    try:
        trial = asyncio.run(_build(name, plan, ladder))
    except ModelRefused as error:
        raise _refused(prepared, plan, "; ".join(p.text for p in error.problems)) from error
    times = f"{trial.report.p50_us:.0f} us for {trial.report.batch_max} rows, the CPU takes {trial.report.cpu_us:.0f} us"
    say(f"model.{name}: its engine is built: {ladder.engine(plan)}; {times}")
    return EX_OK


async def _build(name: str, plan: ModelPlan, ladder: Ladder) -> Trial:
    started = time.monotonic()
    building = asyncio.create_task(build_engine(plan, ladder))
    try:
        while not (await asyncio.wait([building], timeout=SAY_EVERY_S))[0]:
            say(f"model.{name}: TensorRT builds its engine, {time.monotonic() - started:.0f} s so far")
    finally:
        building.cancel()
    return await building


def _refused(prepared: Prepared, plan: ModelPlan, reason: str) -> ConfigError:
    is_required = plan.providers == ("tensorrt",)
    text = none_ran(plan.providers, {"tensorrt": reason}) if is_required else not_taken("tensorrt", reason)
    return ConfigError(report(prepared.draft, [Problem(f"model.{plan.manifest.name}.providers", text)]))
