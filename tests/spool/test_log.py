"""One log: order, what is held and done, restarts, and damage of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from edged.spool.log import EXTENT, JOURNAL, SUPERSEDED
from edged.spool.segment import HEAD_BYTES, VERSION, find_record
from tests.fakes.disk import FakeDisk
from tests.spool.shelf import BOOT, CAP, fill, kept, make, message, number, take_all, tidy, work

COUNT = 3000
SIZE = 300


def filled(count: int = COUNT, size: int = SIZE) -> FakeDisk:
    """Files as a real run leaves them: several segments of 64 KiB."""
    disk = FakeDisk()
    store, log = make(disk, CAP)
    log.segment_bytes = EXTENT
    fill(store, log, disk, range(count), size)
    assert log.balance() == 0
    return disk


def delivered(disk: FakeDisk) -> tuple[list[int], int]:
    """What a start on this disk replays, and how many it knows it lost."""
    store, log = make(disk)
    numbers = [number(m) for m in take_all(store, log, disk)]
    assert log.balance() == 0
    assert log.waiting == len(numbers) == len(log.held)
    return numbers, log.drops.total


def names(disk: FakeDisk, ending: str = ".log") -> list[str]:
    return [name for name, _ in disk.list() if name.endswith(ending)]


def test_in_order_and_only_once() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(1000))
    assert (log.stored, log.waiting, log.acked) == (1000, 1000, 0)
    taken = take_all(store, log, disk)
    assert [number(m) for m in taken] == list(range(1000))
    assert all(m.replayed and not m.retain and m.qos == 1 and m.arrival == 1000 + number(m) for m in taken)
    assert take_all(store, log, disk) == []
    for m in taken:
        kept(m).done()
        kept(m).done()
    assert (log.stored, log.waiting, log.acked) == (1000, 0, 1000)
    tidy(store, disk)
    assert list(disk.list()) == []
    assert store.is_idle


def test_taken_while_it_is_written() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    seen = []
    for start in range(0, 2000, 100):
        fill(store, log, disk, range(start, start + 100))
        for m in take_all(store, log, disk):
            seen.append(number(m))
            kept(m).done()
        store.tick()
        work(store, disk)
    assert seen == list(range(2000))
    assert log.balance() == log.waiting == 0


def test_restart_goes_on_where_it_was() -> None:
    disk = filled()
    store, log = make(disk)
    for m in take_all(store, log, disk)[:1234]:
        kept(m).done()
    tidy(store, disk)
    numbers, lost = delivered(disk)
    assert numbers == list(range(1234, COUNT))
    assert lost == 0


def test_without_the_note_there_are_only_duplicates() -> None:
    disk = filled()
    store, log = make(disk)
    for m in take_all(store, log, disk)[:1234]:
        kept(m).done()
    tidy(store, disk)
    disk.remove(["main/done"])
    numbers, lost = delivered(disk)
    assert numbers == list(range(numbers[0], COUNT))
    assert 0 < numbers[0] <= 1234
    assert lost == 0


def test_a_note_about_other_files_is_not_believed() -> None:
    disk = filled(100)
    store, log = make(disk)
    for m in take_all(store, log, disk)[:99]:
        kept(m).done()
    tidy(store, disk)
    note = disk.read("main/done", 0, 1000)
    fresh = FakeDisk()
    store, log = make(fresh)
    store.put(log, message(0), 0, False)
    work(store, fresh, created=99)
    fresh.replace("main/done", note)
    assert delivered(fresh) == ([0], 0)


def test_numbers_of_records_that_are_done_are_not_used_again() -> None:
    """The newest file is done and deleted while older ones wait: what comes after the restart must not pass for done."""
    disk = filled(600)
    store, log = make(disk)
    newest = log.segments[-1].first
    for m in take_all(store, log, disk):
        if kept(m).seq >= newest:
            kept(m).done()
    tidy(store, disk)
    store, log = make(disk)
    assert log.segments[-1].end == newest
    fill(store, log, disk, range(1000, 1100))
    assert [number(m) for m in take_all(store, log, disk)] == [*range(newest - 1), *range(1000, 1100)]


def test_a_live_copy_is_not_replayed_but_kept() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    entries = [store.put(log, message(n), 0, True) for n in range(10)]
    work(store, disk)
    assert take_all(store, log, disk) == []
    assert delivered(disk.crash())[0] == list(range(10))
    first, second = entries[0], entries[1]
    assert first is not None
    assert second is not None
    first.done()
    second.release()
    assert [number(m) for m in take_all(store, log, disk)] == [1]
    assert log.balance() == 0


def test_what_is_acknowledged_before_it_is_written_is_not_written() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    entries = [store.put(log, message(n), 0, True) for n in range(10)]
    for entry in entries[2:8]:
        assert entry is not None
        entry.done()
    assert len(work(store, disk)) == 4
    assert (log.stored, log.waiting) == (4, 4)
    assert delivered(disk) == ([0, 1, 8, 9], 0)


def test_age_after_a_reboot_goes_by_utc() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    store.put(log, message(1), 1_000_000, False)  # arrival 1001 monotonic, 1,001,001 UTC
    work(store, disk)
    store, log = make(disk, boot=b"another boot id!")
    log.is_wanted = True
    assert log.take(50, 1_003_001) is None
    work(store, disk)
    taken = log.take(50, 1_003_001)
    assert taken is not None
    assert 50 - taken.arrival == 2000


def test_files_grow_by_extents_and_end_in_zeros() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(20))
    assert [size for name, size in disk.list() if name.endswith(".log")] == [EXTENT]


def test_a_large_commit_adds_no_zeros() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    fill(store, log, disk, range(20), size=JOURNAL // 15, batch=20)
    (segment,) = log.segments
    assert segment.size == segment.filled < EXTENT


def test_a_message_larger_than_a_segment() -> None:
    disk = FakeDisk()
    store, log = make(disk)
    log.segment_bytes = EXTENT
    for n, size in enumerate([100, 300_000, 100]):
        store.put(log, message(n, size), 0, False)
    work(store, disk)
    assert delivered(disk) == ([0, 1, 2], 0)


# Damage


def flip(rng: random.Random, data: bytearray) -> None:
    bit = rng.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8


def test_two_thousand_flipped_bits_one_at_a_time() -> None:
    disk = filled(150, 1000)
    files = names(disk)
    assert len(files) > 2
    rng = random.Random(1)
    for _ in range(2000):
        name = rng.choice(files)
        hurt = disk.crash()
        flip(rng, hurt.cache[name])
        numbers, lost = delivered(hurt)
        gone = sorted(set(range(150)) - set(numbers))
        assert numbers == sorted(numbers)
        assert len(gone) <= 1
        assert lost == len(gone) or gone == [149]  # the very last one looks like a torn end


def test_two_thousand_flipped_bits_at_once() -> None:
    disk = filled()
    rng = random.Random(2)
    for _ in range(2000):
        flip(rng, disk.cache[rng.choice(names(disk))])
    store, log = make(disk)
    numbers = [number(m) for m in take_all(store, log, disk)]
    assert numbers == sorted(set(numbers))
    assert COUNT / 3 < len(numbers) < COUNT
    assert 0 <= COUNT - len(numbers) - log.drops.total <= 20  # what is behind the last whole record counts as torn
    assert log.balance() == 0


def test_a_damaged_file_is_set_aside_once_it_is_replayed() -> None:
    disk = filled(600)
    name = names(disk)[1]
    disk.cache[name][5000:5010] = b"\xff" * 10
    store, log = make(disk)
    for m in take_all(store, log, disk):
        kept(m).done()
    tidy(store, disk)
    assert [n for n, _ in disk.list()] == [f"{name}.bad"]
    assert log.drops.by_reason == {"damaged": 1}
    store, log = make(disk)
    assert log.is_empty
    assert store.bytes == EXTENT


def test_truncation_at_every_byte_of_the_last_three_records() -> None:
    disk = filled(100)
    (name,) = names(disk)
    data = bytes(disk.cache[name])
    ends, at = [], HEAD_BYTES
    while (found := find_record(data, at)) is not None:
        at = found[1]
        ends.append(at)
    for cut in range(ends[-4], ends[-1] + 1):
        hurt = disk.crash()
        hurt.cache[name] = bytearray(data[:cut])
        store, log = make(hurt)
        whole = sum(end <= cut for end in ends)
        assert log.torn == (cut not in ends)
        store.put(log, message(1000), 0, False)  # life goes on behind it
        work(store, hurt)
        assert [number(m) for m in take_all(store, log, hurt)] == [*range(whole), 1000]
        assert log.drops.total == 0


@pytest.mark.parametrize("page", range(0, EXTENT, 4096))
def test_zeroed_pages(page: int) -> None:
    disk = filled(600)
    disk.cache[names(disk)[1]][page : page + 4096] = bytes(4096)
    numbers, lost = delivered(disk)
    gone = sorted(set(range(600)) - set(numbers))
    assert lost == len(gone) <= 14
    assert numbers == sorted(numbers)
    assert not gone or gone == list(range(gone[0], gone[-1] + 1))


def test_swapped_files() -> None:
    disk = filled(600)
    a, b = names(disk)[:2]
    disk.cache[a], disk.cache[b] = disk.cache[b], disk.cache[a]
    assert delivered(disk) == (list(range(600)), 0)


def test_a_lost_head_costs_no_record() -> None:
    for i in range(3):
        disk = filled(600)
        disk.cache[names(disk)[i]][:HEAD_BYTES] = bytes(HEAD_BYTES)
        assert delivered(disk) == (list(range(600)), 0)


@pytest.mark.parametrize("content", [b"", b"x", b"edgedlog", bytes(5000), b"edgedlog" * 1000])
def test_files_that_are_none_are_set_aside(content: bytes) -> None:
    disk = filled(100)
    disk.cache["main/00000000000000ff-1.log"] = bytearray(content)
    disk.cache["main/notes.txt"] = bytearray(b"somebody's own")
    store, log = make(disk)
    store.put(log, message(100), 0, False)
    work(store, disk)
    assert [number(m) for m in take_all(store, log, disk)] == list(range(101))
    (aside,) = (name for name, _ in disk.list() if name.startswith("main/00000000000000ff-1.log."))
    assert bytes(disk.cache[aside]) == content
    assert delivered(disk) == (list(range(101)), 0)


def newer(data: bytearray) -> None:
    data[8] = VERSION + 1
    data[HEAD_BYTES - 4 : HEAD_BYTES] = b"else"


def test_a_newer_format_is_set_aside_and_comes_back() -> None:
    disk = filled(600)
    name = names(disk)[1]
    whole = bytes(disk.cache[name])
    newer(disk.cache[name])
    store, log = make(disk)
    work(store, disk)
    numbers = [number(m) for m in take_all(store, log, disk)]
    assert numbers == sorted(numbers)
    assert 300 < len(numbers) < 600
    assert names(disk, f".v{VERSION + 1}") == [f"{name}.v{VERSION + 1}"]
    # The edged that wrote it is installed again: to it, this is its own version.
    disk.cache[f"{name}.v{VERSION}"] = bytearray(whole)
    assert delivered(disk)[0] == list(range(600))


def test_files_of_another_broker_are_not_sent_to_this_one() -> None:
    disk = filled(100)
    (name,) = names(disk)
    disk.cache[name.replace("main/", "cloud/")] = disk.cache.pop(name)
    store, _ = make(disk)
    cloud = store.log("cloud")
    assert take_all(store, cloud, disk) == []
    assert len(names(disk, ".bad")) == 1


def test_an_unreadable_file_is_left_alone_and_its_numbers_are_not_used_again() -> None:
    disk = filled(600)
    disk.bad_reads = 2  # the head of the first file, and the note
    store, log = make(disk)
    assert store.fault
    fill(store, log, disk, range(600, 700))
    numbers, _ = delivered(disk)
    assert numbers == list(range(700))


@pytest.mark.parametrize("hurt", [lambda d: d.extend(b"\xff" * 1000), lambda d: d.clear(), lambda d: newer(d)])
def test_any_one_file_damaged_and_a_start_that_goes_on(hurt: Callable[[bytearray], None]) -> None:
    for i in range(3):
        disk = filled(600)
        hurt(disk.cache[names(disk)[i]])
        store, log = make(disk)
        fill(store, log, disk, range(600, 650))
        numbers = [number(m) for m in take_all(store, log, disk)]
        assert numbers == sorted(numbers)
        assert numbers[-50:] == list(range(600, 650))
        assert log.balance() == 0


def test_boot_is_what_it_was() -> None:
    assert len(BOOT) == 16


def test_what_is_held_back_is_superseded_in_its_place_until_it_is_on_its_way() -> None:
    disk = FakeDisk()
    store, _ = make(disk)
    log = store.log("main.held")
    entry = store.put(log, message(1), 0, True, 9)
    assert entry is not None
    size = log.pending_bytes
    assert log.exchange(entry, message(2, 200), 0, 10)
    assert (len(log.pending), log.pending_bytes, entry.not_before) == (1, size + 100, 10)
    work(store, disk)
    assert entry.is_stored
    entry.message = None  # as the spool does
    assert not log.exchange(entry, message(3), 0, 11)
    entry.done(SUPERSEDED)
    assert (log.stored, log.superseded, log.waiting, log.balance()) == (1, 1, 0, 0)
    assert log.drops.by_reason == {}


def test_a_failed_write_leaves_what_is_held_back_to_be_superseded() -> None:
    disk = FakeDisk()
    disk.bad_writes = 1
    store, _ = make(disk)
    log = store.log("main.held")
    entry = store.put(log, message(1), 0, True, 9)
    assert entry is not None
    job = store.next_job(1, True)
    assert job is not None
    job.perform(disk)
    assert store.finish(job) == []
    assert log.exchange(entry, message(2), 0, 10)
