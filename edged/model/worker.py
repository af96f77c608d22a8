"""The threads that run models too slow for the loop: one a kind of provider, so that CPU and GPU work side by side.

A thread only calls the session, which gives the interpreter lock back while it computes. Its job goes in by a
`SimpleQueue`, its outcome comes back by `call_soon_threadsafe`: half the cost of an executor.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

SWITCH_S = 0.0005  # at Python's 5 ms a busy uvloop wins the lock back each turn, and a reply takes seconds

Job = tuple[Callable[[], Any], Callable[[Any], None]]


class Workers:
    """Threads by kind, started with their first job; daemons, so that a run that never returns cannot hold the exit up."""

    def __init__(self, call_soon_threadsafe: Callable[..., Any]) -> None:
        self._call_soon_threadsafe = call_soon_threadsafe
        self._queues: dict[str, SimpleQueue[Job | None]] = {}
        self._threads: list[threading.Thread] = []
        self._interval_before: float | None = None

    def submit(self, kind: str, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Calls `work()` on the thread of `kind`, then `done(outcome)` on the loop; what `work` raises is raised there."""
        queue = self._queues.get(kind)
        if queue is None:
            queue = self._queues[kind] = SimpleQueue()
            self._start(kind, queue)
        queue.put((work, done))

    def close(self, timeout_s: float = 0.0) -> bool:
        """Ends the threads after their jobs; waits `timeout_s` for them. Returns whether all have ended."""
        for queue in self._queues.values():
            queue.put(None)
        self._queues.clear()
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads = [t for t in self._threads if t.is_alive()]
        if self._interval_before is not None and not self._threads:
            sys.setswitchinterval(self._interval_before)
            self._interval_before = None
        return not self._threads

    def _start(self, kind: str, queue: SimpleQueue[Job | None]) -> None:
        if self._interval_before is None:
            self._interval_before = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_S)
        thread = threading.Thread(target=self._serve, args=(queue,), name=f"model-{kind}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, queue: SimpleQueue[Job | None]) -> None:
        while (job := queue.get()) is not None:
            work, done = job
            try:
                outcome = work()
            except Exception as e:
                done, outcome = _raise, e
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody is left to tell
                self._call_soon_threadsafe(done, outcome)
            del job, work, done, outcome  # an idle thread must not keep a retired model in memory


def _raise(error: Exception) -> None:
    raise error
