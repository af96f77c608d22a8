"""Wires gates: who tells them what their stream says, whose samples they wait for, and who waits for them.

All of it is anew with every plan. A gate belongs to its pipeline, and to the one that goes on with it after a reload; pipelines
of an earlier plan that still run out what they had are told, and waited for, like those of the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from edged.pipeline.gate import Gate, set_apart
from edged.pipeline.pipeline import Pipeline
from edged.plan.records import Plan
from edged.records import Block
from edged.results.encode import Envelope, envelope_fields

Takers = list[Callable[[Block], None]]


def wire_gates(
    plan: Plan,
    pipelines: Mapping[str, Pipeline],
    leaving: Sequence[Pipeline],
    consumers: Mapping[str, Takers],
    envelopes: Mapping[str, Envelope],
) -> None:
    """`consumers` has what takes the blocks of each source, `Pipeline.followers` what takes those of a pipeline: gates are put
    before and behind them."""
    everybody = [*pipelines.values(), *leaving]
    for one in everybody:
        one.tellers, one.judges = [], []
    gates: dict[int, tuple[Gate, list[Pipeline]]] = {}
    for one in everybody:
        if one.gate is not None:
            gates.setdefault(id(one.gate), (one.gate, []))[1].append(one)

    def named(names: Iterable[str]) -> list[Pipeline]:
        return [one for name in names for one in everybody if one.name == name]

    def takers(stream: str) -> Takers:
        return consumers[stream] if stream in consumers else pipelines[stream].followers if stream in pipelines else []

    apart: set[str] = set()
    for gate, users in gates.values():
        of = gate.plan
        leads = named(of.leads)
        gate.leads, gate.way = leads, [*named(of.way), *users]
        gate.end()
        for lead in leads:
            lead.judges += [user.judge for user in users]
        for one in named([of.source]):
            one.tellers.append(gate.tell)
        if of.condition.names_envelope and of.source in envelopes:
            gate.envelope = envelope_fields(envelopes[of.source])
        if of.column is not None:
            takers(of.source).insert(0, gate.see)
        if of.fork is not None:
            takers(of.fork).insert(0, gate.begin)
            takers(of.fork).append(partial(_end, gate, users))
            if of.fork in plan.pipelines or of.fork in plan.sources:
                apart.add(_root(plan, of.fork))
        elif of.source in plan.pipelines:
            for root in plan.pipelines[of.source].roots:
                takers(root).insert(0, gate.forget_restarted)
    for root in apart:
        takers(root).insert(0, _set_apart)


def _root(plan: Plan, stream: str) -> str:
    """The source that sets the pace of a stream."""
    while (p := plan.pipelines.get(stream)) is not None:
        stream = p.sources[p.align.to or 0 if p.align is not None else 0]
    return stream


def _end(gate: Gate, users: Sequence[Pipeline], block: Block) -> None:
    gate.end()
    for user in users:
        user.judge()


def _set_apart(block: Block) -> None:
    block.time = set_apart(block.keys, block.time)
