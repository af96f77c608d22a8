"""Start, serve, stop: the one place that owns the tasks.

    outer scope:   the spool, links (broker connections) consumers before producers
      inner scope: sources, each under a supervisor
    reload:        cancel the sources that go -> wire the new parts, in one turn -> start what is new -> close links that go;
                   pipelines of the plan before run out what they had beside the new ones
    stop:          cancel the sources -> leave the groups that share work -> parked blocks and slots are run out ->
                   links flush and say goodbye -> the rest to disk,
                   all under one deadline; what is left is counted as dropped, reason "shutdown"

READY is sent when the plan fits, the models have run and links and sources are started, connected or not.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import structlog

from edged.behaviours.kept import EVERY_S
from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.connect import connect, release
from edged.daemon.ending import Ending
from edged.daemon.relief import Relief
from edged.daemon.supervisor import supervise
from edged.daemon.watchdog import Progress
from edged.health.schedule import Health
from edged.health.status import LONGEST_RUNS
from edged.mqtt.link import Link
from edged.pipeline.fan_out import fan_out
from edged.pipeline.pipeline import Pipeline
from edged.plan.change import Change
from edged.sources.kind import PortReader, Push, Reader
from edged.system.notify import Notifier
from edged.system.one_shot import in_one_shot_thread

STOP_DEADLINE_S = 10.0
LEAVING_S = 8.0
"""After that deadline, to write down what is kept; then the process is ended, before systemd does (`TimeoutStopSec`)."""
WATCHDOG_S = 30.0
"""How long the loop may stand still where systemd does not say: as long as in our unit."""
MIN_PATIENCE_S = 2.0
LEAVE_S = 5.0
"""For a link that a reload removed to send what it has, and at a stop for what a group had dealt to us."""
TICK_S = 0.25
"""How often the parts are looked at, and the loop's lag is measured while little comes in."""
FINE_TICK_S = 0.02
"""How often it is measured while much does: then it costs nothing beside the rest."""

log: Any = structlog.get_logger("edged")


