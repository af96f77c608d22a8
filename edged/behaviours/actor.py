"""One `[behaviour.NAME]`: its instances by key, what they are told, and what becomes of them.

a row comes --> the inbox of its instance, which is made with the first row of its key (without `per` there is one, from the
                start); there it is settled
it fails    --> counted, said with the line of the file, `on_end`, run again after a pause that grows
it returns  --> `on_end`; no more of it
it spins    --> a step that blocks the loop is named; too many in a minute end the behaviour at its next await
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from edged.behaviours import code
from edged.behaviours.asking import Target
from edged.behaviours.face import Failed, Row
from edged.behaviours.inbox import Inbox
from edged.behaviours.kept import MAX_ENDS, PREFIX, Kept
from edged.behaviours.me import WRITE_S, Me, body_of
from edged.behaviours.plan import KEY_PART, BehaviourPlan, Heard, OnEnd
from edged.behaviours.steps import OWNER, driven, install
from edged.clock.caps import Caps
from edged.clock.clock import Clock
from edged.errors import Retryable
from edged.notation.words import caps_said
from edged.records import Block, Cap, Message, Result
from edged.system.hang_recorder import SLOW_NS, Stages
from edged.telemetry import Drops, PublishCounts

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
GOOD_SERVICE_NS = 60 * 10**9
"""Who ran so long fails for the first time again."""
MAX_SPINS, SPIN_NS = 5, 60 * 10**9
MAX_TASKS = 64
"""That one instance may have at a time."""
CLEAN_UP_S = 1.0
"""At a stop, for what a behaviour does in `finally`; as long again for `on_end`."""
PORT_S = 5.0
"""So long `on_end` waits for a port that is not there."""
LINES = Cap(10, 10**9)
"""Of the log, for one behaviour."""

log: Any = structlog.get_logger("edged")


class Writer(Protocol):
    """A port that may be written to."""

    async def write(self, data: bytes, limit_s: float) -> None:
        """Raises Retryable where it is not there."""


class Reach(msgspec.Struct, frozen=True):
    """What a behaviour may touch, by name. `names` gives the parts of a key of a stream, None where it has none."""

    send: Callable[[Message], None]
    ports: Mapping[str, Writer] = msgspec.field(default_factory=dict)
    pipelines: Mapping[str, Target] = msgspec.field(default_factory=dict)
    names: Mapping[str, Callable[[int], tuple[str, ...]] | None] = msgspec.field(default_factory=dict)


class Counts:
    """`messages` is the ledger of what it published. Drops: `overflow` (of an inbox), `limit`, `failed` (an instance), `keys`
    (an instance too many), `log`, `on_end`, `ended` (it blocked the loop), `stopped` (rows that came when it had ended)."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.heard = 0
        self.written = 0
        self.asked = 0
        self.restarts = 0
        self.spins = 0
        self.messages = PublishCounts(name, now)
        self.drops = Drops(name, now)


class Instance:
    """One run of the user's coroutine after the other."""

    __slots__ = ("actor", "caps", "children", "failures", "inboxes", "is_over", "key", "state", "status", "task")

    def __init__(self, actor: Actor, key: str) -> None:
        plan = actor.plan
        self.actor = actor
        self.key = key
        self.is_over = False
        self.status = "running"
        self.failures = 0
        self.children: set[asyncio.Task[Any]] | None = None
        self.caps = actor.caps_of(key)
        self.state = actor.states.setdefault(key, {})
        is_latest = plan.overflow == "latest_only"
        self.inboxes = {heard.stream: Inbox(plan.inbox, is_latest, actor.miss) for heard in plan.hears}
        self.task: asyncio.Task[None] = asyncio.get_running_loop().create_task(
            self._run(), name=f"behaviour:{plan.name}{f':{key}' if key else ''}"
        )

    @property
    def is_alive(self) -> bool:
        return not self.task.done()

    def step(self, call: Callable[[Any], Any], value: Any) -> Any:
        return self.actor.step(call, value)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        if self.children is None:
            self.children = set()
        self.children.add(task)
        task.add_done_callback(self._on_child_done)
        if len(self.children) > MAX_TASKS:
            task.cancel()
            raise RuntimeError(f"more than {MAX_TASKS} tasks at a time in one behaviour")

    def _on_child_done(self, task: asyncio.Task[Any]) -> None:
        if self.children is not None:
            self.children.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("behaviour_task", behaviour=self.actor.plan.name, error=code.said(error, self.actor.plan.function.path))

    async def _run(self) -> None:
        actor = self.actor
        OWNER.set(self)
        while True:
            began = actor.clock.now()
            why = await self._live()
            if self.children:
                for child in self.children:
                    child.cancel()
            if why is None or self.is_over or actor.is_stopping:
                self.status = "finished"
                self.is_over = True  # tasks of its own that do not listen end at their next await
                return await self._end()
            self.failures = 1 if actor.clock.now() - began > GOOD_SERVICE_NS else self.failures + 1
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 10))
            actor.fail(self.key, why, pause)
            self.status = "failed"
            await self._end()
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                return
            actor.counts.restarts += 1
            self.status = "running"

    async def _live(self) -> str | None:
        """Why it failed; None if it returned, or was told to end."""
        actor = self.actor
        try:
            await driven(actor.function(Me(self)), self)  # type: ignore[arg-type]
        except asyncio.CancelledError as error:
            return None if self.is_over or actor.is_stopping else code.said(error, actor.plan.function.path)
        except BaseException as error:
            return code.said(error, actor.plan.function.path)
        return None

    async def _end(self) -> None:
        """What actuators and others get now."""
        for one in self.actor.plan.on_end:
            try:
                await self.actor.do_last(one, self.key)
            except (Exception, asyncio.CancelledError) as error:
                what = one.write or (one.topic.text if one.topic is not None else "")
                why = str(error) or "there was no more time"
                self.actor.counts.drops.add("on_end", detail=f"{what}: {why}")


