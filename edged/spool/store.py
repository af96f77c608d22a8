"""All logs under one byte cap, and what the disk is to do next.

    put -> log.pending          tick, read, drop -> Job -> Disk.perform -> finish
    recover(disk)               what an earlier process left, at the start

Pure. Decides everything; `perform` alone touches the disk. Nothing that is found there, and nothing that fails there, is
a reason not to start: what cannot be read is moved aside, what cannot be written waits in memory within `TAIL_BYTES`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Protocol
from zlib import crc32

import msgspec

from edged.notation.units import MIB
from edged.records import NONE, Message
from edged.spool.log import EXTENT, SUPERSEDED, Entry, Log, Read, Segment, Write
from edged.spool.runs import Runs
from edged.spool.segment import HEAD_BYTES, RECORD_BYTES, VERSION, BadHead, Head, find_record, read_head
from edged.spool.settings import HOLDING
from edged.telemetry import Drops

SEGMENT_BYTES = MIB
TAIL_BYTES = MIB
"""Memory for messages that wait to be written, of all logs together."""
MAX_BYTES = 16 * MIB
"""No file of ours is larger: each is read whole."""
TAIL_READ = 4 * EXTENT
DONE = "done"
_DONE_HEAD = struct.Struct("<QqI")
_RUN = struct.Struct("<QQ")


Held = dict[bytes, Message]
"""Messages by topic."""


class SyncFailed(OSError):
    """The data was written, but not synced: nobody knows what is on disk."""


class Disk(Protocol):
    """Files in folders, one folder a broker; names are `folder/file`. All of it blocks. Raises OSError."""

    def list(self) -> Iterable[tuple[str, int]]:
        """Every file with its size in bytes."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on. Raises FileNotFoundError for a file that somebody removed."""

    def write(self, name: str, offset: int, data: bytes, size: int) -> int:
        """Writes `data` at `offset`, zeros up to `size` as far as there is room, and syncs; at offset 0 the file must be new.
        Returns the file's size. After an error the file is as it was, except after SyncFailed. Raises FileNotFoundError for one
        that somebody removed."""

    def replace(self, name: str, data: bytes) -> None:
        """Writes a small file whole; after a power cut the old or the new one is there."""

    def remove(self, names: Iterable[str]) -> None:
        """Deletes files that may be gone already, as their folders may, and syncs those."""

    def rename(self, name: str, new: str) -> None:
        """Renames a file within its folder, and syncs that; if it is there."""

    def close(self) -> None:
        """Nothing will be asked for any more."""


class Job(msgspec.Struct):
    """What the disk is to do, in this order. `errors` come back; each write and each read has its own."""

    notes: dict[str, bytes] = msgspec.field(default_factory=dict)
    removes: list[str] = msgspec.field(default_factory=list)
    renames: list[tuple[str, str]] = msgspec.field(default_factory=list)
    writes: list[tuple[Log, Write]] = msgspec.field(default_factory=list)
    reads: list[tuple[Log, Read]] = msgspec.field(default_factory=list)
    errors: list[OSError] = msgspec.field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.notes or self.removes or self.renames or self.writes or self.reads)

    def perform(self, disk: Disk) -> None:
        """Blocks. Raises nothing that the disk may do to us."""
        for name, data in self.notes.items():
            self._try(disk.replace, name, data)
        if self.removes:
            self._try(disk.remove, self.removes)
        for name, new in self.renames:
            self._try(disk.rename, name, new)
        for log, write in self.writes:
            try:
                write.size = disk.write(f"{log.broker}/{write.segment.name}", write.offset, write.data, write.size)
            except OSError as error:
                write.error, write.is_unsure = error, isinstance(error, SyncFailed)
        for log, read in self.reads:
            try:
                read.data = disk.read(f"{log.broker}/{read.segment.name}", read.offset, read.stop - read.offset)
            except FileNotFoundError:
                read.is_gone = True
            except OSError as error:
                self.errors.append(error)

    def _try(self, act: object, *arguments: object) -> None:
        try:
            act(*arguments)  # type: ignore[operator]
        except OSError as error:
            self.errors.append(error)


