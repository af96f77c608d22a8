"""Config, model manifests and machine in; a Plan out, or every problem of it."""

from __future__ import annotations

from collections.abc import Mapping

from edged.budget import default_budget
from edged.config.schema import Config
from edged.errors import Problem
from edged.model.manifest import Manifest
from edged.plan.memory import check_budget, memory_table
from edged.plan.models import plan_models, wide_sources
from edged.plan.pipelines import plan_pipeline
from edged.plan.records import Machine, PipelinePlan, Plan
from edged.plan.streams import plan_links, plan_sources


def make_plan(config: Config, manifests: Mapping[str, Manifest], machine: Machine) -> tuple[Plan | None, list[Problem]]:
    """The plan, or None, with all problems and warnings. A model without a manifest has a problem of its own already."""
    problems: list[Problem] = []
    device = config.device.id or machine.host
    base_topic = config.device.base_topic.replace("{device}", device)
    known = {"device": device, "base_topic": base_topic}
    sources = plan_sources(config, device, base_topic, wide_sources(config, manifests), problems)
    links = plan_links(config, device, base_topic, sources, problems)
    pipelines: dict[str, PipelinePlan] = {}
    for name in config.pipeline:
        planned = plan_pipeline(name, config, sources, manifests, known, problems)
        if planned is not None:
            pipelines[name] = planned
    models = plan_models(config, manifests, pipelines, problems)
    budget = config.memory.budget or default_budget(machine.memory)
    memory = memory_table(machine, links, sources, models, pipelines)
    too_much = check_budget(memory, budget, config.memory.budget is not None)
    if too_much is not None:
        problems.append(too_much)
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
    )
    return plan, problems
