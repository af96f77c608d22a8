"""The state of every part, with a reason where it is not well. "Running" without data is not healthy.

source    its own states (connecting, missing, busy, unplugged, silent, running, finished, ...); for MQTT also waiting:
          its broker is away; bad values: something comes and no good sample; frozen: always the same values;
          no_match: for a minute all that came was other than what is meant
port      one that several sources share: as a source
model     idle; hanging: a run takes many times as long as any before; failing; building: what it must run on is not there yet
pipeline  filling: no result yet; running: results come as often as they should; stalled: they do not;
          waiting: a source is not well; storing: results go to disk; blocked: rows or results cannot go on;
          refused: its broker takes none; failing: its model fails, or every row is dropped; shedding: memory is over the
          budget; closed: its gate is; paused: somebody said so (edged pause)
broker    connecting, connected, degraded, lost, refused, unreachable, ...
behaviour idle: no row of any key yet; running; failing: an instance failed and waits to be run again; ended: it blocked the loop
          too often, or ended the process; finished: it returned
spool     idle, storing, replaying, failing: the disk takes nothing
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from edged.config.schema import AskSource
from edged.health.good import GOOD
from edged.health.running import Reader, Running
from edged.model.runner import Model
from edged.notation.units import KIB
from edged.plan.records import PipelinePlan
from edged.sources.mqtt import MqttSource
from edged.telemetry import Drops

UP = ("connected", "degraded")
"""States of a broker in which messages go through."""
MIN_SILENCE_S = 2.0
"""No sensor and no pipeline is called silent sooner than this."""
PERIODS = 3
CLOSED_NS = 10 * 10**9
"""A gate that lets nothing through for this long is called closed: one that opens and closes all the time is not news."""
SILENCING = ("failing", "stalled", "shedding")
"""States of a pipeline in which the next ones of a chain get no samples from it."""
WHILE_AWAY = ("shutdown", "spool_full")
"""What an outage costs results says nothing of those to come."""
HELD = "TensorRT is required, and edged builds its engine; no results until then"
LONGEST_RUNS = 3
"""A run that takes so many times the longest one before hangs."""


class State(NamedTuple):
    kind: str
    name: str
    state: str
    reason: str


class Look:
    """The running parts at one time (`now`, monotonic ns). What several ask of a part is found once: there may be hundreds, and
    what one is depends on others."""

    def __init__(self, running: Running, now: int) -> None:
        self.running = running
        self.now = now
        self._sources: dict[str, tuple[str, str]] = {}
        self._pipelines: dict[str, tuple[str, str]] = {}

    def source(self, name: str) -> tuple[str, str]:
        """State and reason."""
        found = self._sources.get(name)
        if found is None:
            found = self._sources[name] = _source_state(self, name)
        return found

    def pipeline(self, name: str) -> tuple[str, str]:
        """State and reason."""
        found = self._pipelines.get(name)
        if found is None:
            found = self._pipelines[name] = _pipeline_state(self, name)
        return found

    @cached_property
    def held_back(self) -> frozenset[str]:
        """The sources that a pipeline that is full keeps from speaking: that is no silence of their own."""
        a = self.running
        return frozenset(s for n, pipeline in a.pipelines.items() if pipeline.parked for s in a.plan.pipelines[n].roots)

    @cached_property
    def states(self) -> tuple[State, ...]:
        """Of every source, port, model, pipeline, broker and behaviour, and of the spool."""
        return tuple(_states(self))


def unwell(a: Running, now: int) -> dict[str, str]:
    """The parts that are not well, and why; one that is only about to give its first result is."""
    parts = (s for s in states(a, now) if s.state not in GOOD and s.state != "filling")
    return {f"{s.kind}.{s.name}": f"{s.state}{f': {s.reason}' if s.reason else ''}" for s in parts}


def states(a: Running, now: int) -> tuple[State, ...]:
    """The state of every part at `now` (monotonic ns)."""
    return Look(a, now).states


def _states(look: Look) -> Iterator[State]:
    a, now = look.running, look.now
    for name in a.sources:
        yield State("source", name, *look.source(name))
    for name, port in a.ports.items():
        yield State("port", name, *_port_state(port))
    for name, model in a.models.items():
        yield State("model", name, *_model_state(model, now))
    for name, remote in a.remotes.items():
        yield State("model", name, *remote.state)
    for name in a.pipelines:
        yield State("pipeline", name, *look.pipeline(name))
    for name, link in a.links.items():
        yield State("broker", name, link.state, link.reason)
    for name, actor in a.behaviours.items():
        yield State("behaviour", name, *actor.state())
    if a.spool is not None:
        yield State("spool", "spool", *a.spool.state)


def _model_state(model: Model, now: int) -> tuple[str, str]:
    if model.state == "failing":
        return "failing", model.reason
    if model.loaded.report.is_held:
        return "building", HELD
    hang = _hang(model, now)
    return ("hanging", hang) if hang else ("idle", "")


def _hang(model: Model, now: int) -> str:
    """What is to be said of a run that does not end; nothing while it may be an ordinary one."""
    if model.running is None:
        return ""
    longest_s = max(model.counts.time.maximum / 1e9, model.loaded.report.max_us / 1e6)
    taken_s = (now - model.running_since) / 1e9
    if taken_s <= max(MIN_SILENCE_S, LONGEST_RUNS * longest_s):
        return ""
    return f"a run began {taken_s:.0f} s ago; the longest run before it took {longest_s:.2g} s"


def _source_state(look: Look, name: str) -> tuple[str, str]:
    a, now = look.running, look.now
    source = a.sources[name]
    state, reason = _mqtt_state(look, source) if isinstance(source, MqttSource) else (source.state, source.reason)
    if state == "running" and (other := source.counts.others.complaint(a.plan.sources[name].settings.where or {})):
        return "no_match", other
    if state != "running" or name not in a.freshness or name in look.held_back:
        return state, reason
    return a.freshness[name].state(now, source.counts.last_arrival, source.counts.opened)


def _port_state(port: Reader) -> tuple[str, str]:
    if port.state == "running" and (other := port.counts.others.complaint({})):
        return "no_match", other
    return port.state, port.reason


def _mqtt_state(look: Look, source: MqttSource) -> tuple[str, str]:
    a, now = look.running, look.now
    plan, counts = a.plan.sources[source.name], source.counts
    link = a.links[plan.broker or ""]
    if link.state not in UP:
        return "waiting", f"broker {plan.broker} is {link.state}"
    if not counts.last_arrival:
        topics = ", ".join(topic.mqtt for _, topic in plan.filters)
        text = f"no message yet on {topics}: check that somebody publishes there, and that the broker lets edged read it."
        if plan.decode is not None and plan.decode.is_slow:
            text += f" A broker silently drops messages larger than max_bytes ({plan.decode.max_bytes // KIB} KiB)"
        return "silent", text
    if counts.rejected > counts.drops.by_reason.get("other", 0) and not counts.rows:
        return "bad values", "data comes in, but no good sample yet: see its drop counts"
    if plan.stale_ns is None and (lost := _lost(counts.drops, now)):
        return "bad values", lost
    quiet = now - counts.last_arrival
    if plan.stale_ns is not None and quiet > plan.stale_ns and source.name not in look.held_back:
        return "silent", f"nothing has come in for {quiet / 1e9:.0f} s"
    return "running", ""


def _slower(p: PipelinePlan) -> str:
    return f"model {p.model}" if p.model is not None else f"gate {p.gate.source}" if p.gate is not None else "its broker"


def _lost(drops: Drops, now: int) -> str:
    """Why nothing comes of what comes in, if it is so."""
    losses = drops.losses
    return losses.verdict(now / 1e9) if losses is not None else ""


def _withheld(look: Look, stream: str) -> str:
    """Why a pipeline whose results are samples here gives none; empty if it does, or is none."""
    if stream not in look.running.pipelines:
        return ""
    state, reason = look.pipeline(stream)
    return f"pipeline {stream} is {state}: {reason}" if state in SILENCING else ""


def _outlet_state(a: Running, p: PipelinePlan, now: int) -> tuple[str, str]:
    """Whether results can leave."""
    for publish, counts in zip(p.publishes, a.publishes[p.name], strict=True):
        link = a.links[publish.broker]
        if link.state not in UP:
            if publish.settings.qos and a.spool is not None and a.spool.state[0] != "failing":
                return "storing", f"output {publish.broker} is {link.state}: results go to disk"
            return "blocked", f"output {publish.broker} is {link.state}"
        if counts.refusal:
            return "refused", f"broker {publish.broker} refuses results on {counts.refusal}"
        if (losses := counts.drops.losses) is not None and losses.reason not in WHILE_AWAY and (why := losses.verdict(now / 1e9)):
            return "failing", f"results do not reach broker {publish.broker}: {why}"
    return "running", ""


def _pipeline_state(look: Look, name: str) -> tuple[str, str]:
    a, now = look.running, look.now
    p, pipeline = a.plan.pipelines[name], a.pipelines[name]
    if pipeline.paused:
        return "paused", f"{pipeline.paused}; {pipeline.counts.left_out} samples were left out so far"
    if pipeline.is_shed:
        return "shedding", "memory is over the budget"
    if p.model is not None and (hang := _hang(a.models[p.model], now)):
        return "stalled", f"model {p.model} hangs: {hang}"
    if p.model is not None and a.models[p.model].loaded.report.is_held:
        return "waiting", f"model {p.model} is building: {HELD}"
    if pipeline.parked and p.overflow == "block":
        full = next((f"pipeline {follower.name} accepts no more rows" for follower in pipeline.after if follower.is_full), "")
        return "blocked", f"{pipeline.parked} blocks wait for a free slot: {full or f'{_slower(p)} is slower than its sources'}"
    for s in p.roots:
        state, reason = look.source(s)
        if state not in GOOD:
            return "waiting", f"source {s} is {state}" + (f": {reason}" if reason else "")
    for s in p.sources:
        if s in a.pipelines and a.pipelines[s].paused:
            return "paused", f"pipeline {s}, which it reads, is paused"
        if why := _withheld(look, s):
            return "waiting", why
    outlet = _outlet_state(a, p, now)
    if outlet[0] not in GOOD:
        return outlet
    if p.ask is not None and p.model is None and (said := a.remotes[p.ask.remote].state)[0] not in GOOD:
        return "failing", f"model {p.ask.remote} is {said[0]}: {said[1]}"
    if p.model is not None and a.models[p.model].state == "failing":
        return "failing", a.models[p.model].reason
    if lost := _lost(pipeline.counts.drops, now):
        return "failing", lost
    if outlet[0] != "running":
        return outlet
    last_result, last_gated = pipeline.counts.last_result, pipeline.counts.last_gated
    if pipeline.gate is not None and last_gated > last_result and (not last_result or now - last_result > CLOSED_NS):
        if why := _withheld(look, pipeline.gate.plan.source):
            return "waiting", f"its gate is closed: {why}"
        return "closed", f"gate {pipeline.gate.plan.source}: {pipeline.gate.why}"
    if not last_result and all(isinstance(a.plan.sources[s].settings, AskSource) for s in p.roots):
        return "idle", ""
    if not last_result and not last_gated:
        filled = (
            f": {pipeline.window.filled(0)} of {p.window.size} samples" if pipeline.window and p.window and not p.keys else ""
        )
        return "filling", f"no result yet{filled}"
    quiet_s = (now - max(last_result, last_gated)) / 1e9
    expected_s = 1 / p.rate if p.rate else None
    is_ended = any(a.sources[s].counts.opens and look.source(s)[0] == "finished" for s in p.roots)
    if expected_s and not is_ended and quiet_s > max(MIN_SILENCE_S, PERIODS * expected_s):
        return "stalled", f"no result for {quiet_s:.0f} s, one is due every {expected_s:.2g} s"
    return "running", ""
