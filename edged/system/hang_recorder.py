"""Which stage has the loop, and which models run on threads, right now: for whoever must say afterwards where it hung.

A mapped file outlives any end of the process: the next start reads it. A stage that blocks the loop for more than 50 ms is
reported to `on_slow`, by name. The file:

    1, 3..15 models that run on threads: numbers of the table below, 0: none
    2        `ends`: how many runs in a row ended in the stage `names[0]`, without a word and before they got any further
    16..31   hash of the input that is handled alone right now (`suspects.py`); zeros: none
    32..255  hashes of inputs that are known to end the process, the newest last; zeros: none
    256..    the table: its length (4 bytes, little-endian), then the names as a JSON list
    15360..  a word for each number: the kernel marks that of the stage that has the loop, as the process ends (`end_mark.py`)

The other marks are in memory of our own, and the kernel copies each into the mapped file: where somebody cut the file short, or
its disk has no room for the page, that is an error, and a store of ours would be the end of the process (SIGBUS). A plain write
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
from edged.system.end_mark import PENDING, WORD, EndMark, marked, words

SLOW_NS = 50_000_000
WORKERS = (1, *range(3, 16))
"""Places in the file of models that run on threads; those beyond are not noted."""
_ENDS, _ALONE, _POISON, _NAMES = 2, 16, 32, 256
WORDS = 15 * 1024
"""Where the words of `end_mark.py` are in the file."""
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
        self._loop = EndMark(MAX + 1)
        self._free = list(reversed(WORKERS))
        self._told = 0

    def keep_in(self, path: Path) -> list[str]:
        """Keeps the marks in a file from now on; returns the stages that the process before was in when it ended, if it had no
        time to say so. To be called before `wrap`, in the loop's thread. Raises OSError where no such file can be had."""
        path.parent.mkdir(parents=True, exist_ok=True)
        last = read_kept(path, _SIZE, _read, lost="where the last run ended, if it did not stop") or Last()
        file = self._marks.keep_in(path)
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
        self._marks[WORDS : WORDS + WORD * (MAX + 1)] = words(MAX + 1)
        self._loop.keep_in(file, WORDS)  # last, because it may fail: edged knows inputs that end it even so
        return list(last.ended_in)

    def close(self) -> None:
        """The process ends in good order: in no stage, but for a run that does not end."""
        self._loop.head[PENDING] = 0
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
        head, place, now = self._loop.head, self._loop.places[self._number(name)], self._now

        def run(*arguments: Any) -> Any:
            before, head[PENDING] = head[PENDING], place
            started = now()
            try:
                return work(*arguments)
            finally:
                head[PENDING] = before
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
        if _NAMES + 4 + len(table) <= WORDS:
            self._marks[_NAMES : _NAMES + 4 + len(table)] = len(table).to_bytes(4, "little") + table


class _Marks:
    """Bytes in memory, copied into a file as they are set."""

    def __init__(self) -> None:
        self._source = os.memfd_create("edged-stages")
        os.ftruncate(self._source, _SIZE)
        self._own = mmap.mmap(self._source, _SIZE)
        self._kept = memoryview(bytearray(_SIZE))

    def keep_in(self, path: Path) -> mmap.mmap:
        """Copies into this file from now on; returns it. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _SIZE)
            os.posix_fallocate(fd, 0, _SIZE)
            file = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._kept = memoryview(file)
        self[0:_SIZE] = bytes(_SIZE)
        return file

    def __getitem__(self, at: int) -> int:
        return self._own[at]

    def __setitem__(self, at: int | slice, value: Any) -> None:
        self._own[at] = value
        where = slice(at, at + 1) if isinstance(at, int) else at
        with contextlib.suppress(OSError):  # EFAULT: the file has no such page any more
            os.preadv(self._source, [self._kept[where]], where.start or 0)

    def __del__(self) -> None:
        os.close(self._source)


def _read(marks: bytes) -> Last:
    """What a file says; nothing if it is new. Raises what decoding raises."""
    if not any(marks):
        return Last()
    length = int.from_bytes(marks[_NAMES : _NAMES + 4], "little")
    names = json.loads(marks[_NAMES + 4 : _NAMES + 4 + length])
    numbers = (*marked(marks[WORDS:], MAX + 1), *(marks[place] for place in WORKERS if marks[place]))
    ended_in = tuple(str(names[number]) for number in numbers)
    hashes = [marks[at : at + HASH] for at in range(_POISON, _NAMES, HASH)]
    alone = marks[_ALONE : _ALONE + HASH]
    return Last(ended_in, str(names[0]), marks[_ENDS], alone if any(alone) else b"", tuple(h for h in hashes if any(h)))
