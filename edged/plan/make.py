"""Config, model manifests and machine in; a Plan out, or every problem of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from edged.config.schema import Config, Http
from edged.errors import Problem
from edged.model.manifest import Manifest
from edged.model.records import ModelPlan, Tried
from edged.notation.units import MIB
from edged.plan.acks import plan_acks
from edged.plan.behaviours import plan_behaviours
from edged.plan.defaults import with_defaults
from edged.plan.fleet import plan_fleet
from edged.plan.gpu import plan_gpu
from edged.plan.homeassistant import plan_homeassistant
from edged.plan.keys import plan_key_tables
from edged.plan.links import plan_links
from edged.plan.memory import check_budget, check_cgroup, memory_table, row_fits
from edged.plan.models import plan_models, wide_sources, with_states
from edged.plan.pipelines import SeenBy, plan_pipeline
from edged.plan.ports import plan_ports
from edged.plan.publishes import check_own_topics
from edged.plan.records import HttpPlan, Machine, PipelinePlan, Plan, SourcePlan
from edged.plan.rejects import plan_rejects
from edged.plan.remotes import local_model, picture_warnings, plan_remotes, remote_of
from edged.plan.replies import check_replies
from edged.plan.results import with_room
from edged.plan.samples import plan_samples
from edged.plan.scope import Scope
from edged.plan.shares import check_shares
from edged.plan.sources import plan_sources
from edged.plan.spool import plan_spool
from edged.plan.streams import pipeline_stream, source_stream
from edged.plan.views import source_views
from edged.system.process_memory import default_budget


def fixed_names(config: Config, host: str) -> dict[str, str]:
    """What `{device}`, `{base_topic}` and `{tags.NAME}` stand for in every topic."""
    device = config.device.id or host
    tags = {f"tags.{name}": value for name, value in (config.device.tags or {}).items()}
    return {"device": device, "base_topic": config.device.base_topic.replace("{device}", device), **tags}


def make_plan(
    config: Config,
    manifests: Mapping[str, Manifest],
    machine: Machine,
    tried: Callable[[ModelPlan], Tried | None] = lambda plan: None,
    seen: SeenBy = lambda plan: {},
) -> tuple[Plan | None, list[Problem]]:
    """The plan, or None, with all problems and warnings. A model without a manifest has a problem of its own already. `tried`:
    what is known of a model from an earlier trial. `seen`: the rows of its outputs as a trial saw them."""
    problems: list[Problem] = []
    fixed = fixed_names(config, machine.host)
    device, base_topic = fixed["device"], fixed["base_topic"]
    budget = config.memory.budget or default_budget(min(machine.memory, machine.cgroup or machine.memory))
    manifests = with_states(config, manifests, problems)
    known = manifests | {n: manifests[m.fallback] for n, m in config.model.items() if m.fallback in manifests}
    config = with_defaults(config, known)
    wide, views = wide_sources(config, known), source_views(config, known)
    sources = plan_sources(config, fixed, wide, problems, views)
    sources = {name: source for name, source in sources.items() if row_fits(source, budget, problems)}
    sources = plan_rejects(config, sources, fixed, problems)
    links = plan_links(config, device, base_topic, sources, problems)
    check_own_topics(config, sources, base_topic, problems)
    check_shares(config, manifests, problems)
    check_replies(config, sources, base_topic, problems)
    pipelines = _plan_pipelines(config, sources, known, fixed, budget, problems, seen)
    pipelines, tables = plan_key_tables(
        config, pipelines, {name: source.max_keys if source.key_names else 0 for name, source in sources.items()}, problems
    )
    pipelines, links = plan_acks(config, pipelines, with_room(links, pipelines), sources, fixed, problems)
    pipelines, links = plan_samples(config, machine, pipelines, links, sources, fixed, problems)
    shown, links = plan_homeassistant(config, pipelines, sources, links, fixed, problems)
    models = plan_models(config, manifests, pipelines, problems)
    models = {name: replace(plan, tried=tried(plan)) for name, plan in models.items()}
    gpu, models = plan_gpu(config, machine.gpu, machine.memory, budget, models, problems)
    behaviours = plan_behaviours(config, sources, pipelines, fixed, problems)
    spool = plan_spool(config, machine, links, pipelines, problems)
    http, remotes = plan_http(config.http), plan_remotes(config, pipelines)
    problems += picture_warnings(pipelines, remotes)
    fleet = plan_fleet(config, fixed, links, machine, problems)
    workers = config.device.workers or machine.cores
    memory = memory_table(
        machine, links, sources, models, pipelines, spool, http, behaviours, remotes, workers, fleet is not None, shown
    )
    if budget > machine.memory:
        text = f"{budget // MIB} MiB, and this machine has {machine.memory // MIB} MiB: the kernel would end the process first"
        problems.append(Problem("memory.budget", text, is_warning=True))
    too_much = check_budget(memory, budget, config.memory.budget is not None)
    problems += [p for p in (too_much, check_cgroup(memory, budget, machine.cgroup)) if p is not None]
    if any(not p.is_warning for p in problems):
        return None, problems
    plan = Plan(
        device=device,
        base_topic=base_topic,
        health_interval_ns=config.health.interval,
        health_brokers=config.health.broker if config.health.broker is not None else tuple(config.broker),
        links=links,
        sources=sources,
        models=models,
        pipelines=pipelines,
        memory=memory,
        budget=budget,
        spool=spool,
        cgroup=machine.cgroup,
        state_dir=machine.state_dir,
        gpu=gpu,
        ports=plan_ports(config, sources),
        key_tables=tables,
        http=http,
        remotes=remotes,
        tags=config.device.tags or {},
        fleet=fleet,
        homeassistant=shown,
        behaviours=behaviours,
        workers=workers,
        cores=machine.cores,
    )
    return plan, problems


def plan_http(http: Http) -> HttpPlan | None:
    """None: edged does not listen."""
    return HttpPlan(http.listen, http.token) if http.listen is not None else None


def _plan_pipelines(
    config: Config,
    sources: Mapping[str, SourcePlan],
    manifests: Mapping[str, Manifest],
    known: Mapping[str, str],
    budget: int,
    problems: list[Problem],
    seen: SeenBy,
) -> dict[str, PipelinePlan]:
    """The pipelines, each after those that it reads. One that reads what has no plan is left out: that has its own problem."""
    streams = {name: source_stream(source) for name, source in sources.items()}
    plans: dict[str, PipelinePlan] = {}
    left = dict(config.pipeline)
    while ready := [name for name, p in left.items() if streams.keys() >= {*p.source, *([p.gate.source] if p.gate else [])}]:
        # What a prompt may name comes first, as far as it can.
        ready = [name for name in ready if remote_of(config, left[name]) is None] or ready
        for name in ready:
            settings = left.pop(name)
            local = local_model(config, settings)
            if local is not None and local not in manifests:
                continue
            mine = [streams[s] for s in settings.source]
            manifest = manifests[local] if local is not None else None
            gate = None
            if settings.gate is not None:
                by = settings.gate.source
                gate = (streams[by], plans[by].output if by in plans else None)
            at = Scope(f"pipeline.{name}", problems)
            plan = plan_pipeline(at, name, config, sources, mine, manifest, known, budget, gate, plans, seen)
            if plan is not None:
                plans[name] = plan
                streams[name] = pipeline_stream(plan, streams)
    return {name: plans[name] for name in config.pipeline if name in plans}
