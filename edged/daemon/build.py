"""Plan to parts: with `build_pipeline`, the one place that names concrete classes.

`assemble` builds from the last stage to the first, so that everybody finds a consumer: models, links, pipelines, sources.
Given the `old` assembly that runs, it takes over every part whose plan is equal, with all that is in it, and touches none. From
`connect` on the new one is what runs.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from edged.behaviours.kept import Kept
from edged.clock.alarm import Alarm
from edged.clock.clock import Clock
from edged.clock.tail import Tail
from edged.daemon.acting import make_actors
from edged.daemon.assembly import Assembly, Consumers
from edged.daemon.build_pipeline import Old, Steps, build_pipeline, build_publish, number_type, steps_of
from edged.decode import make_payload_decoder
from edged.model.remote.protocols import PROTOCOLS
from edged.model.remote.records import PICTURE, PREFIX, AskPlan
from edged.model.runner import Loaded, Model
from edged.model.worker import Workers
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.mqtt.subscriptions import KnownFilters
from edged.mqtt.suspects import PATIENCE, Suspects
from edged.pipeline.counts import PipelineCounts
from edged.pipeline.pipeline import Pipeline
from edged.plan.change import is_same_publish
from edged.plan.records import PipelinePlan, Plan, SourcePlan
from edged.records import Keys
from edged.results.encode import Envelope, make_encoder
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.freshness import Freshness
from edged.sources.in_order import let_out
from edged.sources.kind import Parts, PortReader, Reader
from edged.sources.kinds import kind_of
from edged.sources.mqtt import MqttSource
from edged.sources.replies import Replies
from edged.sources.router import Router
from edged.stamp import KeyTable, Lateness, Stamper, Thinning
from edged.system.hang_recorder import Stages
from edged.system.one_shot import start_one_shot_thread
from edged.telemetry import Drops, PublishCounts

if TYPE_CHECKING:
    from edged.daemon.hard_samples import HardSamples
    from edged.model.remote.compose import Composer
    from edged.model.remote.runner import RemoteModel
    from edged.spool.spool import Spool


def assemble(
    plan: Plan,
    loaded: Mapping[str, Loaded],
    clock: Clock,
    log: Any,
    old: Assembly | None = None,
    run: str | None = None,
    stages: Stages | None = None,
    link: Callable[..., Link] = Link,
    kept: Kept | None = None,
    steps: Mapping[str, Steps] | None = None,
) -> Assembly:
    """Builds every part on the running loop, opening nothing yet. `loaded` has every model of the plan, those that are kept
    from `old` as they are there. `run` is that of a start that goes on where a stop left off; `link` makes what takes the place
    of a connection. `kept` is what behaviours left. `steps` were made beside the loop, which has something else to do by now."""
    steps = steps or {}
    old = old or _nothing(plan, run or secrets.token_hex(4), stages or Stages(clock.now), kept or Kept())
    tables = _key_tables(plan, old)
    freshness = _freshness(plan, tables, clock, old)
    consumers = {name: old.consumers.get(name, []) for name in plan.sources}
    sources, flows, stampers = _sources(plan, tables, freshness, clock, old, consumers)
    ports = _ports(plan, sources, clock, old)
    routers = {n: old.routers.get(n) or Router([], clock, Drops(f"broker.{n}")) for n in plan.links}
    spool = old.spool or _spool(plan, clock, log)
    links = {
        name: old.links.get(name)
        or link(
            settings,
            old.stages.wrap(f"broker.{name}: inputs", old.tail.around(routers[name].on_publishes)),
            clock,
            log,
            spool.backlog(name) if spool is not None else None,
            KnownFilters(plan.state_dir / "subscriptions" / f"{name}.json", settings.client_id, log, _in_thread),
            old.suspects,
            partial(_drop_poison, routers[name], old.suspects),
        )
        for name, settings in plan.links.items()
    }
    models = _models(loaded, clock, old)
    remotes = _remotes(plan, clock, old)
    composers: dict[str, Composer] = {}
    pipelines: dict[str, Pipeline] = {}
    publishes: dict[str, tuple[PublishCounts, ...]] = {}
    envelopes: dict[str, Envelope] = {}
    for name, p in plan.pipelines.items():
        table = tables.get(p.key_group) if p.keys else None
        has_its_keys = table is (old.keys.get(p.key_group) if p.keys else None)
        was = Old(old.plan.pipelines[name], old.pipelines[name]) if name in old.pipelines and has_its_keys else None
        model = models.get(p.model or "")
        if p.ask is not None:
            same = was is not None and (was.plan.ask, was.plan.keys) == (p.ask, p.keys)
            composers[name] = old.composers[name] if same else _composer(p, p.ask, _names(table))
        if was is not None and was.plan == p and model is old.models.get(p.model or ""):
            pipelines[name], publishes[name], envelopes[name] = was.pipeline, old.publishes[name], old.envelopes[name]
            continue
        envelope = (
            old.envelopes[name] if was is not None else Envelope(plan.device, name, None, old.run, _names(table), plan.tags)
        )
        counts = old.pipelines[name].counts if name in old.pipelines else PipelineCounts(f"pipeline.{name}", clock.now_s)
        accounts = old.publishes.get(name, ())
        entries = [
            was.pipeline.publishes[i]
            if was is not None and is_same_publish(was.plan, p, i)
            else build_publish(
                x,
                p,
                number_type(p, loaded),
                envelope,
                table,
                links[x.broker],
                accounts[i] if i < len(accounts) else PublishCounts(f"pipeline.{name}.publish[{i}]", clock.now_s),
            )
            for i, x in enumerate(p.publishes)
        ]
        envelopes[name] = envelope
        publishes[name] = tuple(e.counts for e in entries)
        flow = _flow_of([flows[s] for s in p.roots if s in flows])
        answer = make_encoder(envelope, ())
        pipelines[name] = build_pipeline(
            plan,
            old.stages,
            old.tail,
            p,
            model,
            remotes.get(p.ask.remote) if p.ask is not None else None,
            composers.get(name),
            steps.get(name) or steps_of(p, loaded.get(p.model or "")),
            entries,
            answer,
            counts,
            flow,
            clock,
            was,
            _names(table),
        )
    in_use = {id(x) for p in pipelines.values() for x in (p, p.slots)}
    return Assembly(
        plan=plan,
        run=old.run,
        links=links,
        routers=routers,
        models=models,
        loaded=dict(loaded),
        pipelines=pipelines,
        publishes=publishes,
        sources=sources,
        flows=flows,
        keys=tables,
        freshness=freshness,
        consumers=consumers,
        envelopes=envelopes,
        workers=old.workers,
        stages=old.stages,
        suspects=old.suspects,
        tail=old.tail,
        spool=spool,
        ports=ports,
        remotes=remotes,
        composers=composers,
        stampers=stampers,
        samples=_samples(plan, tables, clock, old),
        behaviours=make_actors(plan, clock, old),
        kept=old.kept,
        births=old.births,
        leaving=[p for p in (*old.leaving, *old.pipelines.values()) if not {id(p), id(p.slots)} & in_use],
    )


def import_code(plan: Plan) -> None:
    """Imports what the parts of a plan are made of: beside the loop, and before a reload takes anything over. `assemble` imports
    the same. Raises ImportError, as where edged was removed or replaced since it started."""
    pipelines, behaves = plan.pipelines.values(), bool(plan.behaviours)
    for source in plan.sources.values():
        if source.decode is not None:
            make_payload_decoder(source.decode)
    for remote in plan.remotes.values():
        PROTOCOLS[remote.protocol].make.get()
    wanted = {
        "edged.behaviours.actor": behaves,
        "edged.behaviours.asking": behaves,
        "edged.daemon.hard_samples": any(p.samples is not None for p in pipelines),
        "edged.decode.image": bool(plan.remotes),
        "edged.model.remote.http": bool(plan.remotes),
        "edged.model.remote.runner": bool(plan.remotes),
        "edged.pipeline.align.aligner": any(p.align is not None for p in pipelines),
        "edged.sources.written": any(not p.members for p in plan.ports.values()),
        "edged.spool.disk": plan.spool is not None,
        "edged.spool.spool": plan.spool is not None,
    }
    for name, is_wanted in wanted.items():
        if is_wanted:
            import_module(name)


def _spool(plan: Plan, clock: Clock, log: Any) -> Spool | None:
    if plan.spool is None:
        return None
    from edged.spool.disk import FileDisk
    from edged.spool.spool import Spool, boot_id

    return Spool(plan.spool, FileDisk(plan.spool.path), clock, log, boot_id())


def _in_thread(work: Callable[[], None]) -> None:
    start_one_shot_thread("edged-note", work, lambda _: None)


def _drop_poison(router: Router, suspects: Suspects, message: Inbound) -> None:
    topic = message[0].decode(errors="replace")
    detail = f"{topic}: {PATIENCE + 1} runs of edged ended with it, in {suspects.stage}"
    router.refuse(message, "poison", detail)
    suspects.tell(topic, suspects.stage)


def _nothing(plan: Plan, run: str, stages: Stages, kept: Kept) -> Assembly:
    """What runs before anything does."""
    empty = replace(plan, links={}, sources={}, models={}, pipelines={}, ports={}, behaviours={})
    workers = Workers(asyncio.get_running_loop().call_soon_threadsafe)
    suspects = Suspects(stages, [n for n, link in plan.links.items() if link.subscriptions])
    return Assembly(
        empty, run, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, workers, stages, suspects, Tail(), None, kept=kept
    )


def _names(table: KeyTable | None) -> Callable[[int], tuple[str, ...]] | None:
    return table.names if table is not None else None


def _models(loaded: Mapping[str, Loaded], clock: Clock, old: Assembly) -> dict[str, Model]:
    """A model goes on with another file, between two runs, if rows and outputs are alike; else it is another model."""
    loop = asyncio.get_running_loop()
    return {
        name: old.models[name]
        if name in old.models and _is_alike(old.models[name].loaded, one)
        else Model(name, one, loop.call_soon, clock.now, old.workers, old.stages, loop.call_later)
        for name, one in loaded.items()
    }


def _remotes(plan: Plan, clock: Clock, old: Assembly) -> dict[str, RemoteModel]:
    """One by each name; with other settings it is the same one, which goes over to them."""
    if not plan.remotes:
        return {}
    from edged.model.remote.runner import RemoteModel

    loop = asyncio.get_running_loop()
    return {name: old.remotes.get(name) or RemoteModel(one, clock.now, loop.call_soon) for name, one in plan.remotes.items()}


def _composer(p: PipelinePlan, ask: AskPlan, names: Callable[[int], tuple[str, ...]] | None) -> Composer:
    from edged.decode.image import make_jpeg
    from edged.model.remote.compose import Composer

    has_picture = any(i.name == PREFIX + PICTURE for i in ask.inputs)
    return Composer(ask, p.keys, names, make_jpeg(ask.is_bgr) if has_picture else None)


def _is_alike(a: Loaded, b: Loaded) -> bool:
    rows = [{n: (x.shape[1:], x.dtype) for n, x in one.session.inputs.items()} for one in (a, b)]
    return rows[0] == rows[1] and a.report.outputs == b.report.outputs


def _key_tables(plan: Plan, old: Assembly) -> dict[str, KeyTable]:
    """One table for each group of sources whose keys are the same numbers."""
    tables: dict[str, KeyTable] = {}
    for name, group in _key_groups(plan).items():
        stale = [s.stale_ns for s in group]
        longest = None if None in stale else max(s for s in stale if s is not None)
        size = max(s.max_keys for s in group)
        was = old.keys.get(name)
        had = {s.key_names for s in _key_groups(old.plan).get(name, ())}
        if was is not None and was.max_keys == size and had == {s.key_names for s in group}:
            was.configure(longest)
            tables[name] = was
        else:
            tables[name] = KeyTable(size, longest)
    return tables


def _key_groups(plan: Plan) -> dict[str, list[SourcePlan]]:
    groups: dict[str, list[SourcePlan]] = {}
    for source in plan.sources.values():
        if source.key_names:
            groups.setdefault(source.key_group, []).append(source)
    return groups


def _freshness(plan: Plan, tables: Mapping[str, KeyTable], clock: Clock, old: Assembly) -> dict[str, Freshness]:
    found: dict[str, Freshness] = {}
    for name, p in plan.sources.items():
        if p.stale_ns is None and p.frozen_ns is None and not p.learns_pace:
            continue
        if name in old.freshness and old.plan.sources[name] == p:
            found[name] = old.freshness[name]
            continue
        found[name] = Freshness(p.stale_ns, p.frozen_ns, p.width, p.max_keys, p.dtype, p.learns_pace)
        for names in p.known_keys:
            key = tables[p.key_group].id(names, clock.now())
            if key is not None:
                found[name].expect(key)
    return found


def _ports(plan: Plan, sources: Mapping[str, Reader | MqttSource], clock: Clock, old: Assembly) -> dict[str, PortReader]:
    """The readers of ports that several sources share; one is as before if all of its sources are."""
    found: dict[str, PortReader] = {}

    def counts_of(name: str) -> SourceCounts:
        return old.ports[name].counts if name in old.ports else SourceCounts(name, clock.now_s, "port")

    for name, p in plan.ports.items():
        members = [sources[member.name] for member in p.members]
        before = [old.sources.get(member.name) for member in p.members]
        if old.plan.ports.get(name) == p and all(a is b for a, b in zip(members, before, strict=True)):
            found[name] = old.ports[name]
            continue
        if not p.members:
            from edged.sources.written import WrittenPort

            found[name] = WrittenPort(name, p.settings, counts_of(name), clock)
            continue
        share = kind_of(p.members[0].settings).share
        assert share is not None
        found[name] = share(name, p.settings, members, counts_of(name), clock)
    return found


def _sources(
    plan: Plan,
    tables: Mapping[str, KeyTable],
    freshness: Mapping[str, Freshness],
    clock: Clock,
    old: Assembly,
    consumers: Mapping[str, Consumers],
) -> tuple[dict[str, Reader | MqttSource], dict[str, Flow], dict[str, Stamper]]:
    sources: dict[str, Reader | MqttSource] = {}
    stampers: dict[str, Stamper] = {}
    flows: dict[str, Flow] = {}
    for name, p in plan.sources.items():
        flow = flows[name] = old.flows.get(name) or Flow()
        keys = tables[p.key_group] if p.key_names else None
        if old.plan.sources.get(name) == p and (keys is None or keys is old.keys.get(p.key_group)):
            sources[name], stampers[name] = old.sources[name], old.stampers[name]
            continue
        counts = old.sources[name].counts if name in old.sources else SourceCounts(name, clock.now_s)
        lives = freshness[name].touch if name in freshness else _nobody
        thinning = Thinning(p.every_ns, p.max_keys, lives) if p.every_ns is not None else None
        late, early = (None, thinning) if p.thins_early else (thinning, None)
        waits = Lateness(p.lateness_ns, p.most_waiting, lives) if p.lateness_ns else None
        stamper = Stamper(p.decode.time_format if p.decode else None, p.rate, keys, late, waits)
        if waits is not None and not kind_of(p.settings).has_own_clock(p.settings):
            let = old.tail.around(partial(let_out, stamper, counts, consumers[name]))
            alarm = Alarm(old.stages.wrap(f"source.{name}: lateness", partial(_at_now, let, clock)), clock)
            waits.ask(alarm.set)
        stampers[name] = stamper
        parts = Parts(stamper, flow, counts, clock, old.stages, keys, _replies(p, old, clock), early)
        sources[name] = kind_of(p.settings).build(p, parts)
    return sources, flows, stampers


def _at_now(work: Callable[[int], None], clock: Clock) -> None:
    work(clock.now())


def _nobody(keys: Keys | int, arrival: int) -> None:
    """Nobody asks whether the sensors of this source live."""


def _replies(p: SourcePlan, old: Assembly, clock: Clock) -> Replies | None:
    """The requests of a source that answers some, those that wait among them."""
    if not p.replies:
        return None
    was = old.sources.get(p.name)
    if isinstance(was, MqttSource) and was.replies is not None:
        return was.replies

    def ring() -> None:
        replies.look(clock.now())

    alarm = Alarm(old.stages.wrap(f"source.{p.name}: answers", ring), clock)
    replies = Replies(f"source.{p.name}: answers", alarm.set)
    return replies


def _samples(plan: Plan, tables: Mapping[str, KeyTable], clock: Clock, old: Assembly) -> dict[str, HardSamples]:
    """Who keeps inputs that are worth a look; one whose plan is equal goes on."""
    found: dict[str, HardSamples] = {}
    for name, p in plan.pipelines.items():
        if p.samples is None:
            continue
        table, was = tables.get(p.key_group) if p.keys else None, old.samples.get(name)
        is_same = was is not None and was.plan == p.samples and table is (old.keys.get(p.key_group) if p.keys else None)
        if was is not None and is_same:
            found[name] = was
        else:
            from edged.daemon.hard_samples import HardSamples

            found[name] = HardSamples(name, p.samples, old.run, clock, _names(table), was)
    return found


def _flow_of(flows: list[Flow]) -> Callable[[bool], None]:
    """Holds or releases the flow of every source of a pipeline."""

    def set_held(held: bool) -> None:
        for flow in flows:
            if held:
                flow.hold()
            else:
                flow.release()

    return set_held