class Lifecycle:
    """Runs one assembly after another until a signal, a bug, or the end of all recordings."""

    def __init__(
        self,
        assembly: Assembly,
        health: Health,
        relief: Relief,
        notifier: Notifier,
        clock: Clock,
        put_off: Callable[[float], object] = lambda limit_s: None,
    ) -> None:
        """`put_off(limit_s)`: in so many seconds the process is to be ended, unless that is put off again."""
        self.assembly = assembly
        self._put_off = put_off
        self.on_hangup: Callable[[], object] = lambda: None
        self.on_switch: Callable[[Assembly], object] = lambda assembly: None
        self._health = health
        self._relief = relief
        self._notifier = notifier
        self._clock = clock
        self._progress = Progress(assembly)
        self._ending = Ending()
        self._stuck = 0
        self._links: dict[str, asyncio.Task[Any]] = {}
        self._sources: dict[str, tuple[Reader | PortReader, asyncio.Task[Any]]] = {}
        self._leaving: set[asyncio.Task[Any]] = set()
        self._end: asyncio.Task[Any] | None = None

    async def serve(self, *work: Coroutine[Any, Any, None]) -> int:
        """Returns the exit status. `work` runs beside, from READY to the stop."""
        loop = asyncio.get_running_loop()
        self._ending.watch(loop)
        self._ending.is_of_others = lambda error: any(one.blame(error) for one in self.assembly.behaviours.values())
        loop.add_signal_handler(signal.SIGHUP, lambda: self.on_hangup())
        spool = self.assembly.spool
        if spool is not None:
            spool.open()
            spooling = self._task("spool", spool.run())
        self._start()
        ticker = self._task("ticker", self._tick())
        self._notifier.ready(self._health.status_line())
        log.info("ready", **self._health.ready_facts())
        working = [self._task(f"work {i}", one) for i, one in enumerate(work)]
        working.append(self._task("behaviours", self._keep()))
        await self._ending.wait()
        await _cancel(working)
        assembly = self.assembly
        self._notifier.stopping("stopping: finishing what was read")
        log.info("stopping", deadline_s=STOP_DEADLINE_S)
        self._put_off(STOP_DEADLINE_S + LEAVING_S)
        deadline = loop.time() + STOP_DEADLINE_S
        await asyncio.gather(*(actor.stop() for actor in assembly.behaviours.values()))  # while ports and links are open
        assembly.kept.forgive()
        assembly.kept.write(assembly.kept.encoded())
        await _cancel([*(task for _, task in self._sources.values()), ticker])
        await asyncio.gather(*(link.leave_groups(LEAVE_S) for link in assembly.links.values()))
        for router in assembly.routers.values():
            router.is_closed = True
        await self._drain(deadline)
        self._health.say_stopped()
        await asyncio.gather(*(link.close(max(0.2, deadline - loop.time())) for link in assembly.links.values()))
        await _cancel([*self._links.values(), *self._leaving])
        if spool is not None:
            await spool.close(spooling, max(1.0, deadline - loop.time()))
            await _cancel([spooling])
        assembly.close()
        log.info("stopped", **self._health.stop_facts())
        return self._ending.code

    def _start(self) -> None:
        """Starts every link and source of the assembly that does not run yet."""
        assembly = self.assembly
        for name, link in assembly.links.items():
            if name not in self._links:
                self._links[name] = self._task(f"link:{name}", link.run())
        for name, reader in assembly.readers.items():
            if name not in self._sources:
                work = supervise(reader, self._push(name), self._clock)
                self._sources[name] = (reader, self._task(f"source:{name}", work))
        for name, port in assembly.ports.items():
            if _port_task(name) not in self._sources:
                pushes = {member.name: self._push(member.name) for member in assembly.plan.ports[name].members}
                work = supervise(port, pushes, self._clock)
                self._sources[_port_task(name)] = (port, self._task(f"port:{name}", work))
        for actor in assembly.behaviours.values():
            actor.start()
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._sources and not assembly.has_live_sources:
            self._end = self._task("end of recordings", self._stop_after([task for _, task in self._sources.values()]))

    def _push(self, name: str) -> Push:
        """Who takes the blocks of a source, as one stage."""
        assembly = self.assembly
        hand_out = partial(fan_out, assembly.consumers[name], assembly.sources[name].counts.lose)
        return assembly.stages.wrap(f"source.{name}", assembly.tail.around(hand_out))

    async def switch(self, assembly: Assembly, digest: str) -> None:
        """Goes over to another assembly, made with what this one runs."""
        before = self.assembly
        if assembly is not before:
            gone_actors = [actor for name, actor in before.behaviours.items() if assembly.behaviours.get(name) is not actor]
            await asyncio.gather(*(actor.stop() for actor in gone_actors))  # while what they write to last is open
            readers: dict[str, Reader | PortReader] = {
                **assembly.readers,
                **{_port_task(name): port for name, port in assembly.ports.items()},
            }
            gone = [name for name, (reader, _) in self._sources.items() if readers.get(name) is not reader]
            await _cancel([self._sources.pop(name)[1] for name in gone])  # a port has one reader
            connect(assembly, before)
            self.assembly = assembly
            self._progress = Progress(assembly)
            self._relief.adopt(assembly)
            self.on_switch(assembly)
            self._start()
            for name in [name for name in self._links if name not in assembly.links]:
                self._leave(before.links[name], self._links.pop(name))
        self._health.adopt(assembly, digest)

    def _leave(self, link: Link, running: asyncio.Task[Any]) -> None:
        async def close() -> None:
            await link.close(LEAVE_S)
            await _cancel([running])

        task = self._task(f"leaving:{link.name}", close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _keep(self) -> None:
        """Writes down, once in a while, what behaviours want to outlive a crash."""
        while True:
            await asyncio.sleep(EVERY_S)
            kept = self.assembly.kept
            if self.assembly.behaviours and (whole := kept.encoded()) is not None:
                await in_one_shot_thread("edged-note", partial(kept.write, whole), lambda _: None)

    def reloading(self) -> None:
        """A reload begins."""
        self._notifier.reloading(time.monotonic_ns() // 1000)

    def say_reload(self, errors: Sequence[str], change: Change | None, why: str, of_file: bool = True) -> None:
        """A reload is over: what became of it, to everybody."""
        self._health.say_reload(errors, change, why, of_file)

    def say_engine(self, name: str, ok: bool, **facts: Any) -> None:
        """News of an engine that is built for a model."""
        self._health.say_engine(name, ok, **facts)

    def say_guard(self, name: str, why: str) -> None:
        """What became of a version that was guarded: why it was left, or nothing."""
        self._health.say_guard(name, why)

    def leave(self, reason: str, code: int) -> None:
        """Ends in good order: what is configured cannot be run."""
        self._ending.leave(reason, code)

    @property
    def keeps_state(self) -> bool:
        """Whether the next start goes on with what is in memory: not after a bug."""
        return self._ending.keeps_state

    def reloaded(self) -> None:
        """It is over, whatever came of it."""
        self._notifier.ready(self._health.status_line())

    def status(self) -> dict[str, Any]:
        """What health says, now."""
        return self._health.snapshot()

    def details(self) -> dict[str, Any]:
        """And what is too much for it."""
        return self._health.details()

    async def _drain(self, deadline: float) -> None:
        """Runs out what was read: parked blocks, slots and the batch in progress."""
        loop = asyncio.get_running_loop()
        self._relief.end()
        for model in self.assembly.models.values():
            model.hurry()
        for name in self.assembly.stampers:
            self.assembly.let_out(name)
        while self._is_busy() and loop.time() < deadline - 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # runs end in callbacks; at a stop, looking 200 times a second is simpler than an event
        for remote in self.assembly.remotes.values():
            remote.close()
        await asyncio.sleep(0)  # what was under way there is counted
        for source in self.assembly.mqtt_sources:
            source.abandon()
        for pipeline in self._all_pipelines:
            pipeline.abandon()  # counted, and said with that
            pipeline.say_last()
        for link in self.assembly.links.values():
            link.send_left()
        for replies in self.assembly.replies:
            replies.stop()

    @property
    def _all_pipelines(self) -> list[Pipeline]:
        return [*self.assembly.leaving, *self.assembly.pipelines.values()]

    def _is_busy(self, waits_for_engines: bool = False) -> bool:
        """Whether something is under way; what waits for an engine that is being built only if `waits_for_engines`."""
        is_decoding = any(s.queue for s in self.assembly.mqtt_sources)
        held = [] if waits_for_engines else [m.wake for m in self.assembly.models.values() if m.loaded.report.is_held]
        return is_decoding or any(p.is_busy and p.wake not in held for p in self._all_pipelines)

    async def _tick(self) -> None:
        """Measures how late the loop is, keeps health, and feeds the watchdog while every stage makes progress."""
        loop = asyncio.get_running_loop()
        feed_every = (self._notifier.watchdog_s or 10.0) / 3
        next_feed = next_look = 0.0
        self._put_off(self._patience_s())
        while True:
            period_s = FINE_TICK_S if self._health.is_busy else TICK_S
            due = loop.time() + period_s
            await asyncio.sleep(period_s)
            now = loop.time()
            self._health.loop.see_lag(int(max(0.0, now - due) * 1e9))
            if now < next_look:
                continue
            next_look = now + TICK_S - FINE_TICK_S / 2
            self._put_off(self._patience_s())
            self._health.tick()
            while self._health.go_on():  # noqa: ASYNC110
                await asyncio.sleep(0)
            if self.assembly.leaving:
                release(self.assembly)
            if now >= next_feed:
                next_feed = now + feed_every
                stuck = self._progress.stuck(self._clock.now())
                if stuck is None:
                    self._stuck = 0
                    self._notifier.watchdog()
                else:
                    self._on_stuck(stuck)
                self._notifier.status(self._health.status_line())

    def _patience_s(self) -> float:
        """How long the loop may stand still: as long as systemd would wait, or more, where a run on it is known to take long."""
        models = [model for model in self.assembly.models.values() if model.loaded.report.run == "inline"]
        longest = max((model.counts.time.maximum for model in models), default=0)
        return max(self._notifier.watchdog_s or WATCHDOG_S, MIN_PATIENCE_S, LONGEST_RUNS * longest / 1e9)

    def _on_stuck(self, stage: str) -> None:
        """Said with every stack; if it lasts, the process ends in good order, and systemd starts it again with what was kept."""
        log.error("no_progress", stage=stage, reason="this stage blocks the event loop")
        self._stuck += 1
        if self._stuck == 1:
            faulthandler.dump_traceback(all_threads=True)
        elif not self._ending.has_come:
            self._ending.restart(stage)

    async def _stop_after(self, sources: Iterable[asyncio.Task[Any]]) -> None:
        await asyncio.gather(*sources)
        spool = self.assembly.spool
        while self._is_busy(waits_for_engines=True) or (spool is not None and spool.state[0] == "replaying"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # as in `_drain`: what went to disk since the broker is slower than a file goes out too
        self._ending.finish()

    def _task(self, name: str, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ending.fail(f"task {task.get_name()}", error)


def _port_task(name: str) -> str:
    """A port and a source may have one name."""
    return f"port.{name}"


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
