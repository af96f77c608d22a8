"""Which stage has the loop, and which models run on threads, right now: for whoever must say afterwards where it hung.

The number of the stage is a byte in a mapped file, which outlives any end of the process: the next start reads it. A stage
that blocks the loop for more than 50 ms is reported to `on_slow`, by name. The file:

    0        the stage that has the loop: a number of the table below, 0: none
    1, 3..15 models that run on threads
    2        `ends`: how many runs in a row ended in the stage `names[0]`, without a word and before they got any further
    16..31   hash of the input that is handled alone right now (`suspects.py`); zeros: none
    32..255  hashes of inputs that are known to end the process, the newest last; zeros: none
    256..    the table: its length (4 bytes, little-endian), then the names as a JSON list

The marks are in memory of our own, and the kernel copies each into the mapped file: where somebody cut the file short, or its
disk has no room for the page, that is an error, and a store of ours would be the end of the process (SIGBUS). A plain write
would do as well, and have the disk note the time of each.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edged.system.durable import read_kept

SLOW_NS = 50_000_000
LOOP, WORKERS = 0, (1, *range(3, 16))
"""Places in the file: the stage that has the loop, and the models that run on threads; those beyond are not noted."""
_ENDS, _ALONE, _POISON, _NAMES = 2, 16, 32, 256
HASH = 16
"""Bytes of an input's hash."""
_SIZE = 16 * 1024
MAX = 255
"""Stages that have a number of their own; what comes later shares the last."""


class Last(NamedTuple):
    """What the file says of the process before: the stages it ended in, if it had no time to say so, and its counts."""

    ended_in: tuple[str, ...] = ()
    stage: str = ""
    ends: int = 0
    alone: bytes = b""
    poison: tuple[bytes, ...] = ()


