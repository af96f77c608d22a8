"""What a planned stop leaves for the next start: windows that are not full, what models remember, sequence numbers, the name of
the run.

One file in the state directory, written whole when all is stopped and taken away when it is read, so that a crash can never
bring back what is old. It is a list of records, `length, CRC32, MessagePack`: a head, one for each key of each pipeline, an end.
A file that is damaged, of another device or version, or old is moved aside and logged; a pipeline whose windows are
made in another way now starts them again.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.notation.units import MIB
from edged.pipeline.recurrent import Saved as SavedState
from edged.pipeline.window import Saved
from edged.plan.change import state_mark, window_mark
from edged.plan.records import PipelinePlan, Plan
from edged.sources.kinds import kind_of
from edged.stamp import UNFIT
from edged.system.durable import read_kept, replaced

VERSION = 1
NAME = "saved"
STALE_NS = 24 * 3600 * 10**9
"""Older windows would join today's samples to those of another day."""
AHEAD_NS = 60 * 10**9
"""A machine without a clock of its own may start a little before it stopped."""
_HEAD = struct.Struct("<II")

log: Any = structlog.get_logger("edged")


class Head(msgspec.Struct, array_like=True):
    """`time` is UTC in ns; `seqs` the next sequence number of each pipeline, `marks` what its windows are like, `models` what its
    model is."""

    version: int
    device: str
    time: int
    run: str
    seqs: dict[str, int]
    marks: dict[str, str]
    models: dict[str, str] = {}


class Window(msgspec.Struct, array_like=True):
    """One key of one pipeline, as `window.Saved`; `last` is UTC, `rows` as bytes. `state` is what the model remembers."""

    pipeline: str
    key: tuple[str, ...]
    rows: bytes
    seen: int
    due: int
    last: int
    bad: int
    state: bytes = b""


class Unusable(ValueError):
    """The file is not to be used; says why."""


def save(a: Assembly, folder: Path, clock: Clock) -> None:
    """Writes the file, synced. What fails is said, and the next start is one without it."""
    names = a.plan.pipelines
    head = Head(
        VERSION,
        a.plan.device,
        clock.utc(),
        a.run,
        {name: a.pipelines[name].counts.next_seq for name in names},
        {name: window_mark(p) for name, p in names.items()},
        {name: mark for name, p in names.items() if (mark := state_mark(p, a.plan.models))},
    )
    count = 0
    try:
        with replaced(folder / NAME) as file:
            for record in [head, *_windows(a, clock), None]:
                body = msgspec.msgpack.encode(record)
                file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)
                count += 1
    except OSError as error:
        log.warning("state_not_saved", path=str(folder / NAME), reason=error.strerror, lost="windows that were not full")
        return
    log.info("state_saved", windows=count - 2)


def _windows(a: Assembly, clock: Clock) -> Iterator[Window]:
    for name, p in a.plan.pipelines.items():
        stage, states = a.pipelines[name].window, a.pipelines[name].states
        table = a.keys.get(p.key_group) if p.keys else None
        if any(kind_of(a.plan.sources[root].settings).is_played for root in p.roots):
            continue
        offset = clock.offset() if is_monotonic(a.plan, p) else 0
        for key in range(len(table) if table is not None else 1):
            names = table.names(key) if table is not None else ()
            memory = states.save(key, stage.stretch(key) if stage is not None else None) if states is not None else None
            state = memory.rows if memory is not None else b""
            if stage is not None and (kept := stage.save(key)) is not None:
                yield Window(name, names, kept.rows.tobytes(), kept.seen, kept.due, kept.last + offset, kept.bad, state)
            elif stage is None and memory is not None:
                yield Window(name, names, b"", 0, 0, memory.last + offset, 0, state)


def is_monotonic(plan: Plan, p: PipelinePlan) -> bool:
    """Whether the times in its window are those of the monotonic clock: samples stamped on arrival, or by a sensor's counter."""
    source = plan.sources.get(p.sources[0])
    if source is None or p.align is not None:
        return False
    time_format = source.decode.time_format if source.decode is not None else None
    return time_format is None or time_format.startswith("elapsed_")


def load(folder: Path, device: str, now: int, max_bytes: int = 64 * MIB) -> tuple[Head, list[Window]] | None:
    """What the last stop left, once; None if it left nothing that can be used. `now` is UTC in ns; no more than `max_bytes` were
    ever in memory."""
    path = folder / NAME

    def decode(data: bytes) -> tuple[Head, list[Window]]:
        head, windows = _decode(data)
        if head.device != device:
            raise Unusable(f"it belongs to the device {head.device}")
        if not -AHEAD_NS <= now - head.time <= STALE_NS:
            age_h = (now - head.time) / 3600e9
            raise Unusable(f"it is {age_h:.0f} hours old" if age_h > 0 else "its time is in the future: was the clock set?")
        return head, windows

    found = read_kept(path, max_bytes, decode, lost="windows that were not full")
    if found is None:
        return None
    try:
        path.unlink()
    except OSError as error:  # it would come back after a crash
        log.warning("state_not_restored", path=str(path), reason=f"cannot be removed: {error.strerror}")
        return None
    return found


def _decode(data: bytes) -> tuple[Head, list[Window]]:
    bodies, at = [], 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise Unusable("it is cut off")
        length, crc = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(body) < length or zlib.crc32(body) != crc:
            raise Unusable("it is damaged")
        bodies.append(body)
        at += _HEAD.size + length
    try:
        if len(bodies) < 2 or msgspec.msgpack.decode(bodies[-1]) is not None:
            raise Unusable("it is cut off")
        if (version := msgspec.msgpack.decode(bodies[0])[0]) != VERSION:
            raise Unusable(f"it has format {version}, and this edged reads format {VERSION}")
        return msgspec.msgpack.decode(bodies[0], type=Head), [msgspec.msgpack.decode(b, type=Window) for b in bodies[1:-1]]
    except (msgspec.MsgspecError, TypeError, LookupError, RecursionError) as error:
        raise Unusable(f"it cannot be read: {error}") from None


def restore(a: Assembly, head: Head, windows: list[Window], clock: Clock) -> None:
    """Goes on where the stop left off."""
    for name, seq in head.seqs.items():
        if name in a.pipelines:
            a.pipelines[name].counts.next_seq = seq
    fits = {name for name, p in a.plan.pipelines.items() if head.marks.get(name) == window_mark(p)}
    count = 0
    for one in windows:
        if one.pipeline not in fits:
            continue
        p = a.plan.pipelines[one.pipeline]
        pipeline, table = a.pipelines[one.pipeline], a.keys.get(p.key_group) if p.keys else None
        key = table.id(one.key, clock.now()) if table is not None else 0
        if key is None or key == UNFIT:
            continue
        stage, states = pipeline.window, pipeline.states
        last = one.last - (clock.offset() if is_monotonic(a.plan, p) else 0)
        with contextlib.suppress(ValueError):
            if stage is not None:
                rows = np.frombuffer(one.rows, p.dtype).reshape(-1, p.width)
                stage.restore(key, Saved(rows, one.seen, one.due, last, one.bad))
            if states is not None and one.state and head.models.get(one.pipeline) == state_mark(p, a.plan.models):
                states.restore(key, SavedState(one.state, last), stage.stretch(key) if stage is not None else None)
            count += 1
    changed = sorted({w.pipeline for w in windows} - fits)
    log.info("state_restored", run=head.run, windows=count, **({"started_over": " ".join(changed)} if changed else {}))
