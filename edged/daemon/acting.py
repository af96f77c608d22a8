"""Makes behaviours, and wires them: whose results and samples each gets, and what it may touch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.model.remote.records import MAX_GIVEN, MAX_PHOTO
from edged.plan.records import Plan
from edged.records import Block, Message, Result
from edged.stamp import UNFIT, KeyTable

if TYPE_CHECKING:
    from edged.behaviours.actor import Actor, Reach, Writer
    from edged.behaviours.asking import Target

Hearers = dict[str, list[Callable[[Result, int], Any]]]
Takers = Mapping[str, list[Callable[[Block], None]]]


def make_actors(plan: Plan, clock: Clock, old: Assembly) -> dict[str, Actor]:
    """One for each behaviour; one whose plan is equal goes on."""
    if not plan.behaviours:
        return {}
    from edged.behaviours.actor import Actor, Counts

    found: dict[str, Actor] = {}
    for name, p in plan.behaviours.items():
        was = old.behaviours.get(name)
        if was is not None and was.plan == p:
            found[name] = was
            continue
        counts = was.counts if was is not None else Counts(f"behaviour.{name}", clock.now_s)
        assert p.work is not None
        found[name] = Actor(p, p.work, counts, clock, old.stages, old.kept)
        if was is not None:
            found[name].take_over(was)
    return found


def wire_actors(new: Assembly, takers: Takers) -> Hearers:
    """Tells each what it may touch from now on. Those of sources are added to `takers`; those of pipelines are returned."""
    hearers: Hearers = {}
    for name, actor in new.behaviours.items():
        actor.connect(_reach(new, name))
        for heard in actor.plan.hears:
            if heard.is_source:
                see = partial(actor.see, heard.stream)
                takers[heard.stream].append(new.stages.wrap(f"behaviour.{name}: inbox", see))
            else:
                hearers.setdefault(heard.stream, []).append(partial(actor.hear, heard.stream))
    return hearers


def _reach(new: Assembly, name: str) -> Reach:
    from edged.behaviours.actor import Reach

    p = new.plan.behaviours[name]
    ports = {one: _writer(new, one) for one in {*p.write, *(end.write for end in p.on_end if end.write)}}
    names = {heard.stream: _names(_table(new, heard.stream)) for heard in p.hears}
    send = new.links[p.broker].send if p.broker in new.links else _nowhere
    return Reach(send, ports, {one: _target(new, one) for one in p.ask}, names)


def _nowhere(message: Message) -> None:
    """There is no broker, and nothing that may be published."""


def _writer(new: Assembly, name: str) -> Writer:
    """A port by its own name, or by that of a source that reads it."""
    port: Any = new.ports.get(name)
    if port is None:
        shared = new.plan.sources[name].port
        port = new.ports[shared] if shared else new.sources[name]
    return port  # type: ignore[no-any-return]


def _target(new: Assembly, name: str) -> Target:
    from edged.behaviours.asking import Target

    p, table = new.plan.pipelines[name], _table(new, name)

    def key_of(key: str, now: int) -> int | None:
        if table is None:
            return 0
        number = table.id(tuple(key.split("/")), now) if key else None
        return None if number == UNFIT else number

    if p.ask is None:
        return Target(new.pipelines[name], p.fields, p.dtype, key_of)
    why = f"; model.{p.model} answers for model.{p.ask.remote}, and takes numbers" if p.model is not None else ""
    free, photo = frozenset(p.ask.free), p.ask.photo
    return Target(new.pipelines[name], p.fields, p.dtype, key_of, free, photo, MAX_GIVEN, MAX_PHOTO, why)


def _table(new: Assembly, stream: str) -> KeyTable | None:
    source, pipeline = new.plan.sources.get(stream), new.plan.pipelines.get(stream)
    if source is not None:
        return new.keys[source.key_group] if source.key_names else None
    return new.keys[pipeline.key_group] if pipeline is not None and pipeline.keys else None


def _names(table: KeyTable | None) -> Callable[[int], tuple[str, ...]] | None:
    return table.names if table is not None else None
