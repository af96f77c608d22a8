"""Wires the parts of an assembly, in one turn of the loop: who takes what, who waits for whom. Everything that a part knows of
others is made here and handed over whole, in one call a part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

from edged.daemon.acting import wire_actors
from edged.daemon.assembly import Assembly, Consumers
from edged.daemon.gating import wire_gates
from edged.daemon.latches import acknowledge_by_message
from edged.model.gpu.providers import THREADS
from edged.model.remote.row import Taker
from edged.model.worker import CPU
from edged.pipeline.pipeline import Pipeline
from edged.pipeline.wiring import Wiring
from edged.plan.change import is_same_window
from edged.plan.records import PipelinePlan, Plan
from edged.records import Block, Receipt, Reject, Result
from edged.results.encode import make_encoder
from edged.results.publish import Publish
from edged.sources.dead_letters import DeadLetters
from edged.sources.mqtt import MqttSource, SourceWiring
from edged.sources.replies import Replies
from edged.sources.router import Filter, Told


def connect(new: Assembly, old: Assembly | None = None) -> None:
    """Wires the parts, in one turn of the loop. From here on `old` is no more, but for what it has to run out."""
    plan = new.plan
    if new.spool is not None and plan.spool is not None:
        new.spool.configure(plan.spool)
    for name, link in new.links.items():
        link.configure(plan.links[name])
        link.connect(partial(_supersede, new.mqtt_sources, (*new.pipelines.values(), *new.leaving), new.replies))
    for name, router in new.routers.items():
        sources = [s for s in new.sources.values() if isinstance(s, MqttSource) and plan.sources[s.name].broker == name]
        router.route_to([*sources, *_told(new, name)])
    _wire_streams(new)
    _wire_samples(new, old)
    readers = _readers(plan)
    for name, source in new.sources.items():
        source.counts.watch.publish_by(_dead_letters(new, name))
        if isinstance(source, MqttSource):
            if source.replies is not None:
                send = new.links[plan.sources[name].broker or ""].send
                expire = partial(_expire, (*new.mqtt_sources, *new.pipelines.values(), *new.leaving))
                source.replies.configure(plan.sources[name].replies, send, expire)
            source.connect(_source_wiring(new, name, readers[name]))
    if old is not None:
        _pass_on_undecoded(new, old)
        for name, stamper in old.stampers.items():
            if new.stampers.get(name) is not stamper:
                old.let_out(name)
    for pipeline in new.leaving:
        pipeline.retire()
    for name, remote in new.remotes.items():
        remote.configure(plan.remotes[name])
    for name, gone in old.remotes.items() if old is not None else ():
        if name not in new.remotes:
            gone.close()
    for name, model in new.models.items():
        is_other = old is not None and name in old.plan.models and not _is_same_file(old.plan, plan, name)
        model.replace(new.loaded[name], partial(_rename, new, name, is_other))
    _feed(new)
    for name, p in plan.pipelines.items():
        pipeline = new.pipelines[name]
        was = old.pipelines.get(name) if old is not None else None
        if old is not None and was is not None and was is not pipeline:
            pipeline.take_over(was, is_same_window(old.plan.pipelines[name], p))
    for name, p in plan.pipelines.items():
        new.envelopes[name].show_keys(dict(p.about))
    for pipeline in (*new.pipelines.values(), *new.leaving):
        pipeline.judge()
    going_on = _publishes(new)
    for one in old.pipelines.values() if old is not None else ():
        one.say_last(going_on)


def _told(new: Assembly, broker: str) -> Iterator[Told]:
    """Who takes messages of a broker that are for edged itself."""
    for name, p in new.plan.pipelines.items():
        if p.acks and any(x.broker == broker for x in p.publishes):
            yield Told("pipeline", name, [Filter(*one) for one in p.acks], partial(acknowledge_by_message, new, name))
        if p.samples is not None and p.samples.labels is not None and p.samples.broker == broker:
            yield Told("pipeline", name, [Filter(*p.samples.labels)], new.samples[name].hear)
    shown = new.plan.homeassistant
    if shown is not None and shown.broker == broker:
        yield Told("homeassistant", "births", [Filter(*one) for one in shown.births], new.births.take)


def _wire_samples(new: Assembly, old: Assembly | None) -> None:
    """Who looks for inputs that are worth it, and for no others than before where nothing changed."""
    for name, gone in old.samples.items() if old is not None else ():
        if new.samples.get(name) is not gone:
            gone.unhook()
    for name, samples in new.samples.items():
        counts = {root.source: new.sources[root.source].counts for root in samples.plan.roots}
        watched = {root.source: new.ports[root.port].counts for root in samples.plan.roots if root.port}
        send = new.links[samples.plan.broker].send if samples.plan.broker is not None else None
        samples.hook(counts, {**counts, **watched}, make_encoder(new.envelopes[name], ()), send)


def _dead_letters(new: Assembly, name: str) -> Callable[[Sequence[Reject]], object] | None:
    rejects = new.plan.sources[name].rejects
    if rejects is None:
        return None
    return DeadLetters(rejects, new.plan.device, name, new.links[rejects.broker].send, new.clock).take


def _readers(plan: Plan) -> dict[str, list[PipelinePlan]]:
    """By stream, in the order of the file."""
    found: dict[str, list[PipelinePlan]] = {name: [] for name in (*plan.sources, *plan.pipelines)}
    for p in plan.pipelines.values():
        for stream in dict.fromkeys(p.sources):
            found[stream].append(p)
    return found


def _source_wiring(new: Assembly, name: str, readers: Sequence[PipelinePlan]) -> SourceWiring:
    deadlines = [p.deadline_ns or 0 for p in readers]
    return SourceWiring(
        consumers=new.consumers[name],
        is_pace=any(p.align and p.align.to is not None and p.sources[p.align.to] == name for p in readers),
        deadline_ns=max(deadlines, default=0) if all(deadlines) else 0,
    )


def _publishes(new: Assembly) -> frozenset[Publish]:
    """Every entry of the plan."""
    return frozenset(publish for pipeline in new.pipelines.values() for publish in pipeline.publishes)


def _pass_on_undecoded(new: Assembly, old: Assembly) -> None:
    """What a source that is gone has not decoded yet goes to the one in its place, if that tells its sensors apart in the same
    way."""
    there = {source.name: source for source in new.mqtt_sources}
    for source in old.mqtt_sources:
        name = source.name
        after = there.get(name)
        if after is not source:
            is_alike = after is not None and new.plan.sources[name].key_parts == old.plan.sources[name].key_parts
            source.leave_to(after if is_alike else None)


def release(new: Assembly) -> None:
    """Lets go of the pipelines of an earlier plan that have run out what they had."""
    done = [p for p in new.leaving if not p.has_waiting]
    if done:
        new.leaving[:] = [p for p in new.leaving if p not in done]
        _feed(new)
    going_on = _publishes(new) if done else frozenset()
    for pipeline in done:
        pipeline.say_last(going_on)
        pipeline.close()


def _feed(new: Assembly) -> None:
    """Tells every model whose rows it runs: those of pipelines that leave come first."""
    for name, model in new.models.items():
        mine = [new.pipelines[n] for n, p in new.plan.pipelines.items() if p.model == name and p.ask is None]
        feeders = [*(p for p in new.leaving if p.wake == model.wake), *mine]
        for pipeline in feeders:
            if pipeline.states is not None:
                pipeline.states.be_alone(len(feeders) == 1)
        spills = [remote.spill for remote in new.remotes.values() if remote.plan.fallback == name]
        for spill in spills:
            spill.connect(name, model.wake)
        model.feed_from([*feeders, *spills], new.plan.models[name].delay_ns)
    for name, remote in new.remotes.items():
        asking = [n for n, p in new.plan.pipelines.items() if p.ask is not None and p.ask.remote == name]
        remote.feed_from([Taker(new.pipelines[n], new.composers[n]) for n in asking])
    new.workers.configure(new.plan.workers, _lowest(new))


def _lowest(new: Assembly) -> int | None:
    """The priority whose models leave a thread free for those above; None where all that share the threads have one priority."""
    reports = {name: one.report for name, one in new.loaded.items()}
    shared = [n for n, r in reports.items() if r.run != "inline" and THREADS.get(r.provider) == CPU]
    priorities = {new.models[name].priority for name in shared}
    return min(priorities) if len(priorities) > 1 else None


def _is_same_file(old: Plan, new: Plan, model: str) -> bool:
    a, b = old.models[model].manifest, new.models[model].manifest
    return (a.path, a.sha256) == (b.path, b.sha256)


def _rename(new: Assembly, model: str, is_other: bool) -> None:
    """From here on results are those of the file that is loaded now; what another one remembered means nothing to it."""
    if is_other:
        for pipeline in (*new.pipelines.values(), *new.leaving):
            if pipeline.states is not None and pipeline.wake == new.models[model].wake:
                pipeline.states.forget_all()
    for name, p in new.plan.pipelines.items():
        if p.model == model and is_other:
            new.pipelines[name].counts.drops.forgive()
        if p.model == model and p.ask is None:
            new.envelopes[name].show(f"{model}@{new.loaded[model].report.sha256[:8]}")


def _supersede(
    sources: Sequence[MqttSource],
    pipelines: Sequence[Pipeline],
    replies: Sequence[Replies],
    receipts: AbstractSet[Receipt],
) -> None:
    for one in replies:
        receipts = receipts | one.supersede(receipts)
    for source in sources:
        source.supersede(receipts)
    for pipeline in pipelines:
        pipeline.supersede(receipts)


def _expire(parts: Sequence[MqttSource | Pipeline], receipts: AbstractSet[Receipt]) -> None:
    for part in parts:
        part.expire(receipts)


def _wire_streams(new: Assembly) -> None:
    """For every stream, what takes its blocks: each pipeline under the place that the stream has in it, as a stage of its own
    where there are several, and gates before and behind them. Pipelines of an earlier plan keep those that they had."""
    plan, everybody = new.plan, [*new.pipelines.values(), *new.leaving]
    takers: dict[str, Consumers] = {name: [] for name in (*plan.sources, *plan.pipelines)}
    after: dict[str, list[Pipeline]] = {name: [] for name in plan.pipelines}
    readers = Counter(stream for p in plan.pipelines.values() for stream in p.sources)
    for name, p in plan.pipelines.items():
        for place, stream in enumerate(p.sources):
            push = _into(new.pipelines[name], place, p.columns)
            takers[stream].append(push if readers[stream] == 1 else new.stages.wrap(f"pipeline.{name}", push))
            if stream in after:
                after[stream].append(new.pipelines[name])
    prompts = _tell_prompts(new)
    hearers = wire_actors(new, takers)
    told = wire_gates(plan, new.pipelines, new.leaving, takers, new.envelopes)
    nexts = {id(one): one.after for one in new.leaving} | {id(new.pipelines[name]): found for name, found in after.items()}
    followers = {id(new.pipelines[name]): takers[name] for name in plan.pipelines}
    before: dict[int, list[Pipeline]] = {}
    for one in everybody:
        for other in dict.fromkeys(nexts[id(one)]):
            before.setdefault(id(other), []).append(one)
    for one in everybody:
        wiring = Wiring(
            followers=tuple(followers.get(id(one), one.wiring.followers)),
            after=tuple(nexts[id(one)]),
            before=tuple(before.get(id(one), ())),
            tellers=(*prompts.get(one.name, ()), *told.tellers.get(id(one), ()), *_lookers(new, one)),
            judges=tuple(told.judges.get(id(one), ())),
            hearers=tuple(hearers.get(one.name, ())),
        )
        one.connect(wiring)
    for name in plan.sources:
        fresh = new.freshness.get(name)  # before the pipelines, whose rows it may mark
        new.consumers[name][:] = takers[name] if fresh is None else [fresh.see, *takers[name]]


def _lookers(new: Assembly, one: Pipeline) -> tuple[Callable[[Result, int], object], ...]:
    """Who keeps inputs that its results say are worth a look."""
    samples = new.samples.get(one.name)
    return (samples.see,) if samples is not None and new.pipelines[one.name] is one else ()


def _tell_prompts(new: Assembly) -> dict[str, list[Callable[[Result, int], object]]]:
    """By the name of a pipeline: the prompts that name what it says."""
    found: dict[str, list[Callable[[Result, int], object]]] = {}
    for composer in new.composers.values():
        for other in composer.plan.others:
            is_keyed = bool(new.plan.pipelines[other].keys)
            found.setdefault(other, []).append(partial(composer.tell, other, is_keyed))
    return found


def _into(pipeline: Pipeline, place: int, columns: tuple[int, int] | None) -> Callable[[Block], None]:
    if columns is None:
        return partial(pipeline.push, place)

    def push(block: Block) -> None:
        pipeline.push(place, block.columns(*columns))

    return push
