"""What differs between two plans, unit by unit. Pure: a unit whose plan is equal is not touched by a reload.

link      keys of a broker: another address or password is another connection; its subscriptions change on the live one
port      all keys of a port that several sources share
source    all keys of a source
model     the file by its hash, and how it is loaded
pipeline  a list of units of its own (`Unit`), each with the state that goes with it
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.behaviours.plan import BehaviourPlan
from edged.model.records import ModelPlan
from edged.model.remote.records import RemotePlan
from edged.mqtt.settings import LinkSettings
from edged.plan.records import PipelinePlan, Plan, PortPlan, SourcePlan

WINDOW, ROWS, HEAD = "window", "rows", "output"
"""The units of a pipeline, besides its publishes: what gathers samples, what waits for the model, what becomes of outputs."""


class Change(msgspec.Struct, frozen=True):
    """Names as in the file (`pipeline.q`); `changed` says of each what of it (`pipeline.q: output, publish[0]`).

    `at_start` are keys that cannot change while the daemon runs: they apply at its next start.
    """

    kept: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    at_start: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.removed)


def with_kept(old: Plan, new: Plan) -> Plan:
    """The new plan with those of the old one's plans that are equal, so that whoever compares them later is done at once."""
    sources = {n: old.sources[n] if n in old.sources and old.sources[n] == p else p for n, p in new.sources.items()}
    pipelines = {n: old.pipelines[n] if n in old.pipelines and old.pipelines[n] == p else p for n, p in new.pipelines.items()}
    return replace(new, sources=sources, pipelines=pipelines)


def is_same_window(a: PipelinePlan, b: PipelinePlan) -> bool:
    """Whether what gathers samples, and the samples in it, can stay."""
    return _window(a) == _window(b)


def is_same_rows(a: PipelinePlan, b: PipelinePlan) -> bool:
    """Whether what waits for a run can wait for one of the other plan."""
    return is_same_window(a, b) and _rows(a) == _rows(b)


def is_same_head(a: PipelinePlan, b: PipelinePlan) -> bool:
    """Whether what an output type remembers of each key can stay."""
    return _head(a) == _head(b)


def is_same_publish(a: PipelinePlan, b: PipelinePlan, i: int) -> bool:
    """Whether the `i`-th entry of `publish` can stay, with what it holds back."""
    return i < len(a.publishes) and (a.publishes[i], *_head(a), a.deadline_ns) == (b.publishes[i], *_head(b), b.deadline_ns)


LATER = (", is_text=False",)
"""What came to records of a plan later, as it is where a configuration does not say it: no part of a mark, so that a new version
takes what an older one saved. `tests/plan/test_change.py` holds the mark of an older version."""


def window_mark(p: PipelinePlan) -> str:
    """A text that two plans share only if the samples in their windows are alike."""
    return _mark(_window(p))


def state_mark(p: PipelinePlan, models: Mapping[str, ModelPlan]) -> str:
    """A text that two plans share only if what their models remember means the same; empty if they remember nothing."""
    if not p.states or p.model is None:
        return ""
    own = (p.states, p.steps, p.inputs, models[p.model].manifest.sha256)
    return _mark(own)


