"""The spool at work: when to write, the thread that does it, and who is told that it is done.

Messages are gathered and written with one sync: at 64 KiB, when a quarter of a link's receive maximum waits for it, when an
input waits for it and no other came for 500 ms (its broker may be waiting for us), else after 2 s: a sync writes whole pages
and a journal, however little is new. A power cut thus costs inputs that nobody keeps, serial ones, 2 s at most.
Receipts are let go, and messages counted as spooled, after the sync that covers them. At most one thread, one job at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.clock import Clock
from edged.config.units import KIB
from edged.records import NONE, Message
from edged.spool.log import Entry, Log
from edged.spool.settings import SpoolSettings
from edged.spool.store import Disk, Job, Store
from edged.transport.one_shot import in_one_shot_thread

COMMIT_BYTES = 64 * KIB
COMMIT_S = 2.0
SILENCE_S = 0.5
TICK_S = 1.0
BURST_NS = 100_000_000
"""A rate that was not used is made up for within this time, no more."""


class Spool:
    """All logs, and the one task that works for them. Between `open` and `close`, `run` must be running."""

    def __init__(self, settings: SpoolSettings, disk: Disk, clock: Clock, log: Any, boot: bytes) -> None:
        self.settings = settings
        self.store = Store(settings.max_bytes, settings.drops_newest, boot)
        self._disk = disk
        self._clock = clock
        self._log = log
        self._backlogs: dict[str, Backlog] = {}
        self._work = asyncio.Event()
        self._is_commit_due = False
        self._latest = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._receipts = 0
        self._many_receipts = max(1, settings.receive_maximum // 4)
        self._is_closing = False
        self._said = ""

    def configure(self, settings: SpoolSettings) -> None:
        """Goes on with other bounds and another order; folder and mode stay."""
        self.settings = settings
        self.store.max_bytes, self.store.drops_newest = settings.max_bytes, settings.drops_newest
        for backlog in self._backlogs.values():
            backlog.configure(settings)
        for lost in self.store.overflowing():
            self._refuse(lost, "spool_full")

    def open(self) -> None:
        """Finds what an earlier process left. Blocks; never fails."""
        self.store.recover(self._disk)
        for log in self.store.logs.values():
            if log.waiting or log.torn:
                self._log.info("spool", broker=log.broker, waiting=log.waiting, bytes=log.bytes, torn=log.torn)
        self._say()

    def backlog(self, broker: str) -> Backlog:
        """What the link to `broker` works with."""
        return self._backlogs.setdefault(broker, Backlog(self, self.store.log(broker), self.settings, self._clock))

    async def run(self) -> None:
        """Does what is to be done, until `close`."""
        self._tick()
        while True:
            await self._work.wait()
            self._work.clear()
            while (job := self.store.next_job(self._clock.utc(), self._is_commit_due)) is not None:
                if job.writes:
                    self._begin_commit()
                await in_one_shot_thread("edged-spool", lambda job=job: job.perform(self._disk), lambda _: None)  # type: ignore[misc]
                self._finish(job)
            if self._is_closing:
                return

    async def close(self, task: asyncio.Task[None], timeout_s: float) -> None:
        """Writes what waits and ends `run`, which is `task`. What cannot be written within `timeout_s` is counted as
        `shutdown`; its inputs stay unacknowledged."""
        self._is_closing = True
        self.store.tick()
        self._commit()
        await asyncio.wait({task}, timeout=timeout_s)
        for timer in (self._timer, self._ticker):
            if timer is not None:
                timer.cancel()
        for log in self.store.logs.values():
            while log.pending:
                self._refuse(log.drop_pending(), "shutdown")
        if task.done():
            self._disk.close()

    @property
    def state(self) -> tuple[str, str]:
        """`idle`: nothing is kept; `storing`: more comes than goes; `replaying`: a broker is back; `failing`: with the reason."""
        if self.store.fault:
            return "failing", f"{self.settings.path}: {self.store.fault}"
        kept = [log for log in self.store.logs.values() if not log.is_empty]
        if any(log.is_wanted for log in kept):
            return "replaying", ""
        return ("storing" if kept else "idle"), ""

    def put(self, log: Log, message: Message, is_copy: bool) -> Entry | None:
        """See `Store.put`."""
        entry = self.store.put(log, message, self._clock.offset(), is_copy)
        for lost in self.store.overflowing():
            self._refuse(lost, "spool_full")
        if entry is None or entry.is_done:
            return entry
        is_waited_for = message.receipt is not NONE
        self._receipts += is_waited_for
        self._plan_commit(is_waited_for)
        if self._ticker is None and not self._is_closing:
            self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return entry

    def work(self) -> None:
        """There is something to write or to read."""
        self._work.set()

    def _plan_commit(self, is_waited_for: bool) -> None:
        """A message has come, or is still to be written; `is_waited_for`: by its input."""
        if self._is_closing or self.store.bytes_to_come >= COMMIT_BYTES or self._receipts >= self._many_receipts:
            self._commit()
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._latest = now + COMMIT_S
        elif is_waited_for:
            self._timer.cancel()
        else:
            return
        due = min(self._latest, now + SILENCE_S) if is_waited_for else self._latest
        self._timer = loop.call_at(due, self._commit)

    def _commit(self) -> None:
        self._is_commit_due = True
        self._work.set()

    def _begin_commit(self) -> None:
        """Everything that waited is on its way to the disk, as far as it fits into one file."""
        self._is_commit_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._receipts = self.store.receipts
        if self.store.pending_bytes:
            self._plan_commit(self._receipts > 0)

    def _tick(self) -> None:
        self._ticker = None
        if not self.store.is_idle and not self._is_closing:
            self.store.tick()
            if self.store.fault:
                self._commit()
            self._work.set()
            self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _finish(self, job: Job) -> None:
        for entry in self.store.finish(job):
            message, entry.message = entry.message, None
            assert message is not None
            message.let_go()
            if not entry.is_copy and message.account is not None:
                message.account.queued -= 1
                message.account.spooled += 1
        for lost in self.store.overflowing():
            self._refuse(lost, "spool_full")
        self._say()
        if self.store.pending_bytes and self._timer is None and not self.store.fault:  # their file was gone
            self._plan_commit(self.store.receipts > 0)
        for backlog in self._backlogs.values():
            backlog.look()

    def _refuse(self, entry: Entry, reason: str) -> None:
        """The spool does not take a message after all. Its input is not settled: it will come again."""
        message, entry.message = entry.message, None
        assert message is not None
        if entry.is_copy:
            message.record = None
        elif message.account is not None:
            message.account.queued -= 1
            message.account.drops.add(reason, topic=message.topic.decode(errors="replace"))

    def _say(self) -> None:
        """Logs it when the disk begins or ceases to refuse."""
        for name, count in self.store.gone.items():
            self._log.error("spool", state="file gone", file=str(self.settings.path / name), lost=count)
        self.store.gone.clear()
        fault = self.store.fault
        if fault != self._said:
            self._said = fault
            if fault:
                self._log.error(
                    "spool", state="failing", reason=f"{self.settings.path}: {fault}", waiting_bytes=self.store.pending_bytes
                )
            else:
                self._log.info("spool", state="ok")


class Backlog:
    """The spool as one link sees it. `is_ready`: `take` would give something now; `on_ready` is called when that begins."""

    def __init__(self, spool: Spool, log: Log, settings: SpoolSettings, clock: Clock) -> None:
        self.log = log
        self.is_always = settings.is_always
        self.is_ready = False
        self.on_ready: Callable[[], None] | None = None
        self._spool = spool
        self._clock = clock
        self.configure(settings)
        self._next_at = 0
        self._timer: asyncio.TimerHandle | None = None

    def configure(self, settings: SpoolSettings) -> None:
        self.is_strict = settings.is_strict
        self._interval_ns = int(1e9 / settings.replay_rate) if settings.replay_rate else 0

    @property
    def is_behind(self) -> bool:
        """Whether something is kept that has not been taken yet."""
        return self.log.is_behind

    def store(self, message: Message) -> None:
        """Takes a message over: it is `queued` on its account until it is on disk, then `spooled`, and the account is closed."""
        account = message.account
        if account is not None:
            account.queued += 1
        message.record = None
        if self._spool.put(self.log, message, is_copy=False) is None:
            if account is not None:
                account.queued -= 1
                account.drops.add("overflow", topic=message.topic.decode(errors="replace"))
            message.let_go()
        self.look()

    def keep(self, message: Message) -> None:
        """Keeps a copy of a message that waits elsewhere. Its input is settled when the copy is on disk."""
        message.record = self._spool.put(self.log, message, is_copy=True)

    def hand_over(self, message: Message) -> None:
        """Takes a message that waited elsewhere until now, where it is counted no more."""
        entry, account = message.record, message.account
        if entry is None:
            self.store(message)
            return
        entry.release()
        if account is not None and entry.is_stored:
            account.spooled += 1
        elif account is not None:
            account.queued += 1
        self.look()

    def begin(self) -> None:
        """The broker is there: what is kept may go."""
        self.log.is_wanted = True
        self.look()

    def pause(self) -> None:
        """The broker is gone."""
        self.log.is_wanted = self.is_ready = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Something may have come: is there anything to take?"""
        self._timer = None
        if self.log.is_wanted and not self.is_ready and self.log.is_behind:
            self.is_ready = True
            if self.on_ready is not None:
                self.on_ready()

    def take(self, now: int) -> Message | None:
        """The next message to be replayed; None for now if it must be read first, or the rate does not allow it yet."""
        if self._interval_ns and now < self._next_at:
            self.is_ready = False
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later((self._next_at - now) / 1e9, self.look)
            return None
        message = self.log.take(now, self._clock.utc())
        if message is None:
            message = self.log.take_pending()
            if message is None:
                self.is_ready = False
                if self.log.is_behind:
                    self._spool.work()
                return None
            message.replayed = True
            message.retain = False
            if message.account is not None:
                message.account.queued -= 1
        self._next_at = max(self._next_at, now - BURST_NS) + self._interval_ns
        return message


def boot_id() -> bytes:
    """This boot of the machine, 16 bytes: the monotonic clock means something within one boot only."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return b"\0" * 16
