"""What the command `edged run` does."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any

import structlog

from edged import __version__
from edged.behaviours.kept import Kept
from edged.clock.clock import Clock
from edged.clock.spent import LoopTime
from edged.commands.loop import on_loop
from edged.config.load import Draft, read
from edged.daemon import checkpoint, last_good
from edged.daemon.build import assemble
from edged.daemon.claims import Claims
from edged.daemon.connect import connect
from edged.daemon.control import Control
from edged.daemon.desk import Desk
from edged.daemon.lifecycle import Lifecycle
from edged.daemon.preflight import state_dir
from edged.daemon.prepare import Prepared, load_or_fall_back, not_led, prepare_draft, promote, read_led
from edged.daemon.relief import Relief, bound_memory
from edged.daemon.reload import Reloader
from edged.daemon.signals import Deadman, Early, sampling
from edged.daemon.taps import Taps
from edged.daemon.upkeep import Upkeep
from edged.errors import ConfigError
from edged.health.configured import Fallback
from edged.health.schedule import Health
from edged.health.status import unwell
from edged.model.runner import Loaded
from edged.plan.records import Plan
from edged.system import log
from edged.system.hang_recorder import Stages
from edged.system.notify import Notifier
from edged.system.process import trim
from edged.system.process_memory import has_memory_cgroup

EXIT, LAST_GOOD = "exit", "last-good"
"""What to do at a start with a file that has errors."""


def run(path: Path, early: Early, on_invalid: str = EXIT) -> int:
    """The daemon, from its configuration to its exit status. `early` has the signals until READY; `on_invalid`: what to do with a
    file that has errors."""
    log.configure()
    logger: Any = structlog.get_logger("edged")
    with Claims(path) as claims:
        claims.configuration()
        prepared, loaded, fallback = _begin(path, on_invalid, claims)
        settings = prepared.draft.config.log
        log.reconfigure(settings.level, settings.format)
        logger.info("starting", version=__version__, config=str(path))
        if fallback is not None:
            for line in fallback.errors:
                logger.error("configuration", problem=line)
            logger.error("runs_last_good", kept=fallback.kept, file=str(prepared.draft.copy))
        for line in prepared.warnings:
            logger.warning("configuration", problem=line)
        if not has_memory_cgroup():
            logger.warning(
                "memory_limit_not_enforced", by="the kernel: it has no memory controller", instead="edged watches itself"
            )
        promote(prepared, logger)
        _settle(prepared, logger)
        for name, one in loaded.items():
            for said in (*one.report.reasons, one.report.batching):
                if said:
                    logger.info("model", model=name, note=said)
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked at again
        gc.enable()
        return on_loop(_serve(prepared, loaded, logger, early, fallback))


def _begin(path: Path, on_invalid: str, claims: Claims) -> tuple[Prepared, dict[str, Loaded], Fallback | None]:
    """What to run: the file, or with `LAST_GOOD` what ran last without a fault, and why. Raises ConfigError when neither can."""
    try:
        return *_led(path, claims), None
    except ConfigError as error:
        if on_invalid != LAST_GOOD:
            raise
        errors = error.found
    gc.collect()  # models of the file that were loaded all the same
    trim()
    try:
        found = last_good.find(path)
        if found is None:
            raise ConfigError(["there is no last good configuration to run instead: none has run for a minute yet"])
        draft, kept = found
        return *_ready(draft, claims), Fallback(tuple(map(str, errors)), kept)
    except ConfigError as error:
        raise ConfigError([*errors, *error.found]) from None


def _led(path: Path, claims: Claims) -> tuple[Prepared, dict[str, Loaded]]:
    """What the fleet put in the place of the file, or the file where that cannot be run. Raises ConfigError."""
    draft = read_led(path, at_start=True)
    if draft.copy is None:
        return _ready(draft, claims)
    try:
        return _ready(draft, claims)
    except ConfigError as error:
        return _ready(not_led(read(path), error), claims)


def _settle(prepared: Prepared, logger: Any) -> None:
    """A configuration of the fleet's that the process before left half done is left for good, before anything reads it again."""
    fleet = prepared.plan.fleet
    if fleet is None or not fleet.configuration:
        return
    from edged.fleet.announcement import CONFIGURATION
    from edged.fleet.ledger import Ledger

    ledger = Ledger(prepared.machine.state_dir / "fleet").load()
    try:
        why = ledger.settle(prepared.draft.copy, fleet.guard_ns / 1e9)
    except OSError as error:
        why = f"{ledger.root}: {error.strerror}"
    if why:
        logger.warning("fleet", model=CONFIGURATION, state="went_back", reason=why)


