"""A recording, or any file of frames, played as a source.

With a speed, it is a live sensor: what came in after t seconds then comes in after t / speed seconds now. With speed 0 it
comes as fast as it is taken, on the recording's clock: times depend on the file alone, so the same file gives the same
results. The clock of a plain file is its own times, or `rate`, counted from 1970 where it has no date. `Block.arrival` is
always of this machine's clock, since it tells how old a result is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edged.clock.clock import Clock
from edged.clock.spent import spends
from edged.config import schema
from edged.decode import Arrived, PayloadDecoder, make_payload_decoder
from edged.decode.stream import StreamDecoder, make_stream_decoder
from edged.errors import Retryable
from edged.notation.words import did_you_mean, listed
from edged.records import ON_ARRIVAL, Block, Rows
from edged.sources.counts import SourceCounts, stamped
from edged.sources.flow import Flow
from edged.sources.in_order import let_out
from edged.sources.kind import Kind, Parts, Planned, Report
from edged.sources.pictures import beside
from edged.sources.recording import MAX_BYTES, Header, read_header, read_records
from edged.stamp import Stamper
from edged.system.plain_file import opened_plain

CHUNK_BYTES = 64 * 1024
PACED_KEYS = 4096
"""Keys of a plain file without times that are played at their `rate`; rows of further ones come with those around them."""
HEADER_BYTES = 64 * 1024
PART_NS = 50 * 10**6  # a plain file is played in steps of so long


class ReplaySource:
    """Plays one file once. `stream` decodes serial recordings and plain files, `payloads` recordings of MQTT."""

    def __init__(
        self,
        name: str,
        settings: schema.ReplaySource,
        stream: StreamDecoder,
        payloads: PayloadDecoder,
        stamper: Stamper,
        flow: Flow,
        counts: SourceCounts,
        clock: Clock,
        is_slow: bool = False,
    ) -> None:
        """`is_slow`: decoding takes too long for the loop."""
        self.name = name
        self.counts = counts
        self.state = "connecting"
        self.reason = ""
        self._settings = settings
        self._stream = stream
        self._payloads = payloads
        self._stamper = stamper
        self._flow = flow
        self._clock = clock
        self._is_slow = is_slow

    async def run(self, push: Callable[[Block], None]) -> None:
        """Returns at the end of the file, in the state "finished". Raises Retryable when it cannot be opened."""
        file, header = self._open()
        with file:
            self.counts.opens += 1
            self.counts.opened = self._clock.now()
            self.state, self.reason = "running", ""
            self._stream.reset()
            self._stamper.reset()
            if header is None:
                await self._play_file(file, push)
            else:
                await self._play_recording(file, header, push)
        if self._stamper.lateness is not None:
            let_out(self._stamper, self.counts, [push], None)
        self.state, self.reason = "finished", f"all of {self._settings.path} was played"

    def _open(self) -> tuple[BinaryIO, Header | None]:
        path = self._settings.path
        try:
            with opened_plain(path, MAX_BYTES) as (fd, _):
                file = open(os.dup(fd), "rb")  # noqa: SIM115 (the caller closes it)
            try:
                return file, read_header(file)
            except ValueError:
                file.close()
                raise
        except FileNotFoundError as e:
            self.state, self.reason = "missing", f"{path} is not there"
            raise Retryable(self.state, self.reason) from e
        except (OSError, ValueError) as e:
            self.state, self.reason = "refused", f"{path}: {e}"
            raise Retryable(self.state, self.reason) from e

    async def _play_recording(self, file: BinaryIO, header: Header, push: Callable[[Block], None]) -> None:
        speed, clock, start = self._settings.speed, self._clock, self._clock.now()
        arrival, offset = header.monotonic_ns, header.utc_ns - header.monotonic_ns
        gap, before = self._settings.frame.gap, 0
        for record in read_records(file, header.kind):
            if gap is not None and record.since_ns - before >= gap:  # a silence ended a block
                await self._push(await self._decoded(self._stream.quiet), arrival, offset, push)
            before = record.since_ns
            if speed:
                await self._until(start + int(record.since_ns / speed))
                arrival, offset = clock.now(), clock.offset()
            else:
                arrival = header.monotonic_ns + record.since_ns
            self.counts.bytes += len(record.data)
            self.counts.last_arrival = clock.now()
            if header.kind != "serial":  # each record is a payload
                self.counts.messages += 1
                rows = await self._decoded(
                    partial(self._payloads.decode, [record.data], None, Arrived((), arrival, arrival + offset))
                )
            else:
                rows = await self._decoded(partial(self._stream.feed, record.data))
            await self._push(rows, arrival, offset, push)
        await self._push(self._last_line(), arrival, offset, push)

    async def _play_file(self, file: BinaryIO, push: Callable[[Block], None]) -> None:
        player = _FilePlayer(self._settings, self._clock)
        is_last = False
        while not is_last:
            data = file.read(CHUNK_BYTES)
            is_last = not data
            rows = self._last_line() if is_last else await self._decoded(partial(self._stream.feed, data))
            self.counts.bytes += len(data)
            self.counts.last_arrival = self._clock.now()
            if rows is None:
                await asyncio.sleep(0)
                continue
            for part, due in player.parts(rows):
                if self._settings.speed:
                    await self._until(due)
                    await self._push(part, self._clock.now(), self._clock.offset(), push)
                else:
                    await self._push(part, due, 0, push)

    async def _decoded(self, work: Callable[[], Rows | None]) -> Rows | None:
        try:
            return await beside(self.name, work) if self._is_slow else self._decode(work)
        except Exception as error:  # a fault of ours costs this record, or piece of a file
            self.counts.lose(error)
            self._stream.reset()
            return None

    @spends("decode")
    def _decode(self, work: Callable[[], Rows | None]) -> Rows | None:
        return work()

    def _last_line(self) -> Rows | None:
        """A file may end without the end of its last line."""
        if not self._stream.pending:
            return None
        frame = self._settings.frame
        return self._stream.feed(frame.end) if frame.type == "line" and frame.end else self._stream.quiet()

    async def _push(self, rows: Rows | None, arrival: int, offset: int, push: Callable[[Block], None]) -> None:
        """Stamps as of `arrival` and pushes; then lets others run, and waits while a pipeline is full."""
        if rows is not None:
            try:
                block = stamped(rows, self._stamper, self.counts, arrival, offset, is_synced=False)
            except Exception as error:
                self.counts.lose(error)
                block = None
            if block is not None:
                block.arrival = self._clock.now()
                push(block)
        await asyncio.sleep(0)
        if not self._flow.is_open:
            await self._flow.wait()

    async def _until(self, due: int) -> None:
        wait_ns = due - self._clock.now()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)


class _FilePlayer:
    """When the rows of a plain file are due: by their own times, else by `rate`, else at once."""

    def __init__(self, settings: schema.ReplaySource, clock: Clock) -> None:
        self._speed = settings.speed
        self._period = 1e9 / settings.rate if settings.rate else 0.0
        self._start = clock.now() if settings.speed else 0
        self._first: int | None = None
        self._counts: dict[tuple[str, ...], int] = {}

    def parts(self, rows: Rows) -> list[tuple[Rows, int]]:
        """The rows in pieces, each with the time (ns) at which it is due: monotonic, with speed 0 the file's own."""
        if not len(rows.values):
            return [(rows, self._start)]
        due = self._due(rows)
        if not self._speed:
            return [(rows, int(due[-1]))]
        due = (np.maximum.accumulate(due) / self._speed).astype(np.int64)
        cuts = [0, *(np.flatnonzero(np.diff(due // PART_NS)) + 1).tolist(), len(due)]
        return [(rows.part(a, b), self._start + int(due[b - 1])) for a, b in itertools.pairwise(cuts)]

    def _due(self, rows: Rows) -> NDArray[np.int64]:
        if rows.time is not None and ON_ARRIVAL not in rows.time:
            if not self._speed:
                return rows.time
            if self._first is None:
                self._first = int(rows.time[0])
            return np.maximum(rows.time - self._first, 0)
        keys = rows.keys if rows.keys is not None else [()] * len(rows.values)
        index = np.empty(len(keys), np.int64)
        for i, key in enumerate(keys):  # `rate` is that of one key
            if key not in self._counts and len(self._counts) >= PACED_KEYS:
                index[i] = 0  # at once
                continue
            index[i] = self._counts[key] = self._counts.get(key, -1) + 1
        return (index * self._period).astype(np.int64)


def build(plan: Planned, parts: Parts) -> ReplaySource:
    assert plan.decode is not None
    return ReplaySource(
        plan.name,
        plan.settings,
        make_stream_decoder(plan.decode),
        make_payload_decoder(plan.decode),
        parts.stamper,
        parts.flow,
        parts.counts,
        parts.clock,
        plan.decode.is_slow,
    )


def describe(plan: Planned) -> str:
    speed = plan.settings.speed
    return f"recording {plan.settings.path}, " + (f"{speed:g} times as fast" if speed else "as fast as it goes")


def look(at: Report, source: schema.ReplaySource, ports: Callable[[], Sequence[str]]) -> None:
    try:
        with opened_plain(source.path, MAX_BYTES) as (fd, _), open(fd, "rb", closefd=False) as file:
            is_plain = read_header(file) is None
            first_line = file.read(HEADER_BYTES).partition(b"\n")[0]
    except FileNotFoundError:
        at.warn("path", f"{source.path} is not there (retrying)")
        return
    except (OSError, ValueError) as error:
        at.wrong("path", f"{source.path}: {getattr(error, 'strerror', None) or error}")
        return
    if is_plain and source.decode.header and source.frame.type == "line":
        columns = [
            c.strip().strip('"') for c in first_line.decode("utf-8", "replace").lstrip("\ufeff").split(source.decode.separator)
        ]
        for key, field in _columns(source):
            if field not in columns:
                text = f'"{field}" is not in the header of {source.path}: {listed(columns)}'
                at.wrong(key, text + did_you_mean(field, columns))


def _columns(source: schema.ReplaySource) -> Iterator[tuple[str, str]]:
    """The columns that must be there, with the keys that name them."""
    for i, field in enumerate(source.decode.fields):
        if field.name != "_":
            yield f"decode.fields[{i}]", field.name
    if source.decode.time is not None and source.decode.time.field is not None:
        yield "decode.time.field", source.decode.time.field
    for i, name in enumerate(source.key or ()):
        yield f"key[{i}]", name


def is_lossless(settings: schema.ReplaySource) -> bool:
    return settings.speed == 0


def frames_of(settings: schema.ReplaySource) -> tuple[schema.Frame, schema.Checksum]:
    return settings.frame, settings.checksum


def has_own_clock(settings: schema.ReplaySource) -> bool:
    return not settings.speed


KIND = Kind(
    schema.ReplaySource,
    build,
    describe,
    look,
    frames=frames_of,
    has_own_clock=has_own_clock,
    is_played=True,
    ends=True,
    is_lossless=is_lossless,
)
