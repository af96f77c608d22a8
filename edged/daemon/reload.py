"""Applies the configuration file to what runs: one transaction at a time, and an answer for whoever asked.

    read, check, plan    in a thread that ends; every problem of the file, or a plan
    compare              equal plans: nothing happens
    try                  new and changed models, each in a process of its own with limits
    load                 the same here, and the files of steps, in threads that end
    assemble             what is new, beside what runs; nothing is touched yet
    switch               in one turn of the loop (`Lifecycle.switch`)

Whatever goes wrong before the switch leaves what runs as it is, and says so in the log, the status line, health and an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from edged.clock.clock import Clock
from edged.config.load import Draft, content_of, report
from edged.config.schema import Config
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble, import_code
from edged.daemon.build_pipeline import Steps, make_steps
from edged.daemon.file_watch import Watch
from edged.daemon.guards import Ended, Guards, tally
from edged.daemon.prepare import Prepared, ladder_of, model_store, on_cpu, plan_draft, promote, read_led, room_for
from edged.daemon.promotion import Builds
from edged.errors import EX_CONFIG, ConfigError, Problem
from edged.model.gpu.build import BuildEngine, build_engine
from edged.model.gpu.ladder import Picked, pick
from edged.model.gpu.providers import Choice, none_ran, not_taken, slower
from edged.model.guard import Pace
from edged.model.load_all import load_models
from edged.model.records import ModelPlan, ModelRefused, Tried
from edged.model.runner import Loaded
from edged.model.trial.attempt import Trial, attempt, limits
from edged.model.trial.notes import trials_here
from edged.notation.files import read_small
from edged.plan.change import Change, compare, with_kept
from edged.plan.memory import check_budget, with_tried
from edged.plan.records import Plan
from edged.system import garbage, log
from edged.system.one_shot import in_one_shot_thread
from edged.system.process import trim

FIXED = (
    *(("device", key) for key in ("id", "base_topic", "state_dir")),
    *(("spool", key) for key in ("path", "mode")),
    *(("http", key) for key in ("listen", "token")),
    ("device", "tags"),
)
"""Keys that cannot change while the daemon runs: who it is for everybody else, and where its files and doors are."""


KEYS = "keys of source."
CODE = "code: "


class Answer(msgspec.Struct, frozen=True):
    """What became of a request: `errors` (nothing was changed), or what was."""

    errors: tuple[str, ...] = ()
    change: Change | None = None
    warnings: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """As JSON for `edged reload`."""
        if self.errors:
            return {"ok": False, "errors": list(self.errors)}
        c = self.change or Change((), (), (), ())
        said = {"kept": c.kept, "added": c.added, "changed": c.changed, "removed": c.removed, "at_start": c.at_start}
        return {"ok": True, **{key: list(names) for key, names in said.items()}, "warnings": list(self.warnings)}


class Switch(Protocol):
    """What runs, and how it goes over to something else; `Lifecycle` is it."""

    assembly: Assembly

    async def switch(self, assembly: Assembly, digest: str) -> None: ...

    def say_reload(self, errors: Sequence[str], change: Change | None, why: str, of_file: bool = True) -> None: ...

    def reloading(self) -> None: ...

    def reloaded(self) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def details(self) -> dict[str, Any]: ...

    def say_engine(self, name: str, ok: bool, **facts: Any) -> None: ...

    def say_guard(self, name: str, why: str) -> None: ...

    def leave(self, reason: str, code: int) -> None: ...


class Reloader:
    """`run` watches the files; `reload` may be called at any time."""

    def __init__(
        self,
        prepared: Prepared,
        daemon: Switch,
        clock: Clock,
        logger: Any,
        on_running: Callable[[Draft], None] = lambda draft: None,
        refused: Sequence[str] = (),
        build: BuildEngine = build_engine,
        bound_memory: Callable[[Plan | None], object] = lambda plan: None,
    ) -> None:
        """`on_running` is told what runs from now on; `refused`: the problems of the file at the start, that were said then.
        `bound_memory`: what this process may take from now on: what is left by a plan, or (None) what it likes."""
        self._running = prepared
        self._bound_memory = bound_memory
        self._build_engine = build
        self._daemon = daemon
        self._clock = clock
        self._log = logger
        self._lock = asyncio.Lock()
        self._on_running = on_running
        self._refused = "\n".join(refused)  # the problems that were said last
        self._asking: asyncio.Task[Answer] | None = None
        self._is_asked_again = False
        self._going_back: set[str] = set()
        self.on_guard_ended: Ended = _nobody
        """Is told, besides the log, what became of a version that was guarded."""
        self.guards = Guards(lambda: daemon.assembly, clock, self._guard_ended)
        self.builds = Builds(self._build, self._promote, self._fail, clock)

    async def run(self) -> None:
        """Applies the file whenever it was saved, and models whenever their files changed, for ever. Builds the engines that
        models wait for."""
        garbage.set_aside()
        try:
            self._follow_builds()
            self._on_running(self._running.draft)
            async for names in Watch(self._files).changes():
                if "" in names:
                    await self.reload("the file changed", is_asked=False)
                elif tables := [name for name in names if name.startswith(KEYS)]:
                    await self.reload(f"{', '.join(sorted(tables))} changed", is_asked=False)
                elif files := ", ".join(sorted(Path(name.removeprefix(CODE)).name for name in names if name.startswith(CODE))):
                    await self.reload(f"{files} changed", is_asked=False)
                elif models := ", ".join(sorted(names)):
                    await self.reload(f"model {models} changed", is_asked=False, rereads=False)
        finally:
            if self._asking is not None:
                self._asking.cancel()
            await self.guards.close()
            await self.builds.close()

    @property
    def models(self) -> Collection[str]:
        """The names of those that run."""
        return self._running.plan.models

    def _files(self) -> dict[str, Path]:
        """What to watch: the configuration as "", models by name, files of behaviours and steps and tables of keys behind a
        mark."""
        config = self._running.draft.config
        code = {b.run.path for b in config.behaviour.values()}
        code |= {function.path for p in config.pipeline.values() for function in p.functions.values()}
        return {
            "": self._running.draft.path,
            **{name: m.path for name, m in config.model.items() if m.watch and m.path is not None},
            **{f"{CODE}{path}": path for path in code},
            **{f"{KEYS}{name}": s.keys.path for name, s in config.source.items() if s.keys is not None},
        }

    def ask(self) -> None:
        """A reload, soon; of many that are asked for while one is under way, one more."""
        if self._asking is not None:
            self._is_asked_again = True
            return
        self._asking = asyncio.get_running_loop().create_task(self.reload("requested by a signal"), name="reload:asked")
        self._asking.add_done_callback(self._on_answered)

    def _on_answered(self, task: asyncio.Task[Answer]) -> None:
        self._asking = None
        if not task.cancelled():
            task.result()  # a bug is nobody's answer
        if self._is_asked_again:
            self._is_asked_again = False
            self.ask()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request from the control socket."""
        match request.get("command"):
            case "reload" if request.get("wait"):
                return (await self.reload("requested by a command")).facts()
            case "reload":
                self.ask()
                return {"ok": True}
            case "rollback":
                return (await self._roll_back(str(request.get("model")))).facts()
            case "status":
                return {"ok": True, "status": self._daemon.status(), "details": self._daemon.details()}
            case other:
                return {"ok": False, "errors": [f"no such command: {other!r}"]}

    async def _roll_back(self, name: str) -> Answer:
        """Goes back to the version of a model that ran before."""
        models = self._running.plan.models
        if name not in models:
            return Answer((f"no model {name!r} runs; there is {', '.join(models) or 'none'}",))
        store = model_store(self._running.machine)
        try:
            await in_one_shot_thread("edged-note", partial(store.roll_back, name), lambda _: None)
        except ModelRefused as error:
            return Answer(tuple(f"{p.path}: {p.text}" for p in error.problems))
        except OSError as error:
            return Answer((f"{store.root}: {error.strerror}",))
        return await self.reload(f"rollback of model {name}", rereads=False, is_trusted=True)

    async def reload(self, why: str, is_asked: bool = True, rereads: bool = True, is_trusted: bool = False) -> Answer:
        """One transaction. `is_asked`: somebody waits for an answer, so that the same file is looked at again all the same.
        `rereads` False: only models changed; a file that waits to be corrected does not keep them back. `is_trusted`: the models
        have run here before."""
        async with self._lock:
            self._daemon.reloading()
            try:
                return await self._reload(why, is_asked, rereads, is_trusted)
            finally:
                self._bound_memory(self._running.plan)
                self._daemon.reloaded()

    async def _reload(self, why: str, is_asked: bool, rereads: bool, is_trusted: bool) -> Answer:
        before = self._running
        try:
            work = partial(_plan, before, rereads, is_asked, is_trusted)
            after, at_start = await in_one_shot_thread("edged-plan", work, lambda _: None)
            if after is None:
                if self._refused:  # it was corrected to what runs
                    self._refused = ""
                    self._daemon.say_reload((), None, why)
                return Answer()
            change = replace(compare(before.plan, after.plan), at_start=at_start)
            after, loaded = await self._load(before, after, is_trusted)
            steps = await self._make_steps(after.plan, loaded)
        except ConfigError as error:
            return self._refuse(tuple(error.lines), why, is_asked)
        except ImportError as error:
            fix = "was edged replaced since it started? Restart it"
            return self._refuse((f"edged has no longer what this configuration needs: {error}; {fix}",), why, is_asked)
        if rereads:
            self._refused = ""
        self._running = after
        replaced = _replaced(before.plan, after.plan)
        for name in replaced:
            self.guards.end(name)
        self._on_running(after.draft)
        paces = {n: tally(self._daemon.assembly, n).row_ns for n in loaded if n in before.plan.models}
        settings = after.draft.config.log
        log.reconfigure(settings.level, settings.format)
        if not change.is_empty:
            assembly = assemble(after.plan, loaded, self._clock, self._log, self._daemon.assembly, steps=steps)
            await self._daemon.switch(assembly, after.draft.digest)
            del assembly, loaded
            await asyncio.sleep(0)  # the inputs that came meanwhile first
            garbage.collect(is_large=_has_models(change))
            await in_one_shot_thread("edged-trim", partial(_tidy, after, self._log), lambda _: None)
        else:
            await self._daemon.switch(self._daemon.assembly, after.draft.digest)
        self._guard(replaced, after, paces)
        self._follow_builds()
        self._daemon.say_reload((), change, why, of_file=rereads)
        for line in after.warnings:
            if line not in before.warnings:
                self._log.warning("configuration", problem=line)
        return Answer(change=change, warnings=after.warnings)

    def _guard(self, replaced: Collection[str], after: Prepared, paces: Mapping[str, Pace]) -> None:
        """Watches the versions that are new; who went back to one that had run is not watched."""
        for name in replaced:
            guard = after.draft.config.model[name].guard
            if guard is not None and name not in self._going_back:
                self.guards.begin(name, guard, paces.get(name, Pace()))

    async def _guard_ended(self, name: str, why: str) -> None:
        """A version was left, or has kept to what was asked of it. One that a newer version replaces meanwhile is neither: its
        verdict is no reason to leave the newer one."""
        judged = self._running
        async with self._lock:  # a newer version may be on its way in
            is_replaced = name not in self._running.plan.models or name in _replaced(judged.plan, self._running.plan)
        state = "replaced" if is_replaced else "went_back" if why else "kept"
        self._log.log(logging.ERROR if why else logging.INFO, "guard", model=name, state=state, reason=why)
        if is_replaced:
            return
        self._daemon.say_guard(name, why)
        if why:
            self._going_back.add(name)
            try:
                answer = await self._roll_back(name)
            finally:
                self._going_back.discard(name)
            for line in answer.errors:
                self._log.error("guard", model=name, state="cannot_go_back", reason=line)
        await self.on_guard_ended(name, why)

    async def swap(self, name: str, why: str) -> str:
        """Makes what the fleet put in the place of a file run. Returns why not, or an empty text."""
        return "; ".join((await self.reload(why, is_asked=True, rereads=False)).errors)

    async def apply(self, why: str) -> str:
        """Makes what the fleet put in the place of the file run. Returns why not, or an empty text."""
        return "; ".join((await self.reload(why)).errors)

    async def _load(self, before: Prepared, after: Prepared, is_trusted: bool) -> tuple[Prepared, dict[str, Loaded]]:
        """The models of the new plan: those that are kept as they are loaded, the others new from their files, tried elsewhere
        first unless that was done here before; the plan with what was found."""
        running = self._daemon.assembly.loaded
        plans, old = after.plan.models, before.plan.models
        new = {n: p for n, p in plans.items() if n not in old or old[n].identity != p.identity}
        ladder = ladder_of(after.machine)
        try:
            picked = await in_one_shot_thread("edged-pick", partial(pick, new, ladder), lambda _: None) if new else {}
            _check_held(picked, running)
            on_a_gpu = {n for n, one in picked.items() if one.choice.rungs[:1] != ("cpu",)}  # it was tried just now
            for name in () if is_trusted else new.keys() - on_a_gpu:
                tried = {name: await self._try(after, name)}
                after = replace(after, plan=with_tried(after.plan, after.machine, tried))
            loaded = await self._load_here({n: after.plan.models[n] for n in new}, picked) if new else {}
        except ModelRefused as error:
            raise ConfigError(report(after.draft, error.problems)) from error
        return after, {name: loaded.get(name) or running[name] for name in plans}

    async def _try(self, after: Prepared, name: str) -> Tried:
        """What is noted of a model, or what comes of its trial. Raises `ModelRefused`."""
        plan, room = on_cpu(after.plan.models[name]), room_for(after.plan, name)
        trials = trials_here(after.machine.state_dir)
        trial = await in_one_shot_thread("edged-note", partial(trials.find, plan, room), lambda _: None)
        if trial is None:
            trial = await attempt(plan, limits(plan, room, self._slowest_s(name)))
            await in_one_shot_thread("edged-note", partial(trials.keep, plan, trial), lambda _: None)
        return trial.report.tried

    async def _load_here(self, plans: Mapping[str, ModelPlan], picked: Mapping[str, Picked]) -> dict[str, Loaded]:
        """In a thread that ends; who set a bound sets it again when all is done."""
        self._bound_memory(None)
        return await in_one_shot_thread("edged-load", partial(load_models, plans, picked), lambda _: None)

    async def _make_steps(self, plan: Plan, loaded: Mapping[str, Loaded]) -> dict[str, Steps]:
        """In a thread that ends, since it imports code, and runs the files of users. Raises ConfigError, ImportError."""

        def work() -> dict[str, Steps]:
            import_code(plan)
            return make_steps(plan, loaded, self._daemon.assembly)

        return await in_one_shot_thread("edged-steps", work, lambda _: None)

    def _follow_builds(self) -> None:
        reports, plans = self._daemon.assembly.reports, self._running.plan.models
        self.builds.follow({name: plans[name] for name, report in reports.items() if report.builds and name in plans})

    async def _build(self, name: str, plan: ModelPlan) -> Trial:
        self._daemon.say_engine(name, ok=True, what="is being built")
        return await self._build_engine(plan, ladder_of(self._running.machine))

    async def _promote(self, name: str, plan: ModelPlan, trial: Trial) -> None:
        """What was built runs from the next run on, if it is still wanted, and under `auto` if it is the faster one."""
        async with self._lock:
            report = self._daemon.assembly.reports.get(name)
            if report is None or not self._is_as_planned(name, plan):
                return
            new_us, old_us = (r.p50_us / r.batch_max for r in (trial.report, report))
            if plan.providers == "auto" and new_us >= old_us:
                self._keep(name, slower("tensorrt", new_us * 1e3, report.provider, old_us * 1e3, 1))
                return
            rest = (report.provider,) if not report.is_held else ()
            ladder = ladder_of(self._running.machine)
            picked = Picked(Choice(("tensorrt", *rest)), ladder.engine(plan), ladder.note(plan, "tensorrt"))
            try:
                loaded = await self._load_here({name: plan}, {name: picked})
            finally:
                self._bound_memory(self._running.plan)
            await self._go_over({name: loaded[name]})
            report = loaded[name].report
            self._daemon.say_engine(
                name, ok=report.provider == "tensorrt", what=f"runs on {report.provider}", p50_us=report.p50_us
            )
            del loaded
            garbage.collect(is_large=True)
            await in_one_shot_thread("edged-trim", partial(_tidy, self._running, self._log), lambda _: None)

    def _fail(self, name: str, plan: ModelPlan, reason: str) -> None:
        """There will be no engine. Where TensorRT is required, there is nothing to run."""
        if not self._is_as_planned(name, plan):
            return
        self._daemon.say_engine(name, ok=False, what="could not be built", reason=reason)
        if self._daemon.assembly.reports[name].is_held:
            text = f"model.{name}.providers: {none_ran(plan.providers, {'tensorrt': reason})}"
            self._daemon.leave(text, EX_CONFIG)
        else:
            self._keep(name, not_taken("tensorrt", reason))

    def _is_as_planned(self, name: str, plan: ModelPlan) -> bool:
        now = self._running.plan.models.get(name)
        return now is not None and now.identity == plan.identity and name in self._daemon.assembly.loaded

    def _keep(self, name: str, reason: str) -> None:
        """It stays with what runs it; the reason is known from now on."""
        report = self._daemon.assembly.reports[name]
        self._daemon.assembly.amend(name, replace(report, builds=False, reasons=(*report.reasons, reason)))

    async def _go_over(self, loaded: dict[str, Loaded]) -> None:
        """The same plan with other sessions."""
        before, plan = self._daemon.assembly, self._running.plan
        loaded = {**before.loaded, **loaded}
        assembly = assemble(plan, loaded, self._clock, self._log, before, steps=await self._make_steps(plan, loaded))
        await self._daemon.switch(assembly, self._running.draft.digest)

    def _slowest_s(self, name: str) -> float:
        """The longest run so far of the model that is to be replaced; of one that is new, half a second is expected."""
        model = self._daemon.assembly.models.get(name)
        return model.counts.time.maximum / 1e9 if model is not None else 0.5

    def _refuse(self, errors: tuple[str, ...], why: str, is_asked: bool) -> Answer:
        mark = "\n".join(errors)
        if is_asked or mark != self._refused:  # said once, however often it is looked at
            self._refused = mark
            self._daemon.say_reload(errors, None, why)
        return Answer(errors)