def _ready(draft: Draft, claims: Claims) -> tuple[Prepared, dict[str, Loaded]]:
    if all(p.is_warning for p in draft.problems):
        claims.state(state_dir(draft.config))
    return load_or_fall_back(prepare_draft(draft, copies_models=True))


async def _serve(prepared: Prepared, loaded: dict[str, Loaded], logger: Any, early: Early, fallback: Fallback | None) -> int:
    clock = Clock()
    kept = checkpoint.load(prepared.machine.state_dir, prepared.plan.device, clock.utc(), prepared.plan.budget)
    stages = Stages(clock.now)
    ended_in = _mark_in(stages, prepared.machine.state_dir / "stage", logger)
    run = kept[0].run if kept is not None else None
    behaviours = Kept.load(prepared.machine.state_dir, ended_in)
    behaviours.forget_others(prepared.plan.behaviours)
    assembly = assemble(prepared.plan, loaded, clock, logger, run=run, stages=stages, kept=behaviours)
    connect(assembly)
    if kept is not None:
        checkpoint.restore(assembly, *kept, clock)
    upkeep = Upkeep(assembly, clock, prepared.machine.state_dir)
    upkeep.restore()
    relief = Relief(assembly)
    health = Health(assembly, relief, clock, prepared.draft.digest, ended_in, fallback)
    health.homeassistant.restore()
    stages.on_slow = health.see_slow
    assembly.suspects.tell = health.say_poison
    bound_memory(prepared.plan)
    keeper = last_good.Keeper(clock, last_good.HELD_S)
    with closing(Notifier()) as notifier, sampling(LoopTime().tick):
        lifecycle = Lifecycle(assembly, health, relief, notifier, clock, Deadman().put_off)
        reloader = Reloader(
            prepared,
            lifecycle,
            clock,
            logger,
            keeper.running,
            fallback.errors if fallback is not None else (),
            bound_memory=bound_memory,
        )
        lifecycle.on_hangup = reloader.ask
        desk = Desk(Taps(assembly, clock), upkeep, reloader.answer)
        lifecycle.on_switch = desk.adopt
        asyncio.get_running_loop().call_soon(lambda: reloader.ask() if early.is_reload_asked else None)  # after READY
        health.building = reloader.builds.elapsed_s
        async with (
            Control(prepared.draft.path, desk.answer),
            _http(prepared.plan, health),
            _fleet(prepared, reloader, lifecycle, clock, logger),
        ):
            code = await lifecycle.serve(reloader.run(), upkeep.run())
    keeper.stop()
    upkeep.close()
    if lifecycle.keeps_state:
        checkpoint.save(lifecycle.assembly, prepared.machine.state_dir, clock)
    stages.close()
    if stages.is_working:  # its run does not end, and onnxruntime's own end would wait for that, or abort
        os._exit(code)
    return code


def _http(plan: Plan, health: Health) -> AbstractAsyncContextManager[object]:
    """What is shown over HTTP, if anything is."""
    if plan.http is None:
        return nullcontext()
    from edged.health.http.pages import events, pages
    from edged.health.http.server import Server

    token = plan.http.token.reveal() if plan.http.token is not None else None
    return Server(plan.http.address, token, pages(health), events(health))


@asynccontextmanager
async def _fleet(prepared: Prepared, reloader: Reloader, lifecycle: Lifecycle, clock: Clock, logger: Any) -> AsyncIterator[None]:
    """What takes models over MQTT, if the configuration wants that."""
    plan = prepared.plan
    if plan.fleet is None:
        yield
        return
    from edged.fleet.agent import Agent, Running

    agent = Agent(
        plan.fleet,
        plan.device,
        plan.tags,
        prepared.machine.state_dir,
        clock,
        logger,
        Running(
            reloader.swap,
            reloader.apply,
            lambda: reloader.models,
            lambda model: model in reloader.guards,
            lambda: unwell(lifecycle.assembly, clock.now()),
        ),
    )
    reloader.on_guard_ended = agent.guard_ended
    task = asyncio.get_running_loop().create_task(agent.run(), name="fleet")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _mark_in(stages: Stages, path: Path, logger: Any) -> list[str]:
    """Where the process before ended, if it had no time to say so: a crash, or a hang that systemd ended."""
    try:
        ended_in = stages.keep_in(path)
    except OSError as error:
        logger.warning("stages_not_noted", path=str(path), reason=error.strerror)
        return []
    for stage in ended_in:
        logger.warning("last_run_ended_in", stage=stage)
    return ended_in