class Store(msgspec.Struct, eq=False):
    """`max_bytes` bounds the files of all logs and what was moved aside. `fault`: why the disk took nothing last time."""

    max_bytes: int
    drops_newest: bool
    boot: bytes
    logs: dict[str, Log] = msgspec.field(default_factory=dict)
    aside: dict[str, int] = msgspec.field(default_factory=dict)
    fault: str = ""
    refused: Drops = msgspec.field(default_factory=lambda: Drops("spool"))
    gone: dict[str, int] = msgspec.field(default_factory=dict)
    """Files that somebody removed, and how many records went with each; for whoever says so, and clears it."""
    _removes: list[str] = msgspec.field(default_factory=list)
    _failed_removes: list[str] = msgspec.field(default_factory=list)
    _renames: list[tuple[str, str]] = msgspec.field(default_factory=list)
    _noted: dict[str, bytes] = msgspec.field(default_factory=dict)
    _may_write: bool = True
    _is_tick_due: bool = False
    _is_quiet: bool = False

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(log.bytes for log in self.logs.values()) + sum(self.aside.values())

    @property
    def pending_bytes(self) -> int:
        """Memory held by messages that wait to be written."""
        return sum(log.pending_bytes for log in self.logs.values())

    @property
    def bytes_to_come(self) -> int:
        """What the files will grow by, once all that waits is written."""
        return sum(log.bytes_to_come for log in self.logs.values())

    @property
    def receipts(self) -> int:
        """Inputs that wait for messages to be written."""
        return sum(e.message is not None and e.message.receipt is not NONE for log in self.logs.values() for e in log.pending)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is kept and nothing is left to do."""
        return not (
            self._removes
            or self._failed_removes
            or self._renames
            or any(not log.is_empty or log.segments for log in self.logs.values())
        )

    def log(self, broker: str) -> Log:
        is_holding = broker.endswith(HOLDING)
        # What is held back is soon done with: small files, so that the last one in each is not long in coming.
        segment_bytes = EXTENT if is_holding else min(SEGMENT_BYTES, max(EXTENT, self.max_bytes // 16))
        return self.logs.setdefault(broker, Log(broker, self.boot, segment_bytes, is_holding))

    # Messages

    def put(self, log: Log, message: Message, utc_offset: int, is_copy: bool, not_before: int = 0) -> Entry | None:
        """Takes a message, or None: the spool is full and keeps the oldest, or could never hold it. May drop others for it."""
        need = RECORD_BYTES + len(message.topic) + len(message.body)
        if need + HEAD_BYTES > self.max_bytes or need > MAX_BYTES // 2:
            return None
        while self.bytes + self.bytes_to_come + need > self.max_bytes:
            if self.drops_newest or not self._make_room():
                if self.drops_newest or self.pending_bytes > TAIL_BYTES // 2:
                    return None
                break
        self._is_quiet = False
        return log.put(message, utc_offset, is_copy, not_before)

    def room(self, size: int) -> int:
        """How many more messages of `size` bytes may be put by somebody who can wait, so that none is lost: half of the memory
        for those that the disk has yet to take is theirs, and one has room where none waits."""
        pending = self.pending_bytes
        return max((TAIL_BYTES // 2 - pending) // size, int(not pending))

    @property
    def has_room(self) -> bool:
        """Whether somebody who waited for room may go on."""
        return self.pending_bytes <= TAIL_BYTES // 4

    def _make_room(self) -> bool:
        """Gives up the oldest file; those that were moved aside first."""
        if self.aside:
            name = next(iter(self.aside))
            del self.aside[name]
            self._removes.append(name)
            return True
        oldest = min(
            (log for log in self.logs.values() if log.segments), key=lambda log: log.segments[0].head.created, default=None
        )
        dropped = oldest.drop_oldest() if oldest is not None else None
        if oldest is None or dropped is None:
            return False
        self._retire(oldest, dropped)
        return True

    def overflowing(self) -> list[Entry]:
        """Messages that no longer fit into memory while the disk takes nothing, oldest first. One always fits."""
        lost = []
        while self.pending_bytes > TAIL_BYTES and sum(len(log.pending) for log in self.logs.values()) > 1:
            log = max((log for log in self.logs.values() if log.pending), key=lambda log: log.pending_bytes)
            lost.append(log.drop_pending())
        return lost

    # Work for the disk

    def tick(self) -> None:
        """Once a second: what failed is tried again, what is done is tidied up, and where replay stands is noted."""
        self._is_tick_due = self._may_write = True

    def next_job(self, created: int, is_commit_due: bool) -> Job | None:
        """What the disk is to do now; one job at a time. Messages are written only if `is_commit_due`. `created`: UTC ns."""
        job = Job()
        if self._is_tick_due:
            self._is_tick_due = False
            self._removes, self._failed_removes = [*self._removes, *self._failed_removes], []
            for log in self.logs.values():
                for segment in log.take_finished(may_close=self._is_quiet):
                    self._retire(log, segment)
                self._note(log, job)
            self._is_quiet = True
        if self._may_write and is_commit_due:
            job.writes = [(log, write) for log in self.logs.values() if (write := log.next_write(created)) is not None]
        job.reads = [(log, read) for log in self.logs.values() if log.is_wanted and (read := log.next_read()) is not None]
        job.removes, self._removes = self._removes, []
        job.renames, self._renames = self._renames, []
        return job if job else None

    def finish(self, job: Job) -> list[Entry]:
        """Takes in what came of a job. Returns the messages that are on disk now."""
        stored: list[Entry] = []
        fault = ""
        for log, write in job.writes:
            if write.error is None:
                stored += log.wrote()
                continue
            if isinstance(write.error, FileNotFoundError) and write.segment.filled:
                log.failed()
                self._lose(log, write.segment)
                continue
            fault = write.error.strerror or str(write.error)
            self._may_write = False
            if not write.segment.filled:
                self._removes.append(f"{log.broker}/{write.segment.name}")  # whatever there is of it
            log.failed()
        for log, read in job.reads:
            if read.is_gone:
                self._lose(log, read.segment)
            log.have_read(read)
        if job.errors:
            fault = fault or job.errors[0].strerror or str(job.errors[0])
            self._failed_removes += [name for name in job.removes if name not in self._failed_removes]
            self._noted.clear()
        has_changed = job.writes or ((job.notes or job.removes or job.renames) and not self.pending_bytes)
        if has_changed or job.errors:
            self.fault = fault
        return stored

    def _lose(self, log: Log, segment: Segment) -> None:
        self.gone[f"{log.broker}/{segment.name}"] = log.lose(segment)

    def _retire(self, log: Log, segment: Segment) -> None:
        """A file whose records are done is deleted; a damaged one is moved aside, for those who want to know why."""
        name = f"{log.broker}/{segment.name}"
        if segment.is_damaged:
            self._set_aside(name, segment.size, "bad")
        elif segment.filled:
            self._removes.append(name)

    def _set_aside(self, name: str, size: int, why: str) -> None:
        self._renames.append((name, f"{name}.{why}"))
        self.aside[f"{name}.{why}"] = size

    def _note(self, log: Log, job: Job) -> None:
        """Which records of the files that are there are done: lost, it costs duplicates after a restart, no more."""
        name = f"{log.broker}/{DONE}"
        if not log.segments:
            if name in self._noted:
                del self._noted[name]
                self._removes.append(name)
            return
        data = write_done(log.segments[0].head, log.runs)
        if data != self._noted.get(name):
            self._noted[name] = job.notes[name] = data

    # The start

    def recover(self, disk: Disk) -> None:
        """Finds what an earlier process left. Reads the head of each file, and the end of the last. Blocks."""
        folders: dict[str, dict[str, int]] = {}
        try:
            for name, size in disk.list():
                folder, _, file = name.rpartition("/")
                folders.setdefault(folder, {})[file] = size
        except OSError as error:
            self.fault = error.strerror or str(error)
        for broker, files in folders.items():
            if not broker:
                continue
            log = self.log(broker)
            self._adopt(disk, log, files)
            segments = [
                s for f, size in files.items() if f.endswith(".log") and (s := self._open(disk, log, f, size)) is not None
            ]
            log.segments = sorted(segments, key=lambda s: (s.first, s.head.created))
            log.bytes = sum(s.size for s in segments)
            self._measure(disk, log)
            self._restore(disk, log, files)

    def read_held(self, disk: Disk, log: Log, now: int, now_utc: int) -> Held:
        """What a crash left of results that were held back, by topic, the first to go first. Of several of one topic the newest
        counts, which superseded the others. Blocks."""
        left: Held = {}
        while (read := log.next_read()) is not None:
            with suppress(OSError):  # then it is lost, and counted as damaged
                read.data = disk.read(f"{log.broker}/{read.segment.name}", read.offset, read.stop - read.offset)
            log.have_read(read)
            while (message := log.take(now, now_utc)) is not None:
                before = left.pop(message.topic, None)
                if before is not None:
                    before.end(SUPERSEDED)
                left[message.topic] = message
        return dict(sorted(left.items(), key=lambda item: item[1].record.not_before if item[1].record is not None else 0))

    def _adopt(self, disk: Disk, log: Log, files: dict[str, int]) -> None:
        """What an older edged moved aside since it could not read it is ours again; whatever else is aside counts."""
        for file, size in list(files.items()):
            name = f"{log.broker}/{file}"
            if file.endswith(f".log.v{VERSION}"):
                try:
                    disk.rename(name, name.removesuffix(f".v{VERSION}"))
                except OSError:
                    continue
                files[file.removesuffix(f".v{VERSION}")] = files.pop(file)
            elif ".log." in file:
                self.aside[name] = size

    def _open(self, disk: Disk, log: Log, file: str, size: int) -> Segment | None:
        name = f"{log.broker}/{file}"
        if size > MAX_BYTES:
            self._set_aside(name, size, "bad")
            return None
        try:
            head = read_head(disk.read(name, 0, HEAD_BYTES))
            if head.broker != log.broker:
                raise BadHead(f"holds records for broker {head.broker}")
            return Segment(file, head, head.first, size, size)
        except BadHead as bad:
            return self._open_without_head(disk, log, file, size, bad)
        except OSError as error:
            self.fault = error.strerror or str(error)
            return None

    def _open_without_head(self, disk: Disk, log: Log, file: str, size: int, bad: BadHead) -> Segment | None:
        """A damaged head costs nothing but itself: records say their own number."""
        name = f"{log.broker}/{file}"
        found = None
        if not bad.version:
            try:
                found = find_record(disk.read(name, 0, size), 0)
            except OSError:
                found = None
        if found is None or "broker" in str(bad):
            self._set_aside(name, size, f"v{bad.version}" if bad.version else "bad")
            return None
        first = min(found[0].seq, number_in(file) or found[0].seq)
        return Segment(file, Head(b"", first, 0, 0, log.broker), first, size, size, is_damaged=True)

    def _measure(self, disk: Disk, log: Log) -> None:
        """Where each file ends: where the next begins, if that one followed it; else after its last whole record."""
        for i, segment in enumerate(log.segments):
            following = log.segments[i + 1] if i + 1 < len(log.segments) else None
            if following is not None and following.head.previous == segment.first:
                segment.end = following.first
                continue
            segment.end, segment.filled = self._find_end(disk, log, segment)
            if following is not None:
                segment.end = min(segment.end, following.first)

    def _find_end(self, disk: Disk, log: Log, segment: Segment) -> tuple[int, int]:
        for start in (max(0, segment.size - TAIL_READ), 0):
            try:
                data = disk.read(f"{log.broker}/{segment.name}", start, segment.size - start)
            except OSError as error:
                self.fault = error.strerror or str(error)
                break
            at, last = 0, None
            while (found := find_record(data, at)) is not None:
                last, at = found
            if last is not None and last.seq >= segment.first:
                log.torn += any(data[at:])
                return last.seq + 1, start + at
        return segment.first, min(segment.size, HEAD_BYTES)

    def _restore(self, disk: Disk, log: Log, files: Mapping[str, int]) -> None:
        if files.get(DONE, MAX_BYTES) < MAX_BYTES and log.segments:
            try:
                log.runs = read_done(disk.read(f"{log.broker}/{DONE}", 0, files[DONE]), [s.head for s in log.segments])
            except OSError as error:
                self.fault = error.strerror or str(error)
        known = Runs(log.runs)
        log.stored = log.waiting = sum(known.add(s.first, s.end) for s in log.segments)
        log.cursor = log.segments[0].first if log.segments else 1
        # No number is used twice: neither those of files that are gone and noted as done, nor those of files that cannot be read.
        ours = {s.name for s in log.segments}
        unread = (number_in(file) + size // RECORD_BYTES for file, size in files.items() if file not in ours)
        log.next_seq = max([1, *(s.end for s in log.segments), *log.runs.stops[-1:], *unread])


def number_in(file: str) -> int:
    """The first record's number, as the file's name has it; 0 if it has none."""
    try:
        return int(PurePath(file).name.partition("-")[0], 16)
    except ValueError:
        return 0


def write_done(head: Head, runs: Runs) -> bytes:
    """`head` is that of the oldest file, so that the note cannot be taken for that of other files."""
    data = _DONE_HEAD.pack(head.first, head.created, len(runs.starts)) + b"".join(_RUN.pack(*run) for run in runs)
    return data + crc32(data).to_bytes(4, "little")


def read_done(data: bytes, heads: Iterable[Head]) -> Runs:
    """The runs of a note, none if it is damaged or not about these files."""
    if len(data) < _DONE_HEAD.size + 4 or crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return Runs()
    first, created, count = _DONE_HEAD.unpack_from(data)
    if not any(h.first == first and h.created == created for h in heads) or len(data) != _DONE_HEAD.size + count * _RUN.size + 4:
        return Runs()
    return Runs(_RUN.iter_unpack(data[_DONE_HEAD.size : -4]))
