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

from edged.clock.clock import Clock
from edged.notation.units import KIB
from edged.records import NONE, Message
from edged.spool.log import SUPERSEDED, Entry, Log
from edged.spool.settings import HOLDING, SpoolSettings
from edged.spool.store import Disk, Job, Store
from edged.system.one_shot import in_one_shot_thread

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
        self._left: dict[str, dict[bytes, Message]] = {}
        self._work = asyncio.Event()
        self._is_commit_due = False
        self._latest = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._receipts = 0
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
            if log.is_holding:
                left = self.store.read_held(self._disk, log, self._clock.now(), self._clock.utc())
                self._left.setdefault(log.broker, {}).update(left)
        self._say()

    def backlog(self, broker: str) -> Backlog:
        """What the link to `broker` works with."""
        held = f"{broker}{HOLDING}"
        return self._backlogs.setdefault(
            broker,
            Backlog(
                self,
                self.store.log(broker),
                self.store.log(held),
                self._left.setdefault(held, {}),
                self.settings,
                self._clock,
            ),
        )

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
        kept = [log for log in self.store.logs.values() if not log.is_empty and not log.is_holding]
        if any(log.is_wanted for log in kept):
            return "replaying", ""
        return ("storing" if kept else "idle"), ""

    def put(self, log: Log, message: Message, is_copy: bool, not_before: int = 0) -> Entry | None:
        """See `Store.put`."""
        entry = self.store.put(log, message, self._clock.offset(), is_copy, not_before)
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

    def plan_commit(self, message: Message) -> None:
        """A message took the place of another that was still to be written."""
        self._plan_commit(message.receipt is not NONE)

    def _plan_commit(self, is_waited_for: bool) -> None:
        """A message has come, or is still to be written; `is_waited_for`: by its input."""
        many_receipts = max(1, self.settings.receive_maximum // 4)
        if self._is_closing or self.store.bytes_to_come >= COMMIT_BYTES or self._receipts >= many_receipts:
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
            if entry.is_copy:
                continue
            if message.record is not None and message.record is not entry:  # it was held back when its broker went away
                message.record.done(SUPERSEDED)
            if message.account is not None:
                message.account.queued -= 1
                message.account.spooled += 1
        if self.store.fault:  # what is held back waits in memory as well: no input need wait for a disk that takes nothing
            for log in self.store.logs.values():
                for held in log.pending if log.is_holding else ():
                    assert held.message is not None
                    held.message.let_go()
        if self._is_closing and job.writes:
            self.store.tick()  # what became of records by that is noted too
        for lost in self.store.overflowing():
            self._refuse(lost, "spool_full")
        self._say()
        if self.store.pending_bytes and self._timer is None and not self.store.fault:  # their file was gone
            self._plan_commit(self.store.receipts > 0)
        for backlog in self._backlogs.values():
            backlog.look()
            if backlog.on_room is not None:
                backlog.on_room()

    def _refuse(self, entry: Entry, reason: str) -> None:
        """The spool does not take a message after all. While its broker is away the input is not settled: it will come again. A
        broker that is there has no reason to send anything again: unsettled, such inputs would stop all others."""
        message, entry.message = entry.message, None
        assert message is not None
        if entry.is_copy:
            message.record = None
            if entry.log.is_holding:  # it goes on waiting in memory
                message.let_go()
            return
        if message.account is not None:
            message.account.queued -= 1
            message.account.drops.add(reason, topic=message.topic.decode(errors="replace"))
        if entry.log.is_wanted:
            message.end(reason)

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
    """The spool as one link sees it. `is_ready`: `take` would give something now; `on_ready` is called when that begins, and
    `on_room` when the disk has taken something.

    `held` is the log of what `min_interval` holds back, `left` what a crash left of that, by topic, the first to go first: each
    goes out when its time has come, unless a newer result supersedes it."""

    def __init__(
        self, spool: Spool, log: Log, held: Log, left: dict[bytes, Message], settings: SpoolSettings, clock: Clock
    ) -> None:
        self.log = log
        self.held = held
        self.left = left
        self.is_always = settings.is_always
        self.is_ready = False
        self.on_ready: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self._spool = spool
        self._clock = clock
        self.configure(settings)
        self._next_at = 0
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def configure(self, settings: SpoolSettings) -> None:
        self.is_strict = settings.is_strict
        self._interval_ns = int(1e9 / settings.replay_rate) if settings.replay_rate else 0

    @property
    def is_behind(self) -> bool:
        """Whether something is kept that has not been taken yet."""
        return self.log.is_behind

    @property
    def is_failing(self) -> bool:
        """Whether the disk takes nothing."""
        return bool(self._spool.store.fault)

    @property
    def has_room(self) -> bool:
        """See `Store.has_room`."""
        return self._spool.store.has_room

    def room(self, size: int) -> int:
        """See `Store.room`."""
        return self._spool.store.room(size)

    def store(self, message: Message) -> None:
        """Takes a message over: it is `queued` on its account until it is on disk, then `spooled`, and the account is closed."""
        account = message.account
        if account is not None:
            account.queued += 1
        if self._spool.put(self.log, message, is_copy=False) is None:
            if account is not None:
                account.queued -= 1
                account.drops.add("overflow", topic=message.topic.decode(errors="replace"))
            message.end("overflow")
        self.look()

    def keep(self, message: Message) -> None:
        """Keeps a copy of a message that waits elsewhere. Its input is settled when the copy is on disk."""
        message.record = self._spool.put(self.log, message, is_copy=True)

    def hand_over(self, message: Message) -> None:
        """Takes a message that waited elsewhere until now, where it is counted no more. One that was held back is no longer, only
        its broker is away: it becomes a record like others. What a crash left of such is on disk, and waits again."""
        entry, account = message.record, message.account
        if entry is None or (entry.not_before and account is not None):
            self.store(message)
            return
        if entry.not_before:
            self.left = {message.topic: message, **self.left}
            return
        entry.release()
        if account is not None and entry.is_stored:
            account.spooled += 1
        elif account is not None:
            account.queued += 1
        self.look()

    def hold(self, message: Message, due: int, before: Message | None) -> None:
        """Keeps a copy of a message that is held back until `due` (monotonic ns), in the place of the one `before` that it
        supersedes. Its input is settled when the copy is on disk, or when no disk takes it: then it waits in memory alone."""
        self._supersede_left(message.topic)
        offset = self._clock.offset()
        entry = before.record if before is not None else None
        if isinstance(entry, Entry) and self.held.exchange(entry, message, offset, due + offset):
            assert before is not None
            message.record, before.record = entry, None
            self._spool.plan_commit(message)
        else:
            message.record = self._spool.put(self.held, message, is_copy=True, not_before=due + offset)
        if message.record is None or self.is_failing:
            message.let_go()
        if before is not None:
            before.end(SUPERSEDED)

    def supersede(self, topic: bytes, before: Message | None) -> None:
        """A newer result of this topic is there, and nothing is held back any more."""
        self._supersede_left(topic)
        if before is not None:
            before.end(SUPERSEDED)

    def _supersede_left(self, topic: bytes) -> None:
        if self.left and (message := self.left.pop(topic, None)) is not None:
            message.end(SUPERSEDED)

    def take_left(self) -> list[Message]:
        """All that a crash left of what was held back, whether or not its time has come."""
        messages = list(self.left.values())
        self.left.clear()
        return messages

    def _wait_ns(self, message: Message) -> int:
        """How long what a crash left has still to wait: never longer than when it was written, whatever the clock says."""
        entry = message.record
        assert isinstance(entry, Entry)
        return max(0, min(entry.not_before - self._clock.utc(), entry.not_before - entry.arrival_utc))

    def _next_left(self) -> Message | None:
        """What a crash left and may go now; else an alarm is set for the first that may."""
        if not self.left:
            return None
        message = next(iter(self.left.values()))
        if wait_ns := self._wait_ns(message):
            if self._alarm is None:
                self._alarm = asyncio.get_running_loop().call_later(wait_ns / 1e9, self._ring)
            return None
        return message

    def _ring(self) -> None:
        self._alarm = None
        self.look()

    def begin(self) -> None:
        """The broker is there: what is kept may go."""
        self.log.is_wanted = True
        self.look()

    def pause(self) -> None:
        """The broker is gone."""
        self.log.is_wanted = self.is_ready = False
        for timer in (self._timer, self._alarm):
            if timer is not None:
                timer.cancel()
        self._timer = self._alarm = None

    def look(self) -> None:
        """Something may have come: is there anything to take?"""
        self._timer = None
        if self.log.is_wanted and not self.is_ready and (self.log.is_behind or self._next_left() is not None):
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
        message = self._next_left()
        if message is not None:
            del self.left[message.topic]
        else:
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