def _mark(parts: tuple[Any, ...]) -> str:
    text = repr(parts)
    for one in LATER:
        text = text.replace(one, "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _window(p: PipelinePlan) -> tuple[Any, ...]:
    return (p.sources, p.roots, p.align, p.window, p.fields, p.dtype, p.view, *_keys(p))


def _rows(p: PipelinePlan) -> tuple[Any, ...]:
    return (p.steps, p.model is None, p.slot_inputs, p.states, p.state_gap_ns, p.slots, p.overflow)


def _head(p: PipelinePlan) -> tuple[Any, ...]:
    return (p.output, p.postprocess, p.dtype, *_keys(p))


def _keys(p: PipelinePlan) -> tuple[Any, ...]:
    return (p.keys, p.max_keys, p.key_group)


def compare(old: Plan, new: Plan) -> Change:
    """What a reload from `old` to `new` keeps, adds, changes and removes."""
    found: dict[str, list[str]] = {"kept": [], "added": [], "changed": [], "removed": []}
    kinds: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any], Any], ...] = (
        ("broker", old.links, new.links, _link_parts),
        ("port", old.ports, new.ports, _port_parts),
        ("source", old.sources, new.sources, _source_parts),
        ("model", old.models, new.models, _model_parts),
        ("model", old.remotes, new.remotes, _remote_parts),
        ("pipeline", old.pipelines, new.pipelines, _pipeline_parts),
        ("behaviour", old.behaviours, new.behaviours, _behaviour_parts),
    )
    for kind, before, after, parts_of in kinds:
        for name, plan in after.items():
            if name not in before:
                found["added"].append(f"{kind}.{name}")
            elif parts := parts_of(before[name], plan):
                found["changed"].append(f"{kind}.{name}: {', '.join(parts)}")
            else:
                found["kept"].append(f"{kind}.{name}")
        found["removed"] += [f"{kind}.{name}" for name in before if name not in after]
    found["changed"] += _singles(old, new)
    return Change(*(tuple(found[key]) for key in ("kept", "added", "changed", "removed")))


def _link_parts(a: LinkSettings, b: LinkSettings) -> list[str]:
    if not a.is_same_connection(b):
        return ["connects again"]
    parts = {"subscriptions": (a.subscriptions, b.subscriptions), "outbox": (a.outbox_bytes, b.outbox_bytes)}
    return [part for part, (x, y) in parts.items() if x != y]


def _port_parts(a: PortPlan, b: PortPlan) -> list[str]:
    """Its sources are named by themselves."""
    return [] if a.settings == b.settings else ["settings"]


def _source_parts(a: SourcePlan, b: SourcePlan) -> list[str]:
    return [] if a == b else ["settings"]


def _model_parts(a: ModelPlan, b: ModelPlan) -> list[str]:
    if a.identity != b.identity:
        return ["file or settings"]
    return [] if a.delay_ns == b.delay_ns else ["delay"]


def _remote_parts(a: RemotePlan, b: RemotePlan) -> list[str]:
    """A request that is under way ends as it began."""
    return [] if a == b else ["settings"]


def _pipeline_parts(a: PipelinePlan, b: PipelinePlan) -> list[str]:
    if a == b:
        return []
    parts = []
    if not is_same_window(a, b):
        parts.append(WINDOW)
    if not is_same_rows(a, b) and _rows(a) != _rows(b):
        parts.append(ROWS)
    if a.model != b.model:
        parts.append("model")
    if not is_same_head(a, b):
        parts.append(HEAD)
    parts += [part for part, (x, y) in _alone(a, b).items() if x != y]
    parts += [
        f"publish[{i}]"
        for i in range(max(len(a.publishes), len(b.publishes)))
        if i >= len(a.publishes) or i >= len(b.publishes) or a.publishes[i] != b.publishes[i]
    ]
    return parts or ["settings"]


def _alone(a: PipelinePlan, b: PipelinePlan) -> dict[str, tuple[Any, Any]]:
    """Units of one value."""
    return {
        "gate": (a.gate, b.gate),
        "names of keys": (a.about, b.about),
        "priority": (a.priority, b.priority),
        "deadline": (a.deadline_ns, b.deadline_ns),
        "samples": (a.samples, b.samples),
    }


def _behaviour_parts(a: BehaviourPlan, b: BehaviourPlan) -> list[str]:
    """Its file counts by what of it the behaviour uses."""
    if a == b:
        return []
    return ["code"] if a.digest != b.digest else ["settings"]


def _singles(old: Plan, new: Plan) -> list[str]:
    keys = {
        "device.workers": (old.workers, new.workers),
        "memory.budget": (old.budget, new.budget),
        "memory.gpu_budget": (old.gpu and old.gpu.budget, new.gpu and new.gpu.budget),
        "health.interval": (old.health_interval_ns, new.health_interval_ns),
        "health.broker": (old.health_brokers, new.health_brokers),
        "spool": (old.spool, new.spool),
        "homeassistant": (old.homeassistant, new.homeassistant),
        **{f"source.{n}.keys": (old.key_tables.get(n), table) for n, table in new.key_tables.items()},
    }
    return [key for key, (a, b) in keys.items() if a != b]
