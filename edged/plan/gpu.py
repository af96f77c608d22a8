"""The table of a GPU's memory, and how much of it each model may take."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from edged.config.schema import Config
from edged.errors import Problem
from edged.model.fit import fit
from edged.model.gpu.gpu import Gpu
from edged.model.records import ModelPlan
from edged.model.trial.arithmetic import split_buckets
from edged.notation.units import MIB
from edged.plan.memory import model_row_bytes
from edged.plan.records import GpuPlan, MemoryLine

CONTEXT = 400 * MIB
"""What CUDA and its libraries take once, by experience of others: 200 to 500 MiB, outside of every limit."""
WORK = 64 * MIB
"""Assumed for the intermediate results of a model and the workspaces of its kernels."""


def plan_gpu(
    config: Config, gpu: Gpu | None, memory: int, budget: int, models: Mapping[str, ModelPlan], problems: list[Problem]
) -> tuple[GpuPlan | None, dict[str, ModelPlan]]:
    """The table, and the models with their limits: what each needs, and its part of what is left. `memory` and `budget` are the
    machine's own and what was given of it."""
    given = config.memory.gpu_budget
    users = {name: plan for name, plan in models.items() if may_use_gpu(plan)}
    if gpu is None or not users:
        if given is not None:
            why = "no model may use a GPU" if not users else "there is no GPU here that CUDA knows"
            problems.append(Problem("memory.gpu_budget", f"has no effect: {why}", "key", is_warning=True))
        return None, dict(models)
    whole = given if given is not None else gpu.free_bytes // 2
    lines = [MemoryLine("CUDA and its libraries", CONTEXT, "assumed, once")]
    for name, plan in users.items():
        lines += _lines(name, plan)
    table = GpuPlan(gpu.name, tuple(lines), whole, gpu.is_shared)
    problems += [p for p in (_too_much(table, given is not None), _with_the_machine(table, gpu, memory, budget)) if p is not None]
    left = max(0, whole - table.planned_bytes) // len(users)
    limits = {name: sum(line.bytes for line in _lines(name, plan)) + left for name, plan in users.items()}
    return table, {name: replace(plan, gpu_bytes=limits.get(name, 0)) for name, plan in models.items()}


def may_use_gpu(plan: ModelPlan) -> bool:
    return plan.providers == "auto" or bool({"cuda", "tensorrt"} & set(plan.providers))


def _lines(name: str, plan: ModelPlan) -> list[MemoryLine]:
    fitted, _ = fit(plan)
    buckets = split_buckets(fitted.batch_max, fitted.fixed, exact=1) if fitted is not None else [1]
    rows = sum(buckets)
    return [
        MemoryLine(f"model.{name}: weights", plan.manifest.onnx.initializer_bytes, "initializers of the file"),
        MemoryLine(f"model.{name}: activations", WORK, "assumed"),
        MemoryLine(
            f"model.{name}: arrays", rows * model_row_bytes(plan), f"{rows} rows, in batches of {', '.join(map(str, buckets))}"
        ),
    ]


def _too_much(table: GpuPlan, is_set: bool) -> Problem | None:
    if table.planned_bytes <= table.budget:
        return None
    what = "the GPU's budget is" if is_set else f"half of what is free on {table.name} is"
    text = f"the models need {table.planned_bytes / MIB:.0f} MiB of the GPU's memory, {what} {table.budget / MIB:.0f} MiB"
    fix = 'set gpu_budget, or providers = ["cpu"] for some of them'
    return Problem("memory.gpu_budget", f"{text}; {fix}", is_warning=not is_set)


def _with_the_machine(table: GpuPlan, gpu: Gpu, memory: int, budget: int) -> Problem | None:
    if not gpu.is_shared or budget + table.budget <= memory:
        return None
    both = f"budget and gpu_budget are {(budget + table.budget) / MIB:.0f} MiB together"
    text = f"{both}, and {table.name} has {memory / MIB:.0f} MiB for both: the kernel would end processes first"
    return Problem("memory.gpu_budget", text, is_warning=True)
