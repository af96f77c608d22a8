"""Which stage has the loop, or the worker, right now: for whoever must say afterwards where it hung.

The number of the stage is a byte in a mapped file, which outlives any end of the process: the next start reads it. A stage
that holds the loop for more than 50 ms is told to `on_slow`, by name.
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SLOW_NS = 50_000_000
LOOP, WORKER = 0, 1
"""Places in the file: the stage that has the loop, and the model that has the worker."""
_NAMES_AT = 64
_SIZE = 16 * 1024
MOST = 255
"""Stages that have a number of their own; what comes later shares the last."""


class Stages:
    """Stages by name. `now` is monotonic ns; `on_slow(name, ns)` is called on the loop, after the stage."""

    def __init__(self, now: Callable[[], int], on_slow: Callable[[str, int], None] = lambda name, ns: None) -> None:
        self.on_slow = on_slow
        self._now = now
        self._names: list[str] = [""]
        self._marks: Any = mmap.mmap(-1, _SIZE)
        self._told = 0

    def keep_in(self, path: Path) -> list[str]:
        """Keeps the marks in a file from now on; returns the stages that the process before was in when it ended, if it had no
        time to say so. To be called before `wrap`. Raises OSError where no such file can be had."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_SIZE)
            marks = mmap.mmap(file.fileno(), _SIZE)
        found = _read(marks)
        marks[:] = bytes(_SIZE)
        self._marks = marks
        return found

    def close(self) -> None:
        """The process ends in good order: in no stage."""
        self._marks[:_NAMES_AT] = bytes(_NAMES_AT)

    def wrap(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work` as a stage of the loop."""
        number, marks, now = self._number(name), self._marks, self._now

        def run(*arguments: Any) -> Any:
            before = marks[LOOP]
            marks[LOOP] = number
            started = now()
            try:
                return work(*arguments)
            finally:
                marks[LOOP] = before
                if now() - started > SLOW_NS:
                    self._slow(name, started)

        return run

    @contextlib.contextmanager
    def on_worker(self, name: str) -> Iterator[None]:
        """Within the block the worker runs a model."""
        self._marks[WORKER] = self._number(name)
        try:
            yield
        finally:
            self._marks[WORKER] = 0

    def _slow(self, name: str, started: int) -> None:
        now = self._now()
        took = now - max(started, self._told)  # of a stage within a stage, only the inner one is told
        if took > SLOW_NS:
            self._told = now
            self.on_slow(name, took)

    def _number(self, name: str) -> int:
        if name in self._names:
            return self._names.index(name)
        if len(self._names) > MOST:
            return MOST
        self._names.append(name)
        table = json.dumps(self._names).encode()
        if _NAMES_AT + 4 + len(table) <= _SIZE:
            self._marks[_NAMES_AT : _NAMES_AT + 4 + len(table)] = len(table).to_bytes(4, "little") + table
        return len(self._names) - 1


def _read(marks: Any) -> list[str]:
    """The names of the stages that are marked; none in a file that is new, or none of ours."""
    numbers = [marks[place] for place in (LOOP, WORKER) if marks[place]]
    length = int.from_bytes(marks[_NAMES_AT : _NAMES_AT + 4], "little")
    try:
        names = json.loads(marks[_NAMES_AT + 4 : _NAMES_AT + 4 + length])
        return [str(names[number]) for number in numbers]
    except (ValueError, IndexError, TypeError, KeyError):
        return []
