"""What the tests of the spool share: messages with a number, and a store worked by hand."""

from __future__ import annotations

from edged.records import NONE, Message, Receipt
from edged.spool.log import Entry, Log
from edged.spool.store import Disk, Store
from edged.telemetry import PublishCounts

BOOT = bytes(range(16))
CAP = 16 << 20


def message(number: int, size: int = 100, account: PublishCounts | None = None, receipt: bool = False) -> Message:
    body = b'{"n":%d,"x":"' % number
    body += b"." * max(0, size - len(body)) + b'"'
    told = Receipt(number) if receipt else NONE
    return Message(b"out/t", body, 1, is_json=True, arrival=1000 + number, account=account, receipt=told)


def kept(one: Message) -> Entry:
    """What the store keeps of a message."""
    assert isinstance(one.record, Entry)
    return one.record


def number(one: Message) -> int:
    return int(one.body[5 : one.body.index(b",")])


def make(disk: Disk, max_bytes: int = CAP, *, drops_newest: bool = False, boot: bytes = BOOT) -> tuple[Store, Log]:
    """A store as a process finds it at its start, and the log of broker `main`."""
    store = Store(max_bytes, drops_newest, boot)
    store.recover(disk)
    return store, store.log("main")


def work(store: Store, disk: Disk, created: int = 1) -> list[Entry]:
    """Does all that is to be done; returns what became durable."""
    stored: list[Entry] = []
    while (job := store.next_job(created, True)) is not None:
        job.perform(disk)
        stored += store.finish(job)
    return stored


def fill(store: Store, log: Log, disk: Disk, numbers: range, size: int = 100, batch: int = 10) -> None:
    for n in numbers:
        assert store.put(log, message(n, size), 0, False) is not None
        if n % batch == batch - 1:
            work(store, disk)
    work(store, disk)


def take_all(store: Store, log: Log, disk: Disk) -> list[Message]:
    """All that is there to replay, none of it acknowledged."""
    log.is_wanted = True
    taken: list[Message] = []
    while True:
        one = log.take(5000, 9000)
        if one is not None:
            taken.append(one)
            continue
        work(store, disk)
        if log.chunk is None:
            return taken


def tidy(store: Store, disk: Disk) -> None:
    """Two quiet seconds."""
    for _ in range(2):
        store.tick()
        work(store, disk)
