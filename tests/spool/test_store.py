"""The store: byte cap and policy, a disk that is full or fails, and power cuts at any step, on many random walks."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from edged.records import Message
from edged.spool.log import EXTENT, Entry
from edged.spool.store import MAX_BYTES, TAIL_BYTES, Store
from tests.fakes.disk import FakeDisk, PowerCut
from tests.spool.shelf import fill, kept, make, message, number, take_all, tidy, work
from tests.support.scale import scale

WALKS = scale("spool walks")
STEPS = 150


# The cap


def test_the_oldest_give_way() -> None:
    disk = FakeDisk()
    store, log = make(disk, 1 << 20)
    for start in range(0, 20_000, 1000):
        fill(store, log, disk, range(start, start + 1000))
        assert sum(size for _, size in disk.list()) <= (1 << 20) + 2 * EXTENT
        assert log.balance() == 0
    numbers = [number(m) for m in take_all(store, log, disk)]
    assert numbers == list(range(numbers[0], 20_000))
    assert numbers[0] == log.drops.by_reason["overflow"]
    assert len(numbers) > 4000


def test_the_newest_give_way_and_full_recovers() -> None:
    disk = FakeDisk()
    store, log = make(disk, 1 << 20, drops_newest=True)
    taken_in = 0
    while store.put(log, message(taken_in), 0, False) is not None:
        taken_in += 1
        work(store, disk)
    assert store.put(log, message(taken_in), 0, False) is None
    taken = take_all(store, log, disk)
    assert [number(m) for m in taken] == list(range(taken_in))
    for m in taken[: taken_in // 2]:
        kept(m).done()
    tidy(store, disk)
    assert store.put(log, message(taken_in), 0, False) is not None
    assert log.drops.total == 0


def test_brokers_share_the_cap_and_the_oldest_of_all_gives_way() -> None:
    disk = FakeDisk()
    store, main = make(disk, 1 << 20)
    gone = store.log("gone")
    fill(store, gone, disk, range(2000))
    for n in range(20_000):
        store.put(main, message(n), 0, False)
        if n % 10 == 0:
            work(store, disk, created=2)
    work(store, disk, created=2)
    assert gone.waiting == 0
    assert gone.drops.by_reason == {"overflow": 2000}
    assert [name for name, _ in disk.list() if name.startswith("gone/") and name.endswith(".log")] == []


def test_records_of_a_broker_that_is_configured_no_more_stay() -> None:
    disk = FakeDisk()
    store, _ = make(disk)
    fill(store, store.log("gone"), disk, range(100))
    store, main = make(disk)
    fill(store, main, disk, range(10))
    tidy(store, disk)
    assert store.log("gone").waiting == 100


def test_what_was_on_its_way_is_not_counted_twice_when_its_file_gives_way() -> None:
    disk = FakeDisk()
    store, log = make(disk, 1 << 20)
    fill(store, log, disk, range(1000))
    log.is_wanted = True
    work(store, disk)
    taken = [log.take(1, 1) for _ in range(10)]
    work(store, disk)
    taken = [m for _ in range(10) if (m := log.take(1, 1)) is not None]
    fill(store, log, disk, range(1000, 20_000))
    assert log.balance() == 0
    before = log.drops.total
    for m in taken:
        assert m is not None
        kept(m).done()
    assert (log.acked, log.drops.total, log.balance()) == (len(taken), before, 0)


# A disk that takes nothing


def test_no_room_and_room_again() -> None:
    disk = FakeDisk(room=3 * EXTENT)
    store, log = make(disk)
    n = 0
    while not store.fault:
        store.put(log, message(n), 0, False)
        work(store, disk)
        n += 1
    durable = log.stored
    assert 1000 < durable < n
    assert store.fault == "No space left on device"
    assert len(log.pending) == n - durable
    assert [number(m) for m in take_all(store, log, disk)] == list(range(durable))
    disk.room = None
    store.tick()
    work(store, disk)
    assert store.fault == ""
    assert [number(m) for m in take_all(store, log, disk)] == list(range(durable, n))


def test_what_waits_in_memory_is_bounded() -> None:
    disk = FakeDisk(room=0)
    store, log = make(disk)
    lost: list[Entry] = []
    for n in range(5000):
        store.put(log, message(n), 0, False)
        work(store, disk)
        lost += store.overflowing()
        assert store.pending_bytes <= TAIL_BYTES
    first = log.pending[0].message
    assert first is not None
    assert number(first) == len(lost) > 1000
    assert list(disk.list()) == []


def test_files_that_somebody_removed_cost_what_was_in_them() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(30))
    disk.cache.clear()
    fill(store, log, disk, range(30, 40))
    assert (store.fault, list(store.gone.values())) == ("", [30])
    assert [number(m) for m in take_all(store, log, disk)] == list(range(30, 40))
    disk.cache.clear()
    for n in range(40, 50):
        store.put(log, message(n), 0, False)
    work(store, disk)
    assert log.drops.by_reason == {"damaged": 30}  # the ten are on their way to the broker
    assert log.balance() == 0


def test_files_that_somebody_removed_are_noticed_by_whoever_reads_them() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(30))
    disk.cache.clear()
    assert take_all(store, log, disk) == []
    tidy(store, disk)
    assert (store.fault, log.drops.by_reason, log.waiting, store.bytes) == ("", {"damaged": 30}, 0, 0)
    assert store.is_idle


def test_a_fault_ends_when_what_failed_is_done() -> None:
    class Stubborn(FakeDisk):
        refuses = True

        def remove(self, names: Iterable[str]) -> None:
            if self.refuses:
                raise OSError(errno.EROFS, "Read-only file system")
            super().remove(names)

    disk = Stubborn()
    store, log = make(disk)
    fill(store, log, disk, range(10))
    for one in take_all(store, log, disk):
        assert one.record is not None
        kept(one).done()
    tidy(store, disk)
    assert store.fault == "Read-only file system"
    disk.refuses = False
    tidy(store, disk)
    assert store.fault == ""


def test_a_file_too_large_to_be_ours_is_set_aside_unread() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(10))
    [name] = [name for name, _ in disk.list() if name.endswith(".log")]
    disk.cache["main/00000000000000ff-1.log"] = bytearray(MAX_BYTES + 1)
    disk.cache["main/done"] = bytearray(MAX_BYTES + 1)
    again, log = make(disk)
    work(again, disk)
    assert "main/00000000000000ff-1.log.bad" in dict(disk.list())
    assert [number(m) for m in take_all(again, log, disk)] == list(range(10))
    assert name in dict(disk.list())


def test_a_disk_that_became_read_only() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(100))
    disk.bad_writes = 3
    for n in range(100, 104):
        store.put(log, message(n), 0, False)
        store.tick()
        work(store, disk)
    assert store.fault == ""
    assert [number(m) for m in take_all(store, log, disk)] == list(range(104))


def test_after_a_failed_sync_the_file_is_left_and_the_records_go_to_a_new_one() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(100))
    disk.bad_syncs = 1
    for n in range(100, 110):
        store.put(log, message(n), 0, False)
    assert work(store, disk) == []
    assert store.fault == "Input/output error"
    store.tick()
    assert len(work(store, disk)) == 10
    assert len([name for name, _ in disk.list() if name.endswith(".log")]) == 2
    for found in (disk, disk.crash()):
        again, other = make(found)
        assert [number(m) for m in take_all(again, other, found)] == list(range(110))
        assert other.drops.total == 0


# Random walks: whatever was said to be durable is delivered, or its drop was counted, on every seed.


class Walk:
    """One life after another of a store, between power cuts. `owed`: said to be durable, and neither acknowledged nor
    dropped since. `acked`: may come again after a power cut."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = FakeDisk(self.rng)
        self.owed: set[int] = set()
        self.acked: set[int] = set()
        self.next = 0
        self.begin()

    def begin(self) -> None:
        self.store, self.log = make(self.disk, 64 << 20)
        self.log.segment_bytes = EXTENT
        self.log.is_wanted = True
        self.flying: list[Message] = []
        self.copies: list[tuple[int, Entry]] = []
        self.written: dict[int, int] = {}
        self.check()

    def check(self) -> None:
        assert self.log.balance() == 0
        assert self.log.waiting >= len(self.log.held) >= 0
        assert self.log.alone == sum(not e.is_copy for e in self.log.pending)

    def step(self) -> None:
        actions = [
            self.put,
            self.put,
            self.put,
            self.keep,
            self.work,
            self.work,
            self.take,
            self.ack,
            self.release,
            self.tick,
            self.fail,
        ]
        self.rng.choice(actions)()
        self.check()

    def put(self) -> None:
        for _ in range(self.rng.choice([1, 1, 5, 50])):
            self._put(False)

    def keep(self) -> None:
        self._put(True)

    def _put(self, is_copy: bool) -> None:
        entry = self.store.put(self.log, message(self.next, self.rng.choice([50, 300, 5000])), 0, is_copy)
        assert entry is not None
        if is_copy:
            self.copies.append((self.next, entry))
        self.next += 1

    def work(self) -> None:
        for entry in work(self.store, self.disk, created=self.next):
            assert entry.message is not None
            if not entry.is_done:
                self.owed.add(number(entry.message))

    def take(self) -> None:
        for _ in range(self.rng.choice([1, 10])):
            one = self.log.take(1, 1)
            if one is not None:
                self.flying.append(one)

    def ack(self) -> None:
        self.rng.shuffle(self.flying)
        while self.flying and self.rng.random() < 0.9:
            one = self.flying.pop()
            kept(one).done()
            self._struck(number(one))
        if self.copies and self.rng.random() < 0.5:
            n, entry = self.copies.pop(self.rng.randrange(len(self.copies)))
            entry.done()
            self._struck(n)

    def _struck(self, n: int) -> None:
        self.owed.discard(n)
        self.acked.add(n)

    def release(self) -> None:
        if self.flying and self.rng.random() < 0.3:
            kept(self.flying.pop()).release()
        if self.copies and self.rng.random() < 0.3:
            self.copies.pop()[1].release()

    def tick(self) -> None:
        self.store.tick()
        self.work()

    def fail(self) -> None:
        match self.rng.randrange(4):
            case 0:
                self.disk.bad_syncs = self.rng.randrange(3)
            case 1:
                self.disk.bad_writes = self.rng.randrange(3)
            case 2:
                self.disk.room = self.rng.choice([None, None, sum(s for _, s in self.disk.list()) + self.rng.randrange(EXTENT)])
            case _:
                self.disk.writeback()

    def run(self) -> None:
        for _ in range(STEPS):
            if self.rng.random() < 0.05:
                self.disk.cut_in = self.rng.randrange(20)
            try:
                self.step()
            except PowerCut:
                self.disk = self.disk.crash()
                self.begin()
        self.finish()

    def finish(self) -> None:
        """All that is here can be taken; and after one last power cut, all that is owed."""
        self.disk.cut_in = None
        take_all(self.store, self.log, self.disk)
        assert not self.log.waiting > len(self.log.held)
        self.disk = self.disk.crash()
        self.disk.room = None
        store, log = make(self.disk, 64 << 20)
        taken = [number(m) for m in take_all(store, log, self.disk)]
        assert len(taken) == len(set(taken)) or self.acked
        assert self.owed <= set(taken), sorted(self.owed - set(taken))[:5]
        assert log.balance() == 0
        # Pages of a batch that was being written reach the disk in any order: a hole in it counts as damage.
        assert set(log.drops.by_reason) <= {"damaged"}


