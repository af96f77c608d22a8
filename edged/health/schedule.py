"""When edged says something of itself, and to whom: the topics health, model and event, the line in `systemctl status`, the log.

    tick, a few times a second -> once a second: states, availability, memory
                               -> at the interval, and after each connect: the snapshot, retained

What is said is made elsewhere: `status.py` (the state of each part), `snapshot.py` (the counters), `news.py` (what changed),
`configured.py` (the file), `loop_times.py` (the event loop). `topics.py` publishes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from edged import __version__
from edged.clock.clock import Clock
from edged.health.availability import Availability
from edged.health.configured import Configured, Fallback
from edged.health.details import details
from edged.health.good import GOOD
from edged.health.graph import graph
from edged.health.homeassistant.announcer import Announcer
from edged.health.loop_times import LoopTimes
from edged.health.news import News
from edged.health.running import Memory, Running
from edged.health.snapshot import Rates, gpu, models, parts
from edged.health.status import Look, states
from edged.health.topics import Topics
from edged.model.gpu.gpu import used_bytes
from edged.notation.units import MIB
from edged.plan.change import Change
from edged.results.encode import rfc3339

if TYPE_CHECKING:
    from edged.health.http.metrics import Seen

ENGINE_EVERY_NS = 5 * 10**9
"""How often it is said how far an engine is."""
SLICE_NS = 3 * 10**6
"""So long the loop is kept at a time by health that is being made: that of hundreds of parts takes 30 ms and more."""
BUSY_ROWS = 25
"""Rows read between two ticks, from which on much comes in."""

log: Any = structlog.get_logger("edged")


class Due:
    """When it is time, in monotonic ns; 0: at the next tick, but for `engine`, where it is: when one is being built."""

    def __init__(self) -> None:
        self.look = 0
        self.health = 0
        self.engine = 0
        self.telling: Iterator[None] | None = None
        """Health that is being made; exhausted once it is published."""


class Health:
    """`tick` is called a few times a second; it looks at states once a second and publishes at the configured interval.

    `memory` looks after this process's memory. Where it `is_busy` a closer look at the loop costs little. `building`
    says for how long engines have been built for models, in seconds.
    """

    def __init__(
        self,
        running: Running,
        memory: Memory,
        clock: Clock,
        config_hash: str,
        ended_in: Sequence[str] = (),
        fallback: Fallback | None = None,
    ) -> None:
        """`ended_in`: the stages in which the run before ended, if it had no time to say so."""
        self.loop = LoopTimes()
        self.building: Callable[[], Mapping[str, float]] = dict
        self._rows_read = (0, 0)
        """At the tick before, and at the last one."""
        self._running = running
        self._memory = memory
        self._clock = clock
        self._started = clock.now()
        self._due = Due()
        self._configured = Configured(config_hash, fallback)
        self._ended_in = ended_in
        self._rates = Rates()
        self._topics = Topics(running, clock)
        self._news = News(running, self._topics.event, self._started)
        self._availability = Availability(running)
        self.homeassistant = Announcer(running)

    def adopt(self, running: Running, config_hash: str) -> None:
        """Speaks of other parts from now on. Retained topics of what is gone are removed."""
        before, self._running = self._running, running
        self._configured.digest = config_hash
        if running is before:
            return
        if self._due.telling is not None:  # of what is gone
            self._due.telling, self._due.health = None, 0
        self._topics.adopt(running)
        for name in before.models.keys() - running.models.keys():
            self._topics.remove(f"model/{name}")
        for kind, name in self._news.adopt(running):
            self._rates.forget(kind, name)
        self._availability.adopt(running)
        self.homeassistant.adopt(running)

    # What others report

    def say_engine(self, name: str, ok: bool, **facts: Any) -> None:
        """News of an engine that is built for a model: in the log, as an event, and in the model's topic."""
        (log.info if ok else log.error)("engine", model=name, **facts)
        self._topics.event("engine", model=name, ok=ok, **facts)
        self._due.engine = 1

    def say_guard(self, name: str, why: str) -> None:
        """A model went back to the version before, or its new one has kept to what was asked."""
        self._topics.event("guard", model=name, ok=not why, **({"reason": why} if why else {}))
        self._due.health = 0

    def say_reload(self, errors: Sequence[str], change: Change | None, why: str, of_file: bool = True) -> None:
        """What became of a reload: in the log, as an event, and in health until the next one. `of_file` False: of models only,
        so that what is wrong with the file still is."""
        if errors:
            self._configured.refused(errors)
            for line in errors:
                log.error("configuration", problem=line)
            log.error("reload_refused", why=why, problems=len(errors), kept="what ran before")
            self._topics.event("reload", ok=False, why=why, errors=self._configured.places)
        elif change is not None:
            if self._configured.taken(change.at_start, of_file):
                log.info("configuration_right_again", why=why)
                self._topics.event("reload", ok=True, why=why, before="the last good configuration")
            facts = {"added": change.added, "changed": change.changed, "removed": change.removed, "at_start": change.at_start}
            said = {key: list(names) for key, names in facts.items() if names}
            if said:
                log.info("reloaded", why=why, **{key: "; ".join(names) for key, names in said.items()})
                self._topics.event("reload", ok=True, why=why, **said)
        elif of_file:
            self._configured.refused(())
        self._due.health = 0

    def see_slow(self, stage: str, ns: int) -> None:
        """A stage blocked the loop for this long."""
        if times := self.loop.see_slow(stage, ns, self._clock.now()):
            log.warning("loop_blocked", by=stage, ms=ns // 10**6, times=times)
            self._topics.event("slow", stage=stage, ms=ns // 10**6)

    def say_poison(self, topic: str, stage: str) -> None:
        """An input that ended the process again and again is dropped."""
        log.error(
            "poison",
            topic=topic,
            stage=stage,
            reason="edged ended in this stage with this input again and again; it drops the input",
        )
        self._topics.event("poison", topic=topic, stage=stage)

    # The schedule

    @property
    def is_busy(self) -> bool:
        """Whether much comes in."""
        before, now = self._rows_read
        return now - before > BUSY_ROWS

    def tick(self) -> None:
        now, due = self._clock.now(), self._due
        rows = sum(source.counts.read for source in self._running.sources.values())
        self._rows_read = (self._rows_read[1], rows)
        look = Look(self._running, now)
        self._availability.look(look)
        if now >= due.look:
            due.look = now + 10**9
            self._look(look)
            is_synced = self._clock.is_synced()
            for envelope in self._running.envelopes.values():
                envelope.clock_unsynced = not is_synced
        if now >= due.health:
            due.health = now + self._running.plan.health_interval_ns
            due.telling = self._tell(look)
            self.go_on()
        if (due.engine and now >= due.engine) or (not due.engine and self.building()):
            self._say_models()

    def _look(self, look: Look) -> None:
        now = look.now
        self._news.look(list(look.states), now)
        if self._news.has_connected():
            self._due.health = 0
        self.homeassistant.look()
        if (level := self._memory.look(now / 1e9)) is not None:
            self._topics.event("memory", **level)

    def go_on(self) -> bool:
        """Goes on with the health that is being made; whether there is more to do, after another turn of the loop."""
        if self._due.telling is None:
            return False
        end = self._clock.now() + SLICE_NS
        for _ in self._due.telling:
            if self._clock.now() > end:
                return True
        self._due.telling = None
        return False

    def publish(self) -> None:
        """Publishes health now, all of it at once."""
        self._due.telling = None
        deque(self._tell(Look(self._running, self._clock.now())), maxlen=0)

    def _tell(self, look: Look) -> Iterator[None]:
        """Makes health and publishes it, retained; and each model's topic, which changes seldom, along with it."""
        facts = yield from self._snapshot(look)
        if self._configured.errors:
            facts["config_errors"] = self._configured.places
        self._topics.keep("health", facts)
        self._say_models()
        self.loop.lag.clear()

    def _say_models(self) -> None:
        """While engines are built, and once more when that is over, every few seconds."""
        building = self.building()
        self._due.engine = self._clock.now() + ENGINE_EVERY_NS if building else 0
        for name, facts in models(self._running, building):
            self._topics.keep(f"model/{name}", facts)

    def say_stopped(self) -> None:
        """The last words: health as it is now, and that no source is read any more."""
        self.publish()
        self._availability.stop()

    # What is said

    def status_line(self) -> str:
        """For `systemctl status`."""
        file = self._configured
        bad = [f"runs the last good configuration, of {file.last_good}"] if file.last_good else []
        bad += [f"configuration refused: {file.errors[0]}"] if file.errors else []
        bad += [f"{s.kind} {s.name}: {s.state}" for s in states(self._running, self._clock.now()) if s.state not in GOOD]
        results = sum(p.counts.published for p in self._running.pipelines.values())
        memory = f"{self._memory.read() // MIB} of {self._running.plan.budget // MIB} MiB"
        return f"{'; '.join(bad[:3])}; {memory}" if bad else f"{results} results, {memory}"

    def ready_facts(self) -> dict[str, Any]:
        runs = {
            n: "waits for TensorRT's engine" if r.is_held else f"{r.provider}, {r.run}, {r.p50_us:.0f} us"
            for n, r in self._running.reports.items()
        }
        return {
            "device": self._running.plan.device,
            "resident_mib": self._memory.read() // MIB,
            "budget_mib": self._running.plan.budget // MIB,
            **{f"model.{n}": text for n, text in runs.items()},
        }

    def stop_facts(self) -> dict[str, Any]:
        a = self._running
        return {
            "results": sum(p.counts.published for p in a.pipelines.values()),
            "dropped": sum(p.counts.drops.total for p in a.pipelines.values())
            + sum(c.drops.total for e in a.publishes.values() for c in e),
            "uptime_s": round((self._clock.now() - self._started) / 1e9, 1),
        }

    def details(self) -> dict[str, Any]:
        """What `edged status` shows beside."""
        return details(self._running, self._clock.now())

    def seen(self) -> Seen:
        """What metrics are made of."""
        from edged.health.http.metrics import Seen

        now = self._clock.now()
        return Seen(
            running=self._running,
            states=list(states(self._running, now)),
            now=now,
            uptime_s=(now - self._started) / 1e9,
            resident_bytes=self._memory.read(),
            cpu_s=time.process_time(),
            loop_lag_s=self.loop.highest_ns / 1e9,
            version=__version__,
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        """The newest, the last one last."""
        return list(self._topics.events)

    def graph(self) -> dict[str, Any]:
        """Who takes what from whom, for a drawing."""
        return graph(self._running.plan)

    def snapshot(self) -> dict[str, Any]:
        """What `edged status` says; the health topic has the errors of the file without their words."""
        making = self._snapshot(Look(self._running, self._clock.now()))
        while True:
            try:
                next(making)
            except StopIteration as made:
                facts: dict[str, Any] = made.value
                return facts

    def _snapshot(self, look: Look) -> Generator[None, None, dict[str, Any]]:
        """The same, in pieces."""
        now, plan = look.now, self._running.plan
        by_kind = yield from parts(self._running, now, look.states, self._rates)
        is_well = all(s.state in GOOD for s in look.states) and not self._configured.last_good
        return {
            "device": plan.device,
            **({"tags": dict(plan.tags)} if plan.tags else {}),
            "time": rfc3339(self._clock.utc()),
            "version": __version__,
            "uptime_s": round((now - self._started) / 1e9, 1),
            **self._configured.facts(),
            "run": self._running.run,
            **({"last_run_ended_in": list(self._ended_in)} if self._ended_in else {}),
            "state": "healthy" if is_well else "degraded",
            "memory": self._memory.facts() | ({"gpu": gpu(plan.gpu, used_bytes())} if plan.gpu is not None else {}),
            **self.loop.facts(),
            "cpu_s": round(time.process_time(), 2),
            **by_kind,
            **self.homeassistant.facts(),
        }
