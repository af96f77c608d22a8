"""The spool on a loop: when it writes, when receipts are let go, accounts, the rate, and a disk that takes nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from edged.clock.clock import Clock
from edged.records import Message
from edged.spool.disk import FileDisk
from edged.spool.settings import SpoolSettings
from edged.spool.spool import COMMIT_S, SILENCE_S, Backlog, Spool, boot_id
from edged.spool.store import Disk
from edged.telemetry import PublishCounts
from tests.fakes.disk import FakeDisk
from tests.spool.shelf import BOOT, kept, message, number
from tests.support.pause import pause_on_loop

DEADLINE_S = 10.0


@asynccontextmanager
async def running(disk: Disk, **more: Any) -> AsyncIterator[Spool]:
    spool = Spool(SpoolSettings(Path("/spool"), 1 << 24, **more), disk, Clock(), structlog.get_logger(), BOOT)
    spool.open()
    task = asyncio.get_running_loop().create_task(spool.run())
    try:
        yield spool
    finally:
        await spool.close(task, 5.0)
        await task


async def until(fact: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not fact():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await pause_on_loop(0.002, "between two looks")


def send(backlog: Backlog, account: PublishCounts, numbers: range, *, receipt: bool = False, size: int = 100) -> list[Message]:
    sent = [message(n, size, account, receipt) for n in numbers]
    for one in sent:
        account.made += 1
        backlog.store(one)
    return sent


async def drain(backlog: Backlog) -> list[Message]:
    """Everything, acknowledged at once."""
    taken: list[Message] = []

    def take() -> None:
        while backlog.is_ready and (one := backlog.take(Clock.now())) is not None:
            taken.append(one)
            if one.record is not None:
                kept(one).done()

    backlog.on_ready = take
    backlog.begin()
    await until(lambda: not backlog.is_behind)
    return taken


async def test_receipts_are_let_go_after_the_sync() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        sent = send(spool.backlog("main"), account, range(5), receipt=True)
        receipts = [m.receipt for m in sent]
        assert (account.queued, account.spooled, account.balance()) == (5, 0, 0)
        assert all(r.owed == 1 for r in receipts)
        await until(lambda: account.spooled == 5)
        assert all(r.owed == 0 for r in receipts)
        assert (account.queued, account.balance()) == (0, 0)
        assert spool.state == ("storing", "")
        assert [number(m) for m in await drain(spool.backlog("main"))] == list(range(5))
        await until(lambda: spool.state == ("idle", ""))


@pytest.mark.parametrize(
    ("count", "size", "receipt"),
    [(600, 100, False), (16, 100, True)],
    ids=["64 KiB", "a quarter of the receive maximum"],
)
async def test_written_at_once(count: int, size: int, receipt: bool) -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        started = asyncio.get_running_loop().time()
        send(spool.backlog("main"), account, range(count), size=size, receipt=receipt)
        await until(lambda: account.spooled > 0)
        assert asyncio.get_running_loop().time() - started < DEADLINE_S / 2
        await until(lambda: account.spooled == count)


async def trickle(spool: Spool, account: PublishCounts, count: int, gap_s: float, *, receipt: bool) -> None:
    for n in range(count):
        send(spool.backlog("main"), account, range(n, n + 1), receipt=receipt)
        await pause_on_loop(gap_s, "results come one by one")


@pytest.mark.parametrize("gap_s", [0.0, SILENCE_S / 10], ids=["at once", "one by one"])
async def test_written_together_when_nobody_waits(gap_s: float) -> None:
    """A page is written whole, and a journal with it, however little is new."""
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        started = asyncio.get_running_loop().time()
        await trickle(spool, account, 20, gap_s, receipt=False)
        await until(lambda: account.spooled == 20)
        assert asyncio.get_running_loop().time() - started > COMMIT_S - 0.1
    assert disk.commits == 1


async def test_inputs_that_keep_coming_are_gathered_up_to_a_quarter_of_the_receive_maximum() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk, receive_maximum=80) as spool:
        await trickle(spool, account, 20, SILENCE_S / 10, receipt=True)
        await until(lambda: account.spooled == 20)
    assert disk.commits == 1


async def test_an_input_after_which_none_comes_does_not_wait_for_others() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        started = asyncio.get_running_loop().time()
        send(spool.backlog("main"), account, range(1), receipt=True)
        send(spool.backlog("main"), account, range(1, 9))  # nobody waits for these
        await until(lambda: account.spooled == 9)
        assert SILENCE_S - 0.1 < asyncio.get_running_loop().time() - started < COMMIT_S


async def test_a_stop_writes_what_waits() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        send(spool.backlog("main"), account, range(10))
    assert (account.spooled, account.balance()) == (10, 0)
    async with running(disk) as spool:
        assert [number(m) for m in await drain(spool.backlog("main"))] == list(range(10))
    assert [name for name, _ in disk.list() if name.endswith(".log")] == []


async def test_a_disk_without_room() -> None:
    disk, account = FakeDisk(room=0), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        sent = send(backlog, account, range(3000), receipt=True)
        receipts = [m.receipt for m in sent]
        await until(lambda: spool.state[0] == "failing")
        assert "No space left on device" in spool.state[1]
        lost = account.drops.by_reason["spool_full"]
        assert lost > 1000
        assert account.balance() == 0
        assert all(r.owed == 1 for r in receipts)  # not on disk, not delivered: the inputs come again
        disk.room = None
        await until(lambda: account.spooled == 3000 - lost)
        assert spool.state == ("storing", "")
        assert sum(r.owed for r in receipts) == lost
        assert [number(m) for m in await drain(backlog)] == list(range(lost, 3000))


async def test_what_is_refused_while_the_broker_is_there_is_settled() -> None:
    """The broker has no reason to send these inputs again: unsettled, they would stop all that come after them."""
    disk, account = FakeDisk(room=0), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        backlog.begin()
        sent = [message(n, 100, account, True) for n in range(3000)]
        receipts = [m.receipt for m in sent]
        for one in sent:
            account.made += 1
            backlog.store(one)
        lost = account.drops.by_reason["spool_full"]
        assert lost > 1000
        assert [r.owed for r in receipts] == [0] * lost + [1] * (3000 - lost)
        assert account.balance() == 0


async def test_room_for_those_who_can_wait() -> None:
    disk, account = FakeDisk(room=0), PublishCounts("p")
    told: list[bool] = []
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        backlog.on_room = lambda: told.append(backlog.has_room)
        assert backlog.room(10 << 20) == 1  # nothing waits: one goes, however large
        assert backlog.room(1000) == 524
        send(backlog, account, range(1), size=2 << 20)  # more than what may wait
        assert backlog.room(1) < 1
        await until(lambda: backlog.is_failing)
        assert account.drops.total == 0
        disk.room = None
        await until(lambda: account.spooled == 1)
        assert told[-1]
        assert backlog.room(1000) == 524


async def test_what_the_spool_could_never_hold_costs_nothing_else() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        spool.store.max_bytes = 1 << 20
        backlog = spool.backlog("main")
        send(backlog, account, range(10))
        await until(lambda: account.spooled == 10)
        send(backlog, account, range(10, 11), size=1 << 20)
        assert account.drops.by_reason == {"overflow": 1}
        assert [number(m) for m in await drain(backlog)] == list(range(10))


async def test_files_that_somebody_removed_during_an_outage(tmp_path: Path) -> None:
    account = PublishCounts("p")
    with capture_logs() as logs:
        async with running(FileDisk(tmp_path / "spool")) as spool:
            backlog = spool.backlog("main")
            send(backlog, account, range(10))
            await until(lambda: account.spooled == 10)
            (tmp_path / "spool").rename(tmp_path / "gone")  # at once: the spool writes meanwhile
            shutil.rmtree(tmp_path / "gone", ignore_errors=True)
            [late] = send(backlog, account, range(10, 11), receipt=True)
            receipt = late.receipt
            await until(lambda: account.spooled == 11)
            assert receipt.owed == 0
            assert spool.state == ("storing", "")
            assert [number(m) for m in await drain(backlog)] == [10]
            assert (backlog.log.drops.by_reason, backlog.log.balance()) == ({"damaged": 10}, 0)
            await until(lambda: spool.state == ("idle", ""))
    [gone] = [line for line in logs if line.get("state") == "file gone"]
    assert gone["lost"] == 10


async def test_without_room_what_waits_goes_out_from_memory() -> None:
    disk, account = FakeDisk(room=0), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        send(backlog, account, range(100))
        await until(lambda: spool.state[0] == "failing")
        taken = await drain(backlog)
        assert [number(m) for m in taken] == list(range(100))
        assert all(m.replayed and m.account is account for m in taken)
        account.acked += 100  # as the sender would count them
        assert account.balance() == 0


async def test_at_stop_what_no_disk_took_is_counted() -> None:
    disk, account = FakeDisk(room=0), PublishCounts("p")
    async with running(disk) as spool:
        sent = send(spool.backlog("main"), account, range(10), receipt=True)
    assert account.drops.by_reason == {"shutdown": 10}
    assert all(m.receipt.owed == 1 for m in sent)
    assert account.balance() == 0


async def test_full_by_policy_settles_what_it_drops() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk, drops_newest=True) as spool:
        spool.store.max_bytes = 1 << 16
        backlog = spool.backlog("main")
        first = send(backlog, account, range(50))
        await until(lambda: account.spooled == len(first))  # the file has grown to all that is allowed
        late = message(1000, 100, account, receipt=True)
        receipt = late.receipt
        account.made += 1
        backlog.store(late)
        assert receipt.owed == 0
        assert account.drops.by_reason == {"overflow": 1}
        assert account.balance() == 0


async def test_a_copy_is_settled_by_whichever_comes_first() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        early, late = message(1, 100, account, receipt=True), message(2, 100, account, receipt=True)
        receipts = early.receipt, late.receipt
        for one in (early, late):
            account.made += 1
            account.queued += 1
            backlog.keep(one)
        kept(early).done()
        early.let_go()
        await until(lambda: kept(late).is_stored)
        assert [r.owed for r in receipts] == [0, 0]
        assert (account.queued, account.spooled) == (2, 0)  # it still waits where it was
        account.queued -= 1
        account.acked += 1
        account.queued -= 1
        backlog.hand_over(late)
        assert (account.queued, account.spooled, account.balance()) == (0, 1, 0)
        assert [number(m) for m in await drain(backlog)] == [2]


async def test_replay_keeps_to_its_rate() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk, replay_rate=200.0) as spool:
        backlog = spool.backlog("main")
        send(backlog, account, range(100))
        await until(lambda: account.spooled == 100)
        started = asyncio.get_running_loop().time()
        assert len(await drain(backlog)) == 100
        assert asyncio.get_running_loop().time() - started > 0.3  # half a second, less what 100 ms of credit allow


async def test_nothing_is_read_while_the_broker_is_away() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        send(backlog, account, range(100))
        await until(lambda: account.spooled == 100)
        assert not backlog.is_ready
        assert backlog.log.chunk is None
        backlog.begin()
        assert backlog.is_ready
        backlog.pause()
        assert not backlog.is_ready


def test_boot_id() -> None:
    assert len(boot_id()) == 16
    assert boot_id() == boot_id()


def hold(backlog: Backlog, account: PublishCounts, n: int, before: Message | None = None, wait_s: float = 3600.0) -> Message:
    one = message(n, 100, account, receipt=True)
    one.arrival = Clock.now()
    one.retain = True
    backlog.hold(one, Clock.now() + int(wait_s * 1e9), before)
    return one


async def test_the_input_of_what_is_held_back_is_settled_by_the_disk_or_by_the_next() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        backlog.begin()
        first = hold(backlog, account, 1)
        owed = first.receipt
        second = hold(backlog, account, 2, first)
        last = second.receipt
        assert (owed.owed, last.owed) == (0, 1)
        await until(lambda: last.owed == 0)
        assert (backlog.held.stored, backlog.held.superseded) == (1, 0)  # what was superseded in memory was never written
        assert not backlog.is_ready
        assert spool.state == ("idle", "")
        third = hold(backlog, account, 3, second)
        await until(lambda: backlog.held.stored == 2)
        assert (backlog.held.superseded, backlog.held.waiting) == (1, 1)
        third.end()
        assert (backlog.held.acked, backlog.held.waiting, backlog.held.balance()) == (1, 0, 0)


async def test_a_disk_that_takes_nothing_holds_no_input_of_what_is_held_back() -> None:
    disk, account = FakeDisk(room=0), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        first = hold(backlog, account, 1)
        owed = first.receipt
        await until(lambda: spool.state[0] == "failing")
        assert owed.owed == 0
        last = message(2, receipt=True)
        owed = last.receipt
        backlog.hold(last, Clock.now(), first)
        assert owed.owed == 0


async def test_what_a_crash_left_goes_when_its_time_has_come_and_is_no_replay() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        hold(spool.backlog("main"), account, 1, wait_s=0.3)
        await until(lambda: spool.backlog("main").held.stored)
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        assert len(backlog.left) == 1
        (one,) = await asyncio.wait_for(_taken(backlog, 1), DEADLINE_S)
        assert (number(one), one.retain, one.replayed) == (1, True, False)
        assert Clock.now() - one.arrival >= 300_000_000
    async with running(disk) as spool:
        assert not spool.backlog("main").left


async def test_what_a_crash_left_is_superseded_by_a_newer_result() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        hold(spool.backlog("main"), account, 1)
        await until(lambda: spool.backlog("main").held.stored)
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        backlog.supersede(b"other", None)
        assert len(backlog.left) == 1
        hold(backlog, account, 2)
        assert not backlog.left
        await until(lambda: backlog.held.stored == 2)
        assert (backlog.held.superseded, backlog.held.waiting) == (1, 1)


async def test_what_was_held_back_when_its_broker_went_is_a_record_like_others() -> None:
    disk, account = FakeDisk(), PublishCounts("p")
    async with running(disk) as spool:
        backlog = spool.backlog("main")
        one = hold(backlog, account, 1)
        await until(lambda: backlog.held.stored)
        account.made += 1
        backlog.hand_over(one)
        await until(lambda: account.spooled == 1)
        assert (backlog.held.superseded, backlog.held.waiting, account.balance()) == (1, 0, 0)
        (again,) = await drain(backlog)
        assert (number(again), again.retain, again.replayed) == (1, False, True)


async def _taken(backlog: Backlog, count: int) -> list[Message]:
    """So many messages, acknowledged, as soon as they may go."""
    taken: list[Message] = []
    ready = asyncio.Event()
    backlog.on_ready = ready.set
    backlog.begin()
    while len(taken) < count:
        await ready.wait()
        ready.clear()
        while backlog.is_ready and (one := backlog.take(Clock.now())) is not None:
            one.end()
            taken.append(one)
    return taken
