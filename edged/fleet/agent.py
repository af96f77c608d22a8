"""The device's side: takes announcements one after another, and reports every step, retained.

    refused      not taken, for a reason           waiting     what failed is tried again
    not_for_us   others take it                    failed      it was tried, and the version before goes on
    fetching, trying                               guarded     it runs, and may still go back by itself
    went_back    the guard left it                 running     it runs

The file is fetched beside the work, in a thread; swapping is the same as for a local file. Whatever goes wrong, what
runs goes on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from edged import __version__
from edged.clock.backoff import Backoff
from edged.clock.clock import Clock
from edged.fleet.announcement import CONFIGURATION, Announcement, Refused, is_for, read
from edged.fleet.due import Due
from edged.fleet.fetch import FULL, Cancelled, Failed, Limits, fetch
from edged.fleet.ledger import LOCAL, Entry, File, Ledger, unpack
from edged.fleet.signatures import BadKey, public_keys
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.plan.records import FleetPlan
from edged.records import Message
from edged.results.encode import rfc3339
from edged.system.one_shot import in_one_shot_thread

FINAL = ("refused", "not_for_us", "failed", "running", "went_back")
LOOK_S = 0.25
LAST_PART = 0.75
"""What is not well all the time from there on to the end of the guard is no matter of starting."""
MAX_REASON = 1000


class Running(NamedTuple):
    """What the agent may do with what runs. `swap(model, why)` and `apply(why)` make a model, or the configuration, that the
    ledger names run, and return why not, or an empty text; `models` names those of the configuration; `is_guarded(model)`: the
    version that runs may still go back by itself; `unwell`: the parts that are not well, and why."""

    swap: Callable[[str, str], Awaitable[str]]
    apply: Callable[[str], Awaitable[str]]
    models: Callable[[], Collection[str]]
    is_guarded: Callable[[str], bool]
    unwell: Callable[[], Mapping[str, str]]


class Agent:
    """Takes what is announced for this device."""

    def __init__(
        self,
        plan: FleetPlan,
        device: str,
        tags: Mapping[str, str],
        state_dir: Path,
        clock: Clock,
        log: Any,
        running: Running,
    ) -> None:
        self._plan, self._device, self._tags = plan, device, tags
        self._clock, self._log = clock, log
        self._running = running
        self._watch: asyncio.Task[None] | None = None
        """Looks after health once a configuration was applied; `_baseline` are the parts that were not well before."""
        self._baseline: Mapping[str, str] = {}
        self._ledger = Ledger(state_dir / "fleet")
        self._limits = Limits(plan.bandwidth)
        self._link = Link(plan.link, self._on_publishes, clock, log)
        self._due = Due(clock)
        self._keys: list[Any] = []
        self._context: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        link = asyncio.get_running_loop().create_task(self._link.run(), name="link:fleet")
        try:
            await in_one_shot_thread("edged-fleet", self._begin, lambda _: None)
            self.report()
            while True:
                await self._handle(*await self._due.next())
        finally:
            tasks = [link, *([self._watch] if self._watch is not None else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._ledger.load()
        try:
            self._keys = public_keys(self._plan.keys.read_bytes())
        except (OSError, BadKey) as error:
            self._log.error("fleet_keys", path=str(self._plan.keys), reason=str(error))
        self._context = ssl.create_default_context(cafile=str(self._plan.ca) if self._plan.ca is not None else None)

    def _on_publishes(self, batch: list[Inbound]) -> None:
        start, other = f"{self._plan.topic}/model/".encode(), f"{self._plan.topic}/configuration".encode()
        for topic, payload, *_, receipt, _properties in batch:
            receipt.done()
            model = topic.removeprefix(start).decode(errors="replace") if topic != other else CONFIGURATION
            if payload and (topic == other or (topic.startswith(start) and model in self._running.models())):
                self._due.put(model, payload)

    async def _handle(self, model: str, payload: bytes, backoff: Backoff) -> None:
        """Takes an announcement for a model. What fails now is tried again later, and holds up no other."""
        try:
            await self._take(model, payload)
        except Cancelled:
            return
        except Refused as error:
            await self._note(model, state="failed", reason=str(error))
        except (Failed, OSError) as error:
            await self._note(model, state="waiting", reason=str(error))
            self._due.put_back(model, payload, backoff)

    async def _take(self, model: str, payload: bytes) -> None:
        """Raises Failed (try again), Refused (never), Cancelled, OSError."""
        entry = self._ledger.get(model)
        try:
            offer = read(payload, self._keys, self._plan.topic, model, self._plan.sources, entry.known, self._clock.utc() / 1e9)
        except Refused as error:
            await self._note(model, state="refused", reason=str(error))
            return
        is_watched = model == CONFIGURATION and self._watch is not None
        if offer.digest == entry.digest and (entry.state in FINAL or is_watched):
            self.report()
            return
        one = offer.announcement
        taken = replace(entry, counter=one.counter, digest=offer.digest)
        if not is_for(one, self._device, self._tags):
            if not is_watched:
                state = "running" if entry.running is not None and entry.running.sha256 == one.sha256 else "not_for_us"
                taken = replace(taken, state=state, reason="")
            return await self._put(model, taken)
        wanted = _version(_left(taken, one.version)) if one.back else one.version
        fetching = self._ledger.entries[model] = replace(taken, wanted=wanted, state="fetching", reason="")
        await self._put(model, fetching)
        file = _left(taken, one.version) if one.back else await self._fetched(model, one)
        await self._try(model, file, one.back)

    def _is_stale(self, model: str) -> bool:
        """Whether something else was announced meanwhile."""
        return self._due.has_news(model)

    async def _fetched(self, model: str, one: Announcement) -> File:
        """The file that is announced, on this disk. Raises Failed, Refused, Cancelled, OSError."""
        is_tar = not one.configuration and one.url.lower().split("?")[0].endswith(".tar")
        file = File(one.version, one.sha256, one.size, is_tar, one.configuration)
        assert self._context is not None
        gone = [False]
        work = partial(
            _fetch, self._ledger, file, one.url, self._plan.max_bytes, self._context, self._limits,
            lambda: gone[0] or self._is_stale(model),
        )  # fmt: skip
        try:
            await in_one_shot_thread("edged-fetch", work, lambda _: None)
        except asyncio.CancelledError:
            gone[0] = True
            raise
        return file

    async def _try(self, model: str, file: File | None, is_back: bool) -> None:
        before = after = self._ledger.get(model)
        if is_back and self._is_guarded(model) and _digest(file) == _digest(before.running):
            # The version that is to be left does not run here, and the one that does is still watched.
            return await self._put(model, replace(before, state="guarded", reason=""))
        if _digest(file) != _digest(before.running):
            # A configuration that ran before needs no guard: if edged ends now, it is what the next start runs.
            is_sure = is_back and model == CONFIGURATION
            sure = before.before if model == CONFIGURATION and before.is_unsettled and not is_back else before.running
            after = replace(before, running=file, before=sure, state="running" if is_sure else "trying", reason="")
            after = replace(after, is_unsettled=model == CONFIGURATION and not is_sure)
            await self._put(model, after)
        if model == CONFIGURATION:
            why = await self._apply(file, is_back)
        else:
            why = await self._running.swap(model, f"{model} {_version(file)} was announced")
        if why:
            left = {"running": before.running, "before": before.before, "is_unsettled": before.is_unsettled}
            back = replace(after, **left, state="failed", reason=why)
            await self._put(model, back)
        elif self._is_guarded(model):
            await self._put(model, replace(self._ledger.get(model), state="guarded", reason="", is_unsettled=True))
        else:
            await self._put(model, replace(self._ledger.get(model), state="running", reason="", is_unsettled=False))

    async def _apply(self, file: File | None, is_back: bool) -> str:
        """Runs the configuration that the ledger names. Returns why not. Its health is watched from then on, unless
        it had run before."""
        watched, baseline = self._watch, self._baseline
        if watched is not None:
            watched.cancel()
            self._watch = None
        before = self._running.unwell()
        why = await self._running.apply(f"configuration {_version(file)} was announced")
        if why:
            if watched is not None:  # what runs is still not settled
                self._look_after(baseline)
            at = f"{self._ledger.path_of(file)}:" if file is not None else ""
            return why.replace(at, "")[:MAX_REASON]
        if not is_back:
            self._look_after(before)
        return ""

    def _look_after(self, before: Mapping[str, str]) -> None:
        self._baseline = before
        self._watch = asyncio.get_running_loop().create_task(self._look(before), name="guard:configuration")

    async def _look(self, before: Mapping[str, str]) -> None:
        """Leaves the configuration again if parts are not well at the end of the guard that were before, or were not there."""
        start, length = self._clock.now(), self._plan.guard_ns
        fallen: Mapping[str, str] | None = None
        while (passed := self._clock.now() - start) < length or fallen is None or self._is_replaced():
            await asyncio.sleep(LOOK_S)
            if passed >= LAST_PART * length:
                now = {part: why for part, why in self._running.unwell().items() if part not in before}
                fallen = now if fallen is None else {part: why for part, why in now.items() if part in fallen}
        self._watch = None
        entry = self._ledger.get(CONFIGURATION)
        if not fallen:
            if entry.state == "guarded":  # and nothing else was announced since
                entry = replace(entry, state="running", reason="")
            await self._note(CONFIGURATION, state=entry.state, reason=entry.reason, is_unsettled=False)
            return
        why = f"health fell within {length / 1e9:g} s: " + "; ".join(f"{part} is {said}" for part, said in fallen.items())
        left = {"running": entry.before, "before": None, "is_unsettled": False}
        await self._note(CONFIGURATION, **left, state="went_back", reason=why[:MAX_REASON])
        errors = await self._running.apply(f"back from configuration {_version(entry.running)}")
        if errors:
            self._log.error("fleet", model=CONFIGURATION, state="cannot_go_back", reason=errors)
        self.report()

    def _is_replaced(self) -> bool:
        """Whether another configuration is about to take the place of the one that is watched."""
        return self._ledger.get(CONFIGURATION).state == "trying"

    def _is_guarded(self, model: str) -> bool:
        """Whether what runs may still be left by itself."""
        return self._watch is not None if model == CONFIGURATION else self._running.is_guarded(model)

    async def guard_ended(self, model: str, why: str) -> None:
        """The guard of a model has judged: `why` it goes back, or nothing is wrong. A newer announcement, which may be fetched
        meanwhile, keeps its state."""
        entry = self._ledger.get(model)
        if not entry.is_unsettled:
            return
        left: dict[str, Any] = {"running": entry.before, "before": None} if why else {}
        said = {"state": "went_back" if why else "running", "reason": why} if entry.state == "guarded" else {}
        await self._note(model, is_unsettled=False, **left, **said)

    async def _note(self, model: str, **changes: Any) -> None:
        """As `_put`, where nothing can be done about a disk that takes nothing: it is reported all the same."""
        entry = replace(self._ledger.get(model), **changes)
        try:
            await self._put(model, entry)
        except OSError as error:
            self._log.error("fleet", model=model, state=entry.state, reason=f"{self._ledger.root}: {error.strerror}")
            self._ledger.entries[model] = entry
            self.report()

    async def _put(self, model: str, entry: Entry) -> None:
        """Keeps it on disk, then reports it. Raises OSError: without that nothing is begun."""
        await in_one_shot_thread("edged-fleet", partial(self._ledger.put, model, entry), lambda _: None)
        level = self._log.warning if entry.state in ("refused", "waiting", "failed", "went_back") else self._log.info
        level("fleet", model=model, state=entry.state, wanted=entry.wanted, running=_version(entry.running), reason=entry.reason)
        self.report()

    def report(self) -> None:
        """What this device runs and wants, retained."""
        models = {name: facts(self._ledger.get(name)) for name in sorted(self._running.models())}
        said = {
            "device": self._device,
            "time": rfc3339(self._clock.utc()),
            "version": __version__,
            "tags": dict(self._tags),
            "models": models,
            **({"configuration": facts(self._ledger.get(CONFIGURATION))} if self._plan.configuration else {}),
        }
        topic = f"{self._plan.topic}/report/{self._device}"
        self._link.send(Message(topic.encode(), msgspec.json.encode(said), qos=1, retain=True))


def facts(entry: Entry) -> dict[str, Any]:
    """What a report says of one model."""
    running = entry.before if entry.state == "trying" else entry.running  # until it runs the one before does
    said = {"wanted": entry.wanted or LOCAL, "running": _version(running), "state": entry.state}
    return {**said, "counter": entry.counter, **({"reason": entry.reason} if entry.reason else {})}


def _left(entry: Entry, version: str) -> File | None:
    """What runs once a version was left: the one before. Who runs another one stays with it, however often it is told."""
    return entry.before if _version(entry.running) == version else entry.running


def _version(file: File | None) -> str:
    return file.version if file is not None else LOCAL


def _digest(file: File | None) -> str:
    return file.sha256 if file is not None else ""


def _fetch(
    ledger: Ledger,
    file: File,
    url: str,
    max_bytes: int,
    context: ssl.SSLContext,
    limits: Limits,
    is_cancelled: Callable[[], bool],
) -> None:
    """Blocks. The file is where the ledger says, whole and proved."""
    path = ledger.path_of(file)
    if path.exists():
        return
    ledger.make_room(file.size, max_bytes)
    ledger.keep_only_part(file.sha256)
    try:
        fetched = fetch(url, file.sha256, file.size, ledger.root, context, limits, is_cancelled)
    except OSError as error:
        if error.errno in FULL:  # what is here of it takes the room of everybody else
            ledger.keep_only_part("")
        raise
    if file.is_tar:
        unpack(fetched, path)
        fetched.unlink()
    else:
        fetched.rename(path)
