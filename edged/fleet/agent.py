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
from typing import Any

import msgspec

from edged import __version__
from edged.clock.backoff import Backoff
from edged.clock.clock import Clock
from edged.fleet.announcement import Announcement, Refused, is_for, read
from edged.fleet.fetch import Cancelled, Failed, Limits, fetch
from edged.fleet.ledger import LOCAL, Entry, File, Ledger, unpack
from edged.fleet.signatures import BadKey, public_keys
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.plan.records import FleetPlan
from edged.records import Message
from edged.results.encode import rfc3339
from edged.system.one_shot import in_one_shot_thread

FINAL = ("refused", "not_for_us", "failed", "running", "went_back")
RETRY_S = (2.0, 300.0)

Swap = Callable[[str, str], Awaitable[str]]


class Agent:
    """`swap(model, why)` makes what the ledger names run, and returns why not, or an empty text; `models` names those of the
    configuration; `is_guarded(model)`: the version that runs may still go back by itself."""

    def __init__(
        self,
        plan: FleetPlan,
        device: str,
        tags: Mapping[str, str],
        state_dir: Path,
        clock: Clock,
        log: Any,
        swap: Swap,
        models: Callable[[], Collection[str]],
        is_guarded: Callable[[str], bool],
    ) -> None:
        self._plan, self._device, self._tags = plan, device, tags
        self._clock, self._log = clock, log
        self._swap, self._models, self._is_guarded = swap, models, is_guarded
        self._ledger = Ledger(state_dir / "fleet")
        self._limits = Limits(plan.bandwidth)
        self._link = Link(plan.link, self._on_publishes, clock, log)
        self._news: dict[str, bytes] = {}
        """What was announced last for each model, and not handled yet."""
        self._has_news = asyncio.Event()
        self._keys: list[Any] = []
        self._context: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        link = asyncio.get_running_loop().create_task(self._link.run(), name="link:fleet")
        try:
            await in_one_shot_thread("edged-fleet", self._begin, lambda _: None)
            self.report()
            while True:
                await self._has_news.wait()
                self._has_news.clear()
                while self._news:
                    model = next(iter(self._news))
                    await self._handle(model, self._news.pop(model))
        finally:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    def _begin(self) -> None:
        self._ledger.load()
        try:
            self._keys = public_keys(self._plan.keys.read_bytes())
        except (OSError, BadKey) as error:
            self._log.error("fleet_keys", path=str(self._plan.keys), reason=str(error))
        self._context = ssl.create_default_context(cafile=str(self._plan.ca) if self._plan.ca is not None else None)

    def _on_publishes(self, batch: list[Inbound]) -> None:
        start = f"{self._plan.topic}/model/".encode()
        for topic, payload, *_, receipt, _properties in batch:
            receipt.done()
            model = topic.removeprefix(start).decode(errors="replace")
            if topic.startswith(start) and payload and model in self._models():
                self._news[model] = payload
                self._has_news.set()

    async def _handle(self, model: str, payload: bytes) -> None:
        entry = self._ledger.get(model)
        try:
            offer = read(payload, self._keys, self._plan.topic, model, self._plan.sources, entry.known, self._clock.utc() / 1e9)
        except Refused as error:
            await self._show(model, "refused", str(error))
            return
        if offer.digest == entry.digest and entry.state in FINAL:
            self.report()
            return
        one = offer.announcement
        taken = msgspec.structs.replace(entry, counter=one.counter, digest=offer.digest)
        if not is_for(one, self._device, self._tags):
            state = "running" if entry.running is not None and entry.running.sha256 == one.sha256 else "not_for_us"
            await self._put(model, msgspec.structs.replace(taken, state=state, reason=""))
            return
        wanted = _version(_left(taken, one.version)) if one.back else one.version
        if not await self._put(model, msgspec.structs.replace(taken, wanted=wanted, state="fetching", reason="")):
            return
        backoff = Backoff(*RETRY_S, RETRY_S[0])
        while not self._is_stale(model):
            try:
                file = _left(taken, one.version) if one.back else await self._fetched(model, one)
                return await self._try(model, file)
            except Cancelled:
                return
            except Refused as error:
                return await self._show(model, "failed", str(error))
            except (Failed, OSError) as error:
                await self._show(model, "waiting", str(error))
            await self._pause(backoff.next_s())

    def _is_stale(self, model: str) -> bool:
        """Whether something else was announced meanwhile."""
        return model in self._news

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._has_news.wait(), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return

    async def _fetched(self, model: str, one: Announcement) -> File:
        """The file that is announced, on this disk. Raises Failed, Refused, Cancelled, OSError."""
        await self._show(model, "fetching", "")
        file = File(one.version, one.sha256, one.size, one.url.lower().split("?")[0].endswith(".tar"))
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

    async def _try(self, model: str, file: File | None) -> None:
        before = after = self._ledger.get(model)
        if _digest(file) != _digest(before.running):
            after = msgspec.structs.replace(before, running=file, before=before.running, state="trying", reason="")
            if not await self._put(model, after):
                return
        why = await self._swap(model, f"{model} {_version(file)} was announced")
        if why:
            back = msgspec.structs.replace(after, running=before.running, before=before.before, state="failed", reason=why)
            await self._put(model, back)
        elif self._is_guarded(model):
            await self._show(model, "guarded", "")
        else:
            await self._show(model, "running", "")

    async def guard_ended(self, model: str, why: str) -> None:
        """The guard of a model has judged: `why` it goes back, or nothing is wrong."""
        entry = self._ledger.get(model)
        if entry.state != "guarded":
            return
        if why:
            entry = msgspec.structs.replace(entry, running=entry.before, before=None)
        state = "went_back" if why else "running"
        await self._put(model, msgspec.structs.replace(entry, state=state, reason=why))

    async def _show(self, model: str, state: str, reason: str) -> None:
        await self._put(model, msgspec.structs.replace(self._ledger.get(model), state=state, reason=reason))

    async def _put(self, model: str, entry: Entry) -> bool:
        """Keeps it on disk, then reports it. Whether it is kept: without that nothing is begun."""
        try:
            await in_one_shot_thread("edged-fleet", partial(self._ledger.put, model, entry), lambda _: None)
        except OSError as error:
            reason = f"{self._ledger.root}: {error.strerror}"
            self._ledger.entries[model] = msgspec.structs.replace(self._ledger.get(model), state="waiting", reason=reason)
            self._log.error("fleet", model=model, state="waiting", reason=reason)
            self.report()
            return False
        level = self._log.warning if entry.state in ("refused", "waiting", "failed", "went_back") else self._log.info
        level("fleet", model=model, state=entry.state, wanted=entry.wanted, running=_version(entry.running), reason=entry.reason)
        self.report()
        return True

    def report(self) -> None:
        """What this device runs and wants, retained."""
        models = {name: facts(self._ledger.get(name)) for name in sorted(self._models())}
        said = {
            "device": self._device,
            "time": rfc3339(self._clock.utc()),
            "version": __version__,
            "tags": dict(self._tags),
            "models": models,
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
    fetched = fetch(url, file.sha256, file.size, ledger.root, context, limits, is_cancelled)
    if file.is_tar:
        unpack(fetched, path)
        fetched.unlink()
    else:
        fetched.rename(path)
