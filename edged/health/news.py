"""What changed since the last look: in the log, and as events. Each piece of news is told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from edged.health.good import GOOD
from edged.health.running import Running
from edged.health.status import State

QUIET_AT_START = ("connecting", "waiting", "silent", "idle", "filling")
"""States that every part goes through at a start: no news then."""
EXPLAIN_EVERY_NS = 10 * 10**9
UNHEARD_NS = 30 * 10**9
"""A source that is silent from the start is no news; after so long it is told, once."""

log: Any = structlog.get_logger("edged")


class News:
    """`event(kind, **facts)` publishes."""

    def __init__(self, running: Running, event: Callable[..., None], now: int) -> None:
        self._running = running
        self._event = event
        self._states: dict[tuple[str, str], str] = {}
        self._unheard: dict[str, int] = {}
        self._connects: dict[str, int] = {}
        self._next_explanation = now + EXPLAIN_EVERY_NS

    def adopt(self, running: Running) -> list[tuple[str, str]]:
        """Looks at other parts from now on; returns kind and name of those that are gone."""
        self._running = running
        gone = [(kind, name) for kind, name in self._states if name not in getattr(running, f"{kind}s", {name})]
        for part in gone:
            del self._states[part]
        self._unheard = {name: since for name, since in self._unheard.items() if name in running.sources}
        return gone

    def look(self, found: list[State], now: int) -> None:
        """Compares with the look before. Links log their own changes."""
        for kind, name, state, reason in found:
            before = self._states.get((kind, name))
            if kind == "source":
                self._tell_unheard(name, state, reason, now)
            if before == state:
                continue
            self._states[kind, name] = state
            if before is None and state in QUIET_AT_START:
                continue
            if kind != "broker":
                facts = {kind: name, "state": state, "before": before, "reason": reason}
                (log.info if state in GOOD else log.warning)("state", **{k: v for k, v in facts.items() if v})
            self._event("state", part=kind, name=name, state=state, before=before, reason=reason)
        self._explain_joins(now)

    def has_connected(self) -> bool:
        """Whether a broker was connected to since this was asked before: whoever asks it shall not find old health."""
        connects = {name: link.counts.connects for name, link in self._running.links.items()}
        before, self._connects = self._connects, connects
        return any(count != before.get(name, 0) for name, count in connects.items())

    def _tell_unheard(self, name: str, state: str, reason: str, now: int) -> None:
        """Why nothing has ever come from a source, once, when it has been silent for a while: its state may never change."""
        if state != "silent" or self._running.sources[name].counts.last_arrival:
            self._unheard.pop(name, None)
        elif (since := self._unheard.setdefault(name, now)) >= 0 and now - since >= UNHEARD_NS:
            self._unheard[name] = -1
            log.warning("unheard", source=name, reason=reason)
            self._event("unheard", source=name, reason=reason)

    def _explain_joins(self, now: int) -> None:
        """Why rows of several sources do not come together, if they do not; said at most every 10 s."""
        if now < self._next_explanation:
            return
        self._next_explanation = now + EXPLAIN_EVERY_NS
        for name, pipeline in self._running.pipelines.items():
            for text in pipeline.aligner.diagnose() if pipeline.aligner is not None else ():
                log.warning("join", pipeline=name, reason=text)
                self._event("join", pipeline=name, reason=text)