class Actor:
    """Made by `build`, told by `connect` what it may touch."""

    def __init__(
        self,
        plan: BehaviourPlan,
        function: Callable[[Any], Awaitable[None]],
        counts: Counts,
        clock: Clock,
        stages: Stages,
        kept: Kept,
    ) -> None:
        self.plan = plan
        self.function = function
        self.counts = counts
        self.clock = clock
        self.states = kept.states(plan.name)
        self.is_stopping = False
        self.reach: Reach
        self.instances: dict[str, Instance] = {}
        self.step: Callable[[Callable[[Any], Any], Any], Any] = stages.wrap(PREFIX + plan.name, self._step)
        self._heard = {heard.stream: heard for heard in plan.hears}
        self._caps: dict[str, Caps] = {}
        self._keys: dict[tuple[str, int], tuple[tuple[str, ...], Instance | None]] = {}
        self._spins: deque[int] = deque(maxlen=MAX_SPINS)
        self._lines = Caps((LINES,))
        self._over = (
            f"the process ended in it {MAX_ENDS} times; it starts again when {plan.function.path.name} changes"
            if kept.is_barred(plan.name, plan.digest)
            else ""
        )

    @property
    def name(self) -> str:
        return self.plan.name

    def connect(self, reach: Reach) -> None:
        """From here on this is what it may touch."""
        self.reach = reach
        self._keys.clear()

    def take_over(self, old: Actor) -> None:
        """After a reload: what each instance of the same behaviour has published counts on."""
        self._caps = old._caps

    def caps_of(self, key: str) -> Caps:
        """Of one instance."""
        caps = Caps(self.plan.limits)
        if key in self._caps:
            caps.take_over(self._caps[key])
        self._caps[key] = caps
        return caps

    def start(self) -> None:
        install(asyncio.get_running_loop())
        if self._over:
            log.error("behaviour_not_started", behaviour=self.name, reason=self._over)
        elif not self.plan.per_key and not self.instances:
            self.instances[""] = Instance(self, "")

    async def stop(self) -> None:
        """Ends all instances, with what they do last."""
        self.is_stopping = True
        tasks = [one.task for one in self.instances.values() if one.is_alive]
        for limit_s in (CLEAN_UP_S, CLEAN_UP_S):
            for task in tasks:
                task.cancel()
            if tasks:
                _, left = await asyncio.wait(tasks, timeout=limit_s)
                tasks = list(left)
            for one in self.instances.values():
                one.is_over = True
        for task in tasks:
            task.cancel()
        if left_over := sum(inbox.missed_at_the_end for one in self.instances.values() for inbox in one.inboxes.values()):
            self.counts.drops.add("stopped", left_over, detail="they waited in an inbox when it ended")

    # ---- what comes in ----

    def hear(self, stream: str, result: Result, now: int) -> None:
        """A result of a pipeline."""
        instance = self._instance(stream, result.key)
        if instance is not None:
            key = self._name_of(stream, result.key)
            instance.inboxes[stream].put(Row(stream, key, result.body, result.time, result.seq, result.degraded))

    def see(self, stream: str, block: Block) -> None:
        """Samples of a source."""
        heard = self._heard[stream]
        keys = block.keys
        for i, values in enumerate(block.values):
            key = keys if isinstance(keys, int) else keys.item(i)
            instance = self._instance(stream, key)
            if instance is not None:
                degraded = block.degraded is not None and bool(block.degraded[i])
                fields = _fields(heard, values)
                time = block.time.item(i) + block.offset
                instance.inboxes[stream].put(Row(stream, self._name_of(stream, key), fields, time, 0, degraded))

    def miss(self, times: int) -> None:
        """Rows gave way to others in an inbox."""
        self.counts.drops.add("overflow", times, detail=f"more than {self.plan.inbox} waited; inbox = {self.plan.inbox}")

    def _name_of(self, stream: str, key: int) -> str:
        names = self.reach.names.get(stream)
        return "/".join(names(key)) if names is not None else ""

    def _instance(self, stream: str, key: int) -> Instance | None:
        """Whose row it is; it is made where there is none yet."""
        self.counts.heard += 1
        if self._over or self.is_stopping:
            self.counts.drops.add("stopped", detail=self._over or "it ends")
            return None
        if not self.plan.per_key:
            return self.instances.get("")
        names = self.reach.names[stream]
        assert names is not None
        parts = names(key)
        known = self._keys.get((stream, key))
        if known is not None and known[0] is parts:
            return known[1]
        if known is not None and known[1] is not None:  # the number means another sensor now
            self._dismiss(known[1])
        name = "/".join(parts)
        instance = self.instances.get(name)
        if instance is None and len(self.instances) < self.plan.instances:
            instance = self.instances[name] = Instance(self, name)
        elif instance is None:
            self.counts.drops.add("keys", detail=f"{name}: {self.plan.instances} instances are there already (max_keys)")
            return None
        self._keys[stream, key] = parts, instance
        return instance

    def _dismiss(self, instance: Instance) -> None:
        """Its sensor gave its place to another one. (Another stream may have said so before, and the sensor be back.)"""
        instance.is_over = True
        instance.task.cancel()
        if self.instances.get(instance.key) is not instance:
            return
        del self.instances[instance.key]
        self.states.pop(instance.key, None)
        self._caps.pop(instance.key, None)

    # ---- what goes out ----

    def may_publish(self, topic: str, key: str) -> bool:
        for one in self.plan.publish:
            found = one.match(topic)
            if found is None:
                continue
            parts = [text for name, text in zip(one.captures, found, strict=True) if name.startswith(KEY_PART)]
            if not parts or "/".join(parts) == key:
                return True
        return False

    def send(self, topic: str, body: bytes, qos: int, retain: bool) -> None:
        messages = self.counts.messages
        message = Message(topic.encode(), body, qos, retain, account=messages)
        messages.made += 1
        messages.last = message
        self.reach.send(message)

    async def write(self, port: str, data: bytes) -> None:
        try:
            await self.reach.ports[port].write(data, WRITE_S)
        except Retryable as error:
            raise Failed(error.state, error.reason) from None
        self.counts.written += 1

    async def do_last(self, one: OnEnd, key: str) -> None:
        if one.topic is not None:
            topic = one.topic.fill({"key": key})
            return self.send(topic, body_of(one.value), 1, one.retain)
        pause = 0.1
        deadline = self.clock.now_s() + (CLEAN_UP_S / 2 if self.is_stopping else PORT_S)
        while True:
            try:
                return await self.write(one.write, one.data)
            except Failed:
                if self.clock.now_s() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause *= 2

    def say(self, level: str, text: str, key: str, facts: Mapping[str, Any]) -> None:
        if not self._lines.take(self.clock.now()):
            return self.counts.drops.add("log", detail=f"more than {caps_said([LINES])}")
        own = {"behaviour": self.name, **({"key": key} if key else {})}
        getattr(log, level)(
            "said", **own, text=text[:1000], **{f"{k}": v for k, v in facts.items() if k not in (*own, "text", "event")}
        )

    # ---- what becomes of it ----

    def fail(self, key: str, why: str, pause_s: float) -> None:
        whose = f" (key {key})" if key else ""
        self.counts.drops.add("failed", detail=f"{why}; ended{whose}, restarted in {pause_s:g} s")

    def blame(self, error: BaseException) -> bool:
        """Whether a fault that nobody caught, of a callback for one, came from its file; it is counted then."""
        path = self.plan.function.path
        is_mine = any(frame.filename == str(path) for frame in traceback.extract_tb(error.__traceback__))
        if is_mine:
            self.counts.drops.add("failed", detail=f"{code.said(error, path)}; in a callback, which nobody awaits")
        return is_mine

    def _step(self, call: Callable[[Any], Any], value: Any) -> Any:
        began = self.clock.now()
        try:
            return call(value)
        finally:
            now = self.clock.now()
            if now - began > SLOW_NS:
                self._spun(now, now - began)

    def _spun(self, now: int, ns: int) -> None:
        self.counts.spins += 1
        self._spins.append(now)
        if len(self._spins) == MAX_SPINS and now - self._spins[0] < SPIN_NS and not self._over:
            last = f"the last for {ns // 10**6} ms"
            self._over = f"{MAX_SPINS} steps within a minute blocked the event loop for more than {SLOW_NS // 10**6} ms, {last}"
            fix = f"it starts again when {self.plan.function.path.name} changes"
            self.counts.drops.add("ended", detail=f"{self._over}; {fix}")
            for one in self.instances.values():
                one.is_over = True
                one.task.cancel()

    def state(self) -> tuple[str, str]:
        """For health."""
        if self._over:
            return "ended", self._over
        failed = [one for one in self.instances.values() if one.status == "failed"]
        if failed:
            return "failing", self.counts.drops.details.get("failed", "")
        if self.plan.per_key and not self.instances:
            return "idle", ""
        is_alive = any(one.status == "running" for one in self.instances.values())
        return ("running", "") if is_alive else ("finished", "")


def _fields(heard: Heard, values: Any) -> dict[str, Any]:
    """The fields of one sample: numbers, and arrays of their own."""
    return {f.name: values[f.start : f.stop].reshape(f.shape).copy() if f.shape else values[f.start].item() for f in heard.fields}