async def _nobody(name: str, why: str) -> None:
    """Nobody else wants to know."""


def _plan(before: Prepared, rereads: bool, is_asked: bool, forgets: bool) -> tuple[Prepared | None, tuple[str, ...]]:
    """The new plan, None if the file is as it was, and what of it can apply only at the next start. `forgets`: models are read
    again though their files did not change. Raises ConfigError."""
    if rereads and not is_asked and _is_as_it_was(before.draft):
        return None, ()
    draft = read_led(before.draft.path, at_start=False) if rereads else before.draft
    store = model_store(before.machine)
    is_same = (draft.digest, draft.beside, draft.files) == (before.draft.digest, before.draft.beside, before.draft.files)
    is_known = is_same and not before.draft.is_last_good
    if rereads and not is_asked and is_known:
        return None, ()
    known = before if not forgets else None
    after = plan_draft(draft, before.machine, store, before=known)
    config, at_start = _held(before.draft.config, draft.config)
    if at_start:
        held = plan_draft(replace(draft, config=config), before.machine, store, before=after)
        after = replace(held, remarks=after.remarks)
    too_much = check_budget(after.plan.memory, after.plan.budget, draft.config.memory.budget is not None)
    if too_much is not None and not too_much.is_warning:
        raise ConfigError(report(draft, [too_much]))
    return replace(after, plan=with_kept(before.plan, after.plan)), at_start


