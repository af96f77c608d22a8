"""Applies the configuration file to what runs: one transaction at a time, and an answer for whoever asked.

    read, check, plan    in a thread that ends; every problem of the file, or a plan
    compare              equal plans: nothing happens
    load                 new and changed models, in a thread that ends
    assemble             what is new, beside what runs; nothing is touched yet
    switch               in one turn of the loop (`Lifecycle.switch`)

Whatever goes wrong before the switch leaves what runs as it is, and says so in the log, the status line, health and an event.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edged import log
from edged.assemble import Assembly, assemble, load_models
from edged.clock import Clock
from edged.config.load import read, report
from edged.config.schema import Config
from edged.errors import ConfigError
from edged.model.records import ModelRefused
from edged.model.runner import Loaded
from edged.plan.change import Change, compare
from edged.plan.memory import check_budget
from edged.process import trim
from edged.runtime.prepare import Prepared, plan_draft
from edged.runtime.watch import Watch
from edged.transport.one_shot import in_one_shot_thread

FIXED = (("device", "id"), ("device", "base_topic"), ("device", "state_dir"), ("spool", "path"), ("spool", "mode"))
"""Keys that cannot change while the daemon runs: who it is for everybody else, and where its files are."""


@dataclass(frozen=True, slots=True)
class Answer:
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

    def say_reload(self, errors: Sequence[str], change: Change | None, why: str) -> None: ...

    def reloading(self) -> None: ...

    def reloaded(self) -> None: ...


class Reloader:
    """`run` watches the files; `reload` may be called at any time."""

    def __init__(self, prepared: Prepared, daemon: Switch, clock: Clock, logger: Any) -> None:
        self._running = prepared
        self._daemon = daemon
        self._clock = clock
        self._log = logger
        self._lock = asyncio.Lock()
        self._refused = ""  # the problems that were said last
        self._asking: asyncio.Task[Answer] | None = None
        self._is_asked_again = False

    async def run(self) -> None:
        """Applies the file whenever it was saved, and models whenever their files changed, for ever."""
        try:
            async for names in Watch(self._files).changes():
                if "" in names:
                    await self.reload("the file changed", is_asked=False)
                elif models := ", ".join(sorted(names)):
                    await self.reload(f"model {models} changed", is_asked=False, rereads=False)
        finally:
            if self._asking is not None:
                self._asking.cancel()

    def _files(self) -> dict[str, Path]:
        """What to watch: the configuration as "", models by name."""
        models = self._running.draft.config.model
        return {"": self._running.draft.path, **{name: m.path for name, m in models.items() if m.watch}}

    def ask(self) -> None:
        """A reload, soon; of many that are asked for while one is under way, one more."""
        if self._asking is not None:
            self._is_asked_again = True
            return
        self._asking = asyncio.get_running_loop().create_task(self.reload("asked for by a signal"), name="reload:asked")
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
        if request.get("command") != "reload":
            return {"ok": False, "errors": [f"no such command: {request.get('command')!r}"]}
        if not request.get("wait"):
            self.ask()
            return {"ok": True}
        return (await self.reload("asked for by a command")).facts()

    async def reload(self, why: str, is_asked: bool = True, rereads: bool = True) -> Answer:
        """One transaction. `is_asked`: somebody waits for an answer, so that the same file is looked at again all the same.
        `rereads` False: only models changed; a file that waits to be corrected does not keep them back."""
        async with self._lock:
            self._daemon.reloading()
            try:
                return await self._reload(why, is_asked, rereads)
            finally:
                self._daemon.reloaded()

    async def _reload(self, why: str, is_asked: bool, rereads: bool) -> Answer:
        before = self._running
        try:
            after, at_start = await in_one_shot_thread("edged-plan", partial(_plan, before, rereads, is_asked), lambda _: None)
            if after is None:
                if self._refused:  # it was corrected to what runs
                    self._refused = ""
                    self._daemon.say_reload((), None, why)
                return Answer()
            change = replace(compare(before.plan, after.plan), at_start=at_start)
            loaded = await self._load(before, after)
        except ConfigError as error:
            return self._refuse(tuple(error.lines), why, is_asked)
        self._refused = ""
        self._running = after
        settings = after.draft.config.log
        log.reconfigure(settings.level, settings.format)
        if not change.is_empty:
            assembly = assemble(after.plan, loaded, self._clock, self._log, self._daemon.assembly)
            await self._daemon.switch(assembly, after.draft.digest)
            del assembly, loaded
            gc.collect()
            await in_one_shot_thread("edged-trim", trim, lambda _: None)
        else:
            await self._daemon.switch(self._daemon.assembly, after.draft.digest)
        self._daemon.say_reload((), change, why)
        for line in after.warnings:
            if line not in before.warnings:
                self._log.warning("configuration", problem=line)
        return Answer(change=change, warnings=after.warnings)

    async def _load(self, before: Prepared, after: Prepared) -> dict[str, Loaded]:
        """The models of the new plan: those that are kept as they are loaded, the others new from their files."""
        running = self._daemon.assembly.loaded
        plans, old = after.plan.models, before.plan.models
        new = {n: p for n, p in plans.items() if n not in old or old[n].identity != p.identity}
        try:
            loaded = await in_one_shot_thread("edged-load", partial(load_models, new), lambda _: None) if new else {}
        except ModelRefused as error:
            raise ConfigError(report(after.draft, error.problems)) from error
        return {name: loaded.get(name) or running[name] for name in plans}

    def _refuse(self, errors: tuple[str, ...], why: str, is_asked: bool) -> Answer:
        mark = "\n".join(errors)
        if is_asked or mark != self._refused:  # said once, however often it is looked at
            self._refused = mark
            self._daemon.say_reload(errors, None, why)
        return Answer(errors)


def _plan(before: Prepared, rereads: bool, is_asked: bool) -> tuple[Prepared | None, tuple[str, ...]]:
    """The new plan, None if the file is as it was, and what of it can apply only at the next start. Raises ConfigError."""
    draft = read(before.draft.path) if rereads else before.draft
    if rereads and not is_asked and draft.digest == before.draft.digest:
        return None, ()
    after = plan_draft(draft, before.machine)
    config, at_start = _held(before.draft.config, draft.config)
    if at_start:
        held = plan_draft(replace(draft, config=config), before.machine)
        after = replace(held, warnings=after.warnings)
    too_much = check_budget(after.plan.memory, after.plan.budget, draft.config.memory.budget is not None)
    if too_much is not None and not too_much.is_warning:
        raise ConfigError(report(draft, [too_much]))
    return after, at_start


def _held(running: Config, new: Config) -> tuple[Config, tuple[str, ...]]:
    """The new configuration with the keys that cannot change now as they are, and which of them would have changed."""
    names = []
    for table, key in FIXED:
        old = getattr(getattr(running, table), key)
        if getattr(getattr(new, table), key) != old:
            names.append(f"{table}.{key}")
            new = msgspec.structs.replace(new, **{table: msgspec.structs.replace(getattr(new, table), **{key: old})})
    return new, tuple(names)
