"""Who feeds whom: sources, pipelines, models and topics of a plan, with its chains and gates, as a tree of text and as edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from edged.notation.words import duration
from edged.pipeline.gate import GatePlan
from edged.plan.records import PipelinePlan, Plan
from edged.results.when import Condition


class Edge(NamedTuple):
    """`kind`: `samples` (of a source, or results of a pipeline), `gate`, `model`, `publish`, and of behaviours
    `ask` and `write`."""

    begin: str
    end: str
    kind: str
    note: str = ""


def graph_text(plan: Plan) -> list[str]:
    """A line for each source and each pipeline; a pipeline stands below the stream that sets its pace."""
    lines: list[str] = []
    for source in plan.sources:
        lines += [f"source.{source}", *_below(plan, source, 1)]
    return lines


def graph_json(plan: Plan) -> dict[str, Any]:
    """The same as nodes and edges."""
    edges = [*edges_of(plan)]
    nodes = dict.fromkeys([*(f"source.{n}" for n in plan.sources), *(end for edge in edges for end in (edge.begin, edge.end))])
    return {
        "nodes": [*nodes],
        "edges": [
            {"from": e.begin, "to": e.end, "kind": e.kind, **({"while": e.note} if e.kind == "gate" else {})} for e in edges
        ],
    }


def edges_of(plan: Plan) -> Iterator[Edge]:
    """Every edge, in the order of the file."""
    for name, p in plan.pipelines.items():
        me = f"pipeline.{name}"
        for stream in p.sources:
            yield Edge(_full(plan, stream), me, "samples")
        if p.gate is not None:
            yield Edge(_full(plan, p.gate.source), me, "gate", gate_said(p.gate))
        if p.model is not None:
            yield Edge(me, f"model.{p.model}", "model")
        for x in p.publishes:
            yield Edge(me, f"{x.broker}: {x.topic.text}", "publish")
    for name, b in plan.behaviours.items():
        me = f"behaviour.{name}"
        for heard in b.hears:
            yield Edge(_full(plan, heard.stream), me, "samples")
        for asked in b.ask:
            yield Edge(me, f"pipeline.{asked}", "ask")
        for written in b.write:
            yield Edge(me, f"port.{written}" if written in plan.ports else f"source.{written}", "write")
        for topic in b.publish:
            yield Edge(me, f"{b.broker}: {topic.text}", "publish")


def gate_said(gate: GatePlan) -> str:
    """When it is open: `score above 0.8, and 5s longer`."""
    parts = [
        *([said] if (said := condition_said(gate.condition)) else []),
        *([f"{'.'.join(gate.change_of)} is another than before"] if gate.change_of is not None else []),
    ]
    return " and ".join(parts) + (f", and {duration(gate.hold_ns)} longer" if gate.hold_ns else "")


def condition_said(c: Condition) -> str:
    """`score above 0.3 and score below 0.6`."""
    parts = [
        *([f"{'.'.join(c.of or ())} above {c.above:g}"] if c.above is not None else []),
        *([f"{'.'.join(c.of or ())} below {c.below:g}"] if c.below is not None else []),
        *([f"{'.'.join(c.label_of)} is {' or '.join(sorted(c.labels))}"] if c.labels else []),
        *([".".join(c.is_true)] if c.is_true is not None else []),
    ]
    return " and ".join(parts)


def _below(plan: Plan, stream: str, depth: int) -> Iterator[str]:
    for name, p in plan.pipelines.items():
        if _pace(p) == stream:
            yield f"{'  ' * depth}--> {_line(plan, name, p)}"
            yield from _below(plan, name, depth + 2)
    for name, b in plan.behaviours.items():
        if any(heard.stream == stream for heard in b.hears):
            yield f"{'  ' * depth}--> behaviour.{name}"


def _line(plan: Plan, name: str, p: PipelinePlan) -> str:
    others = "".join(f" + {_full(plan, s)}" for s in p.sources if s != _pace(p))
    gate = f", only while {_full(plan, p.gate.source)} says {gate_said(p.gate)}" if p.gate is not None else ""
    model = f" --> model.{p.model}" if p.model is not None else ""
    topics = "".join(f"{' --> ' if not i else ', '}{x.broker}: {x.topic.text}" for i, x in enumerate(p.publishes))
    return f"pipeline.{name}{others}{gate}{model}{topics}"


def _pace(p: PipelinePlan) -> str:
    return p.sources[(p.align.to or 0) if p.align is not None else 0]


def _full(plan: Plan, stream: str) -> str:
    return f"{'pipeline' if stream in plan.pipelines else 'source'}.{stream}"