@pytest.mark.parametrize("seed", range(WALKS))
def test_nothing_durable_is_lost(seed: int) -> None:
    Walk(seed).run()


def test_a_start_on_an_empty_disk_writes_nothing() -> None:
    disk = FakeDisk()
    store, _ = make(disk)
    tidy(store, disk)
    assert isinstance(store, Store)
    assert list(disk.list()) == []
    assert disk.written == 0


def test_after_a_crash_the_newest_of_each_topic_is_what_is_held_back() -> None:
    disk = FakeDisk()
    store, _ = make(disk)
    log = store.log("main.held")
    for n, topic, due in ((1, b"a", 90), (2, b"b", 70), (3, b"a", 80)):
        one = replace(message(n), topic=topic, retain=topic == b"a")
        assert store.put(log, one, 0, True, due) is not None
        work(store, disk)
    after, _ = make(disk)
    again = after.log("main.held")
    left = after.read_held(disk, again, 5000, 9000)
    assert [(t, number(m), m.retain, m.replayed) for t, m in left.items()] == [(b"b", 2, False, False), (b"a", 3, True, False)]
    assert [m.record is not None and kept(m).not_before for m in left.values()] == [70, 80]
    assert (again.waiting, again.superseded, again.balance()) == (2, 1, 0)
    for one in left.values():
        one.end()
    tidy(after, disk)
    assert [name for name, _ in disk.list() if name.endswith(".log")] == []
