"""Wires gates: who tells them what their stream says, whose samples they wait for, and who waits for them.

All of it is again with every plan. A gate belongs to its pipeline, and to the one that goes on with it after a reload; pipelines
of an earlier plan that still run out what they had are told, and waited for, like those of the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from edged.pipeline.gate import Gate, set_apart
from edged.pipeline.pipeline import Pipeline
from edged.plan.records import Plan
from edged.records import Block
from edged.results.encode import Envelope, envelope_fields

Takers = list[Callable[[Block], None]]


class Told(NamedTuple):
    """By the `id` of a pipeline: the gates that judge by its results, and the `judge` of those that wait for what it makes of its
    samples."""

    tellers: dict[int, list[Callable[..., Any]]]
    judges: dict[int, list[Callable[[], Any]]]


def wire_gates(
    plan: Plan,
    pipelines: Mapping[str, Pipeline],
    leaving: Sequence[Pipeline],
    takers: Mapping[str, Takers],
    envelopes: Mapping[str, Envelope],
) -> Told:
    """`takers` has what takes the blocks of each stream of the plan: gates are put before and behind them."""
    everybody = [*pipelines.values(), *leaving]
    told = Told({}, {})
    gates: dict[int, tuple[Gate, list[Pipeline]]] = {}
    for one in everybody:
        if one.gate is not None:
            gates.setdefault(id(one.gate), (one.gate, []))[1].append(one)

    def named(names: Iterable[str]) -> list[Pipeline]:
        return [one for name in names for one in everybody if one.name == name]

    apart: set[str] = set()
    for gate, users in gates.values():
        of = gate.plan
        leads = named(of.leads)
        fields = envelope_fields(envelopes[of.source]) if of.condition.names_envelope and of.source in envelopes else None
        gate.connect(leads, [*named(of.way), *users], fields)
        for lead in leads:
            told.judges.setdefault(id(lead), []).extend(user.judge for user in users)
        for one in named([of.source]):
            told.tellers.setdefault(id(one), []).append(gate.tell)
        if of.column is not None and of.source in takers:
            takers[of.source].insert(0, gate.see)
        if of.fork is not None and of.fork in takers:
            takers[of.fork].insert(0, gate.begin)
            takers[of.fork].append(partial(_end, gate, users))
            apart.add(_root(plan, of.fork))
        elif of.fork is None and of.source in plan.pipelines:
            for root in plan.pipelines[of.source].roots:
                takers[root].insert(0, gate.forget_restarted)
    for root in apart:
        takers[root].insert(0, _set_apart)
    return told


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
    block.stamps = set_apart(block.keys, block.time)