class Stages:
    """Stages by name. `now` is monotonic ns; `on_slow(name, ns)` is called on the loop, after the stage. `ends` and `poison` are
    what `keep_in` found: how many runs in a row ended in `stage`, and what is to blame, where that is known."""

    def __init__(self, now: Callable[[], int], on_slow: Callable[[str, int], None] = lambda name, ns: None) -> None:
        self.on_slow = on_slow
        self.stage = ""
        self.ends = 0
        self.poison: tuple[bytes, ...] = ()
        self._now = now
        self._names: list[str] = [""]
        self._marks = _Marks()
        self._free = list(reversed(WORKERS))
        self._told = 0

    def keep_in(self, path: Path) -> list[str]:
        """Keeps the marks in a file from now on; returns the stages that the process before was in when it ended, if it had no
        time to say so. To be called before `wrap`. Raises OSError where no such file can be had."""
        path.parent.mkdir(parents=True, exist_ok=True)
        last = read_kept(path, _SIZE, _read, lost="where the last run ended, if it did not stop") or Last()
        self._marks.keep_in(path)
        if last.ended_in:
            is_again = last.stage in last.ended_in
            self.stage = last.stage if is_again else last.ended_in[0]
            self.ends = min(last.ends + 1, 255) if is_again else 1
            culprit = (last.alone,) if is_again and last.alone else ()
            self.poison = (*last.poison, *culprit)[-(_NAMES - _POISON) // HASH :]
            self._marks[_ENDS] = self.ends
            self._marks[_POISON : _POISON + HASH * len(self.poison)] = b"".join(self.poison)
        self._names = [self.stage]
        self._write_names()
        return list(last.ended_in)

    def close(self) -> None:
        """The process ends in good order: in no stage, but for a run that does not end."""
        self._marks.give_loop(0)
        if not self.is_working:
            self._marks[:_NAMES] = bytes(_NAMES)

    def forgive(self) -> None:
        """This run got further than those before: its end will be the first."""
        self.ends = self._marks[_ENDS] = 0
        self.handle_alone(b"")

    def handle_alone(self, digest: bytes) -> None:
        """What is handled next is this one input; empty: any."""
        self._marks[_ALONE : _ALONE + HASH] = digest or bytes(HASH)

    @property
    def is_working(self) -> bool:
        """Whether a thread runs a model."""
        return len(self._free) < len(WORKERS)

    def wrap(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work` as a stage of the loop."""
        number, marks, now = self._number(name), self._marks, self._now

        def run(*arguments: Any) -> Any:
            before = marks.loop
            marks.give_loop(number)
            started = now()
            try:
                return work(*arguments)
            finally:
                marks.give_loop(before)
                if now() - started > SLOW_NS:
                    self._slow(name, started)

        return run

    def within(self, name: str, work: Callable[[], object]) -> Callable[[], None]:
        """`work` as the last thing that another stage does: it has the loop until that one ends. One mark less."""
        number, marks, now = self._number(name), self._marks, self._now

        def run() -> None:
            marks.give_loop(number)
            started = now()
            work()
            if now() - started > SLOW_NS:
                self._slow(name, started)

        return run

    @contextlib.contextmanager
    def on_worker(self, name: str) -> Iterator[None]:
        """Within the block a thread runs a model."""
        try:
            place = self._free.pop()
        except IndexError:
            yield
            return
        self._marks[place] = self._number(name)
        try:
            yield
        finally:
            self._marks[place] = 0
            self._free.append(place)

    def _slow(self, name: str, started: int) -> None:
        now = self._now()
        took = now - max(started, self._told)  # of a stage within a stage, only the inner one is told
        if took > SLOW_NS:
            self._told = now
            self.on_slow(name, took)

    def _number(self, name: str) -> int:
        if name in self._names[1:]:
            return self._names.index(name, 1)
        if len(self._names) > MAX:
            return MAX
        self._names.append(name)
        self._write_names()
        return len(self._names) - 1

    def _write_names(self) -> None:
        table = json.dumps(self._names).encode()
        if _NAMES + 4 + len(table) <= _SIZE:
            self._marks[_NAMES : _NAMES + 4 + len(table)] = len(table).to_bytes(4, "little") + table


class _Marks:
    """Bytes in memory, copied into a file as they are set."""

    def __init__(self) -> None:
        self._source = os.memfd_create("edged-stages")
        os.ftruncate(self._source, _SIZE + MAX + 1)
        self._own = mmap.mmap(self._source, _SIZE + MAX + 1)
        self._own[_SIZE:] = bytes(range(MAX + 1))  # each number, to be copied from here
        self.loop = 0
        self._kept = memoryview(bytearray(_SIZE))
        self._places = [[self._kept[at : at + 1]] for at in range(_NAMES)]

    def keep_in(self, path: Path) -> None:
        """Copies into this file from now on. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _SIZE)
            os.posix_fallocate(fd, 0, _SIZE)
            self._kept = memoryview(mmap.mmap(fd, _SIZE))
        finally:
            os.close(fd)
        self._places = [[self._kept[at : at + 1]] for at in range(_NAMES)]
        self[0:_SIZE] = bytes(_SIZE)

    def give_loop(self, stage: int) -> None:
        """The same as to set `LOOP`, for a third less: it happens a few times each wake-up."""
        self.loop = stage
        try:  # noqa: SIM105
            os.preadv(self._source, self._places[LOOP], _SIZE + stage)
        except OSError:  # EFAULT: the file has no such page any more
            pass

    def __getitem__(self, at: int) -> int:
        return self._own[at]

    def __setitem__(self, at: int | slice, value: Any) -> None:
        self._own[at] = value
        try:
            if isinstance(at, int):
                os.preadv(self._source, self._places[at], at)
            else:
                os.preadv(self._source, [self._kept[at]], at.start or 0)
        except OSError:  # EFAULT: the file has no such page any more
            pass

    def __del__(self) -> None:
        os.close(self._source)


def _read(marks: bytes) -> Last:
    """What a file says; nothing if it is new. Raises what decoding raises."""
    if not any(marks):
        return Last()
    length = int.from_bytes(marks[_NAMES : _NAMES + 4], "little")
    names = json.loads(marks[_NAMES + 4 : _NAMES + 4 + length])
    ended_in = tuple(str(names[marks[place]]) for place in (LOOP, *WORKERS) if marks[place])
    hashes = [marks[at : at + HASH] for at in range(_POISON, _NAMES, HASH)]
    alone = marks[_ALONE : _ALONE + HASH]
    return Last(ended_in, str(names[0]), marks[_ENDS], alone if any(alone) else b"", tuple(h for h in hashes if any(h)))