def _is_as_it_was(draft: Draft) -> bool:
    """Whether a local file, and the small files that it names, hold what they held. Nothing is parsed for that: the parse of a
    large file takes the interpreter from the loop, and whoever asked for a reload has had it parsed already."""
    if draft.config.fleet is not None or draft.is_last_good:
        return False
    try:
        return content_of(draft.path) == draft.content and all(read_small(p) == data for p, data in draft.files.items())
    except (ConfigError, ValueError):
        return False


def _replaced(old: Plan, new: Plan) -> set[str]:
    """The models of which another version runs."""
    both = old.models.keys() & new.models.keys()
    return {name for name in both if old.models[name].manifest.sha256 != new.models[name].manifest.sha256}


def _has_models(change: Change) -> bool:
    """Whether models went, which are large."""
    return any(name.startswith("model.") for name in (*change.changed, *change.removed))


def _check_held(picked: Mapping[str, Picked], running: Mapping[str, Loaded]) -> None:
    """What gives results is not put away for what gives none until its engine is built. Raises `ModelRefused`."""
    text = "TensorRT is required, and has no engine for this version yet; build it (edged model prepare {0}), then reload"
    names = [name for name, one in picked.items() if one.choice.is_held and name in running and not running[name].report.is_held]
    if names:
        raise ModelRefused([Problem(f"model.{name}.providers", text.format(name)) for name in names])


def _tidy(after: Prepared, logger: Any) -> None:
    """What there is time for after the switch."""
    promote(after, logger)
    trim()


def _held(running: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """The new configuration with the keys that cannot change now as they are, and which of them would have changed."""
    names = []
    for table, key in FIXED:
        old = getattr(getattr(running, table), key)
        if getattr(getattr(new, table), key) != old:
            names.append(f"{table}.{key}")
            new = msgspec.structs.replace(new, **{table: msgspec.structs.replace(getattr(new, table), **{key: old})})
    if new.fleet != running.fleet:
        names.append("fleet")
        new = msgspec.structs.replace(new, fleet=running.fleet)
    return new, tuple(names)
