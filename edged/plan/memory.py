"""The byte table: a line for every consumer of memory, and the sum, before anything starts.

The base is what this process already uses (interpreter and libraries); everything else is arithmetic over the plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edged.errors import Problem
from edged.model.records import ModelPlan
from edged.plan.records import Machine, MemoryLine, PipelinePlan, SourcePlan
from edged.transport.mqtt_settings import LinkSettings

MIB = 1024 * 1024
FIRST_SESSION = 9 * MIB
"""ONNX Runtime's own pages that the first session touches, for a 9 KB model."""
ACTIVATIONS = 2 * MIB
"""Assumed for a model that says nothing about them; measured at load."""
MESSAGE = 600
"""Bytes that a queued message costs beside its body."""
SLACK = 6 * MIB
SERIAL_READ = 64 * 1024
LINK_READ = 256 * 1024
KEY = 400
"""Bytes that a key costs in tables: its names, its ids, its topics."""


def memory_table(
    machine: Machine,
    links: Mapping[str, LinkSettings],
    sources: Mapping[str, SourcePlan],
    models: Mapping[str, ModelPlan],
    pipelines: Mapping[str, PipelinePlan],
) -> tuple[MemoryLine, ...]:
    """Every consumer, in the order in which a person would ask for them."""
    lines = [MemoryLine("interpreter and libraries", machine.base, "this process before it loads anything")]
    if models:
        lines.append(MemoryLine("onnxruntime, first session", FIRST_SESSION, "once"))
    for name, model in models.items():
        weights = model.manifest.onnx.initializer_bytes
        lines.append(MemoryLine(f"model.{name}: weights", weights, "initializers of the file"))
        lines.append(MemoryLine(f"model.{name}: activations", ACTIVATIONS, "assumed; measured at load"))
        bound = _bound(model)
        rows = " + ".join(f"{n}{list(s)}" for n, s in model.rows.items())
        lines.append(MemoryLine(f"model.{name}: bound arrays", bound, f"batch x ({rows})", f"model.{name}.batch"))
    for name, source in sources.items():
        lines.append(
            MemoryLine(f"source.{name}: read and decode", _source(source), _source_text(source), f"source.{name}.max_bytes")
        )
    for name, pipeline in pipelines.items():
        lines += _pipeline(name, pipeline, sources)
    for name, link in links.items():
        held = _held(name, link, sources, pipelines)
        how = f"{link.outbox_bytes // 1024} KiB out, {LINK_READ // 1024} KiB + one packet of {link.max_packet // 1024} KiB in"
        lines.append(
            MemoryLine(
                f"broker.{name}: buffers", link.outbox_bytes + LINK_READ + link.max_packet, how, f"broker.{name}.max_packet"
            )
        )
        if held:
            lines.append(
                MemoryLine(
                    f"broker.{name}: unacknowledged inputs",
                    held,
                    "receive_maximum x largest payload",
                    f"broker.{name}.receive_maximum",
                )
            )
    lines.append(MemoryLine("slack", SLACK, "fragmentation, logs, the interpreter's free lists"))
    return tuple(lines)


def check_budget(lines: Sequence[MemoryLine], budget: int, is_set: bool) -> Problem | None:
    """What does not fit, with the line that is most of it."""
    total = sum(line.bytes for line in lines)
    if total <= budget:
        return None
    largest = max(lines, key=lambda line: line.bytes)
    cure = f": set {largest.key}" if largest.key else ""
    given = "the budget is" if is_set else "a quarter of this machine's memory is"
    return Problem(
        "memory.budget",
        f"the plan needs {total / MIB:.0f} MiB, {given} {budget / MIB:.0f} MiB; largest: {largest.what}, "
        f"{largest.how} = {largest.bytes / MIB:.0f} MiB{cure}",
    )


def _bound(model: ModelPlan) -> int:
    batch = model.batch_max or 16
    by_name = {i.name: i for i in model.manifest.onnx.inputs}
    rows = sum(math.prod(shape) * np.dtype(by_name[n].dtype or "float32").itemsize for n, shape in model.rows.items())
    return batch * (rows + 4096)  # outputs are small beside inputs; 4 KiB a row stands for them


def _source(source: SourcePlan) -> int:
    keys = source.max_keys * KEY
    if source.is_mqtt:
        return keys + 2 * source.settings.max_bytes  # type: ignore[union-attr]
    if source.decode is None:
        return keys + SERIAL_READ
    # A read of 64 KiB as text, as separators found, and as numbers; the frame that is not complete yet.
    return keys + 6 * SERIAL_READ + source.settings.max_bytes  # type: ignore[union-attr]


def _source_text(source: SourcePlan) -> str:
    keys = f"{source.max_keys} keys, " if source.key_names else ""
    if source.is_mqtt:
        return keys + f"2 payloads of {source.settings.max_bytes // 1024} KiB"  # type: ignore[union-attr]
    return keys + "reads of 64 KiB"


def _pipeline(name: str, p: PipelinePlan, sources: Mapping[str, SourcePlan]) -> list[MemoryLine]:
    item = np.dtype(p.dtype).itemsize
    lines = []
    if p.window is not None:
        size = p.max_keys * 2 * p.window.size * p.width * item
        how = f"{p.max_keys} keys x 2 x {p.window.size} x {p.width} {p.dtype}"
        lines.append(MemoryLine(f"pipeline.{name}: windows", size, how, f"source.{p.sources[0]}.max_keys, or window.size"))
    if p.align is not None:
        size = p.max_keys * p.width * item * 4 + MIB
        lines.append(MemoryLine(f"pipeline.{name}: join", size, f"{p.max_keys} keys x {p.width} values, rows that wait"))
    if p.model is not None:
        row = sum(math.prod(i.shape) * np.dtype(i.dtype).itemsize for i in p.inputs if i.is_row)
        shapes = " + ".join(f"{'x'.join(map(str, i.shape)) or '1'} {i.dtype}" for i in p.inputs if i.is_row)
        key = f"pipeline.{name}.slots" if not p.keys else f"source.{p.sources[0]}.max_keys, or slots"
        lines.append(MemoryLine(f"pipeline.{name}: slots", p.slots * (row + 200), f"{p.slots} x {shapes}", key))
    kept = p.max_keys * p.output.size * 8 * (p.output.smooth + 1) + p.max_keys * MESSAGE * sum(
        x.settings.when.min_interval is not None for x in p.publishes
    )
    lines.append(MemoryLine(f"pipeline.{name}: state of its keys", kept, f"{p.max_keys} keys"))
    return lines


def _held(name: str, link: LinkSettings, sources: Mapping[str, SourcePlan], pipelines: Mapping[str, PipelinePlan]) -> int:
    """Payloads that pipelines with `overflow = "block"` may hold back unacknowledged."""
    largest = max(
        (
            sources[s].settings.max_bytes  # type: ignore[union-attr]
            for p in pipelines.values()
            if p.overflow == "block"
            for s in p.sources
            if sources[s].broker == name
        ),
        default=0,
    )
    return link.receive_maximum * (largest + MESSAGE) if largest else 0
