"""The log of one broker: what waits to be written, what is on disk, what of it is done, and where replay stands.

    put -> pending -> next_write -> wrote: stored -> take -> held -> done: acked, or dropped with a reason
                          ^-- failed: waits again        `------> release: to be taken again

A broker has a second log that `is_holding`: copies of results that `min_interval` holds back, one a topic, since the next takes
its place. They wait in memory too, so nothing of it is read but at the start, after a crash.

Pure: it says what is to be written and read and is told what came of it. Ledger, in records on disk, exact at all times:
`stored == acked + superseded + dropped (by reason) + waiting`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from edged.notation.units import KIB
from edged.records import MESSAGE_OVERHEAD, NONE, Message
from edged.spool.runs import Runs
from edged.spool.segment import HEAD_BYTES, RECORD_BYTES, Head, Record, find_record, write_head, write_record
from edged.telemetry import Drops

SUPERSEDED = "superseded"
"""Why a record of a result that is held back ends: the next one takes its place, or another record has it now."""
EXTENT = 64 * KIB
"""Files grow by so much, in zeros."""
JOURNAL = 20 * KIB
"""What a commit that makes a file larger writes besides, measured on ext4."""


class Entry:
    """One message in the care of a log; `Message.record` of a message on its way. `seq` is 0 until it is being written.

    `is_copy`: the message itself waits elsewhere as well, which keeps its account. `is_done`: nothing is owed any more.
    `not_before`: UTC ns before which it is not sent, 0 unless it is held back.
    """

    __slots__ = ("arrival_utc", "is_copy", "is_done", "is_stored", "log", "message", "not_before", "reason", "seq")

    def __init__(self, log: Log, message: Message | None, arrival_utc: int, is_copy: bool, not_before: int = 0) -> None:
        self.log = log
        self.message = message
        self.arrival_utc = arrival_utc
        self.is_copy = is_copy
        self.not_before = not_before
        self.is_done = False
        self.is_stored = False
        self.reason: str | None = None
        self.seq = 0

    def done(self, reason: str | None = None) -> None:
        """The broker has the message (None), or it was dropped for `reason`: it need not be kept."""
        self.log.done(self, reason)

    def release(self) -> None:
        """The message no longer waits elsewhere: this is all that there is of it."""
        self.log.release(self)

    @property
    def record(self) -> Record:
        """What is to be written."""
        m = self.message
        assert m is not None
        retain = m.retain and self.log.is_holding
        return Record(self.seq, m.topic, m.body, m.is_json, m.arrival, self.arrival_utc, retain, self.not_before)


class Segment(msgspec.Struct):
    """One file. Its records are `first <= seq < end` and lie within the first `filled` of its `size` bytes."""

    name: str
    head: Head
    end: int
    filled: int
    size: int
    is_damaged: bool = False

    @property
    def first(self) -> int:
        return self.head.first


class Write(msgspec.Struct):
    """`data` is to be written at `offset` and synced, the file grown to `size`. `error` and `is_unsure` (the sync failed,
    so that nobody knows what is on disk) come back."""

    segment: Segment
    data: bytes
    offset: int
    size: int
    entries: list[Entry]
    error: OSError | None = None
    is_unsure: bool = False


class Read(msgspec.Struct):
    """The bytes `offset <= n < stop` of a segment are wanted, which hold records below `end`. `data` comes back, or None."""

    segment: Segment
    offset: int
    stop: int
    end: int
    data: bytes | None = None
    is_gone: bool = False
    """Somebody removed the file."""


class Chunk(msgspec.Struct):
    """Bytes of a segment, being replayed."""

    read: Read
    data: bytes
    at: int = 0


@dataclass(slots=True, eq=False)
class Log:
    """`boot` is this boot's id. Segments are sorted by `first`; the last one may be `active`: it takes the next records."""

    broker: str
    boot: bytes
    segment_bytes: int
    is_holding: bool = False
    segments: list[Segment] = field(default_factory=list)
    active: Segment | None = None
    runs: Runs = field(default_factory=Runs)
    next_seq: int = 1
    cursor: int = 1
    """The next record to be replayed."""
    pending: deque[Entry] = field(default_factory=deque)
    pending_bytes: int = 0
    alone: int = 0
    """Messages not written yet that are nowhere else."""
    writing: Write | None = None
    reading: Read | None = None
    chunk: Chunk | None = None
    mark: tuple[Segment | None, int, int] = (None, 0, 0)
    """Up to where a file has been replayed: from that offset on, records of that number and later."""
    held: set[int] = field(default_factory=set)
    is_wanted: bool = False
    """Whether somebody would take records now: nothing is read ahead while their broker is away."""
    bytes: int = 0
    """Size of its files."""
    torn: int = 0
    """Files whose end was cut off in the middle of a record: it had not been synced, so nobody was promised it."""
    stored: int = 0
    acked: int = 0
    superseded: int = 0
    waiting: int = 0
    drops: Drops = field(init=False)

    def __post_init__(self) -> None:
        self.drops = Drops(f"spool.{self.broker}")

    @property
    def is_empty(self) -> bool:
        return not (self.waiting or self.pending or self.writing)

    @property
    def bytes_to_come(self) -> int:
        """What its files will grow by, once all that waits is written."""
        writing = self.writing.size - self.writing.segment.size if self.writing is not None else 0
        return writing + self.pending_bytes - (MESSAGE_OVERHEAD - RECORD_BYTES) * len(self.pending)

    @property
    def is_behind(self) -> bool:
        """Whether something is here that nobody has taken yet."""
        return self.alone > 0 or self.waiting > len(self.held)

    def balance(self) -> int:
        """Zero, always."""
        return self.stored - self.acked - self.superseded - self.drops.total - self.waiting

    # Writing

    def put(self, message: Message, utc_offset: int, is_copy: bool, not_before: int = 0) -> Entry:
        """Takes a message to be written. `utc_offset`: what makes UTC of its monotonic arrival."""
        entry = Entry(self, message, message.arrival + utc_offset if message.arrival else 0, is_copy, not_before)
        self.pending.append(entry)
        self.alone += not is_copy
        self.pending_bytes += charge(message)
        return entry

    def exchange(self, entry: Entry, message: Message, utc_offset: int, not_before: int) -> bool:
        """Puts a message in the place of one that it supersedes, if that is not on its way to the disk yet: however fast they
        come, one waits."""
        before = entry.message
        if before is None or entry.seq or entry.is_done:
            return False
        self.pending_bytes += charge(message) - charge(before)
        entry.message, entry.not_before = message, not_before
        entry.arrival_utc = message.arrival + utc_offset if message.arrival else 0
        return True

    def drop_pending(self) -> Entry:
        """Gives up the oldest message that is not written yet."""
        entry = self.pending.popleft()
        assert entry.message is not None
        self.pending_bytes -= charge(entry.message)
        self.alone -= not entry.is_copy
        entry.is_done = True
        return entry

    def take_pending(self) -> Message | None:
        """The oldest message that is not written yet, once everything on disk has been taken: it need not go there at all."""
        if self.alone and self.writing is None and self.waiting <= len(self.held):
            for entry in self.pending:
                if not entry.is_copy:
                    assert entry.message is not None
                    self.pending.remove(entry)
                    self.pending_bytes -= charge(entry.message)
                    self.alone -= 1
                    entry.is_done = True
                    return entry.message
        return None

    def next_write(self, created: int) -> Write | None:
        """The next records to be written, as many as fit into the segment. `created`: UTC ns."""
        while self.pending and self.pending[0].is_done:
            self.drop_pending()
        if self.writing is not None or not self.pending:
            return None
        if self.active is None or self.active.filled + record_size(self.pending[0]) > self.segment_bytes:
            self._begin(created)
        segment = self.active
        assert segment is not None
        parts = [] if segment.filled else [write_head(segment.head)]
        size = segment.filled + sum(map(len, parts))
        entries: list[Entry] = []
        while self.pending and (not entries or size + record_size(self.pending[0]) <= self.segment_bytes):
            entry = self.pending.popleft()
            assert entry.message is not None
            self.pending_bytes -= charge(entry.message)
            if entry.is_done:
                continue
            entry.seq = self.next_seq
            self.next_seq += 1
            parts.append(write_record(entry.record))
            size += len(parts[-1])
            entries.append(entry)
        is_large = size - segment.filled >= JOURNAL  # then zeros would cost more
        grown = max(segment.size, size if is_large else -(-size // EXTENT) * EXTENT)
        self.writing = Write(segment, b"".join(parts), segment.filled, grown, entries)
        return self.writing

    def _begin(self, created: int) -> None:
        last = self.segments[-1] if self.segments else None
        previous = last.first if last is not None and last.end == self.next_seq else 0
        head = Head(self.boot, self.next_seq, previous, created, self.broker)
        self.active = Segment(f"{self.next_seq:016x}-{created:x}.log", head, self.next_seq, 0, 0)
        self.segments.append(self.active)

    def wrote(self) -> list[Entry]:
        """The write is on disk. Returns the entries it made durable."""
        assert self.writing is not None
        write, self.writing = self.writing, None
        segment, entries = write.segment, write.entries
        self.bytes += write.size - segment.size
        segment.filled = write.offset + len(write.data)
        segment.size = write.size
        segment.end = self.next_seq
        self.stored += len(entries)
        self.waiting += len(entries)
        for entry in entries:
            entry.is_stored = True
            self.alone -= not entry.is_copy
            if entry.is_done:
                self._count(self.runs.add(entry.seq, entry.seq + 1), entry.reason)
            elif entry.is_copy:
                self.held.add(entry.seq)
        if segment.filled >= self.segment_bytes:
            self.active = None
        return entries

    def failed(self) -> None:
        """The write failed: its records wait again, under the same numbers. After a failed sync nobody knows what the file
        holds beyond the last good one, so it is left as it is and a new file begins."""
        assert self.writing is not None
        write, self.writing = self.writing, None
        for entry in reversed(write.entries):
            assert entry.message is not None
            entry.seq = 0
            self.pending.appendleft(entry)
            self.pending_bytes += charge(entry.message)
        self.next_seq -= len(write.entries)
        if not write.segment.filled:
            self.segments.remove(write.segment)
            self.active = None
        elif write.is_unsure:
            self.active = None

    # What becomes of records

    def done(self, entry: Entry, reason: str | None) -> None:
        """See `Entry.done`."""
        if entry.is_done:
            return
        entry.is_done, entry.reason = True, reason
        if entry.is_stored:
            self.held.discard(entry.seq)
            self._count(self.runs.add(entry.seq, entry.seq + 1), reason)

    def release(self, entry: Entry) -> None:
        """See `Entry.release`."""
        if entry.is_copy and not entry.is_stored:
            self.alone += 1
        entry.is_copy = False
        if entry.is_stored and not entry.is_done:
            self.held.discard(entry.seq)
            if entry.seq < self.cursor:  # it was passed by while held: look again from there
                self.cursor, self.chunk = entry.seq, None

    def _strike(self, start: int, stop: int, reason: str | None) -> None:
        """Strikes records off: acked (None) or dropped for `reason`. Those on their way to the broker have their own end."""
        count = 0
        for held in sorted(n for n in self.held if start <= n < stop):
            count += self.runs.add(start, held)
            start = held + 1
        self._count(count + self.runs.add(start, stop), reason)

    def _count(self, count: int, reason: str | None) -> None:
        self.waiting -= count
        if reason is None:
            self.acked += count
        elif reason == SUPERSEDED:
            self.superseded += count
        elif count:
            self.drops.add(reason, count)

    # Replay

    def next_read(self) -> Read | None:
        """What must be read before `take` can go on, if anything."""
        if self.reading is not None or self.chunk is not None or self.waiting <= len(self.held):
            return None
        while True:
            self.cursor = self.runs.next_missing(self.cursor)
            segment = next((s for s in self.segments if s.end > self.cursor), None)
            if segment is None:
                return None
            self.cursor = max(self.cursor, segment.first)
            if self.cursor not in self.runs:
                break
        marked, offset, seq = self.mark
        start = offset if marked is segment and seq <= self.cursor else HEAD_BYTES
        self.reading = Read(segment, start, segment.filled, segment.end)
        return self.reading

    def have_read(self, read: Read) -> None:
        """`read.data` is there, or None: the file cannot be read, and what it held is lost."""
        if self.reading is not read:
            return
        self.reading = None
        if read.segment in self.segments:
            self.chunk = Chunk(read, read.data or b"")

    def take(self, now: int, now_utc: int) -> Message | None:
        """The next record to be replayed, as a message that is `held` until it is done; None when a read is needed first."""
        while (chunk := self.chunk) is not None:
            if chunk.read.segment not in self.segments:  # given up meanwhile
                self.chunk = None
                return None
            found = find_record(chunk.data, chunk.at)
            if found is None or found[0].seq >= chunk.read.end:
                self._miss(chunk.read.end)
                self.mark = (chunk.read.segment, chunk.read.offset + chunk.at, self.cursor)
                self.chunk = None
                return None
            record, chunk.at = found
            if record.seq < self.cursor:
                continue
            self._miss(record.seq)
            self.cursor = record.seq + 1
            if record.seq in self.held or record.seq in self.runs:
                continue
            self.held.add(record.seq)
            return self._message(record, chunk.read.segment, now, now_utc)
        return None

    def _miss(self, seq: int) -> None:
        """The records from the cursor up to `seq` cannot be found."""
        if self.cursor < seq:
            before = self.waiting
            self._strike(self.cursor, seq, "damaged")
            if self.waiting < before and self.chunk is not None:
                self.chunk.read.segment.is_damaged = True
            self.cursor = seq

    def _message(self, record: Record, segment: Segment, now: int, now_utc: int) -> Message:
        arrival = record.arrival
        if arrival and segment.head.boot != self.boot:  # the monotonic clock started again since: go by UTC
            arrival = now - max(0, now_utc - record.arrival_utc) or 1
        entry = Entry(self, None, record.arrival_utc, is_copy=True, not_before=record.not_before)
        entry.seq, entry.is_stored = record.seq, True
        return Message(
            record.topic,
            record.body,
            qos=1,
            retain=record.retain,
            is_json=record.is_json,
            arrival=arrival,
            receipt=NONE,
            record=entry,
            replayed=not self.is_holding,  # what was only held back is no replay
        )

    # Files that are no longer needed

    def drop_oldest(self) -> Segment | None:
        """Gives up the oldest file for the sake of the newest records."""
        segment = next((s for s in self.segments if self.writing is None or s is not self.writing.segment), None)
        if segment is not None:
            self._strike(segment.first, segment.end, "overflow")
            self._leave(segment)
        return segment

    def lose(self, segment: Segment) -> int:
        """Somebody removed the file. Returns how many records went with it that are nowhere else."""
        before = self.waiting
        self._strike(segment.first, segment.end, "damaged")
        if segment in self.segments:
            self._leave(segment)
        return before - self.waiting

    def take_finished(self, may_close: bool) -> list[Segment]:
        """The files all of whose records are done; the one that takes the next records too if it `may_close`."""
        finished = [
            s
            for s in self.segments
            if self.runs.covers(s.first, s.end)
            and (s is not self.active or (may_close and not self.writing))
            and not (self.reading and self.reading.segment is s)
        ]
        for segment in finished:
            self._leave(segment)
        return finished

    def _leave(self, segment: Segment) -> None:
        self.segments.remove(segment)
        self.bytes -= segment.size
        if segment is self.active:
            self.active = None
        oldest = self.segments[0].first if self.segments else self.next_seq
        self.runs.forget_below(min((oldest, *self.held)))


def charge(message: Message) -> int:
    """Bytes of memory that a message costs while it waits to be written."""
    return len(message.topic) + len(message.body) + MESSAGE_OVERHEAD


def record_size(entry: Entry) -> int:
    return entry.record.size
