"""The threads that run models too slow for the loop. On the CPU any model runs on any of them, one for each core; a GPU has one
of its own, so that both work side by side.

A thread only calls the session, which gives the interpreter lock back while it computes. Its job goes in by a `SimpleQueue`, its
outcome comes back by `call_soon_threadsafe`: half the cost of an executor. A run that has begun is never interrupted.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from queue import SimpleQueue
from typing import Any, NamedTuple

CPU = "cpu"


class Job(NamedTuple):
    """The higher `priority` first, among equals in their order."""

    rank: int
    number: int
    work: Callable[[], Any]
    done: Callable[[Any], None]

    @property
    def priority(self) -> int:
        return -self.rank


class Workers:
    """Threads by kind, started when a job needs one; daemons, so that a run that never returns cannot hold the exit up."""

    def __init__(self, call_soon_threadsafe: Callable[..., Any]) -> None:
        self._call_soon_threadsafe = call_soon_threadsafe
        self._crews: dict[str, _Crew] = {}
        self._numbers = count()
        self.threads = 1
        self.lowest: int | None = None

    def configure(self, threads: int, lowest: int | None) -> None:
        """So many threads for the CPU. `lowest`: jobs of this priority leave one of them free for those above; None: all jobs are
        alike."""
        self.threads, self.lowest = threads, lowest
        if CPU in self._crews:
            self._crews[CPU].configure(threads, lowest)

    def submit(self, kind: str, work: Callable[[], Any], done: Callable[[Any], None], priority: int = 0) -> None:
        """Calls `work()` on a thread of `kind`, then `done(outcome)` on the loop; what `work` raises is raised there."""
        crew = self._crews.get(kind)
        if crew is None:
            crew = self._crews[kind] = self._new(kind)
        crew.submit(Job(-priority, next(self._numbers), work, done))

    def close(self, timeout_s: float = 0.0) -> bool:
        """Ends the threads after their jobs; waits `timeout_s` for each. Returns whether all have ended."""
        ended = [crew.close(timeout_s) for crew in self._crews.values()]
        if all(ended):
            self._crews.clear()
        return all(ended)

    def _new(self, kind: str) -> _Crew:
        crew = _Crew(kind, self._call_soon_threadsafe)
        if kind == CPU:
            crew.configure(self.threads, self.lowest)
        return crew


class _Crew:
    """The threads of one kind, and the jobs that wait for one. `submit` and `configure` are called on the loop."""

    def __init__(self, kind: str, reply: Callable[..., Any]) -> None:
        self._kind = kind
        self._reply = reply
        self._limit = 1
        self._lowest: int | None = None
        self._is_closing = False
        self._lock = threading.Lock()
        self._waiting: list[Job] = []  # a heap
        self._running: list[int] = []  # priorities
        self._idle: list[SimpleQueue[Job | None]] = []
        self._threads: list[threading.Thread] = []

    def configure(self, limit: int, lowest: int | None) -> None:
        with self._lock:
            self._limit, self._lowest = limit, lowest
            while len(self._threads) > limit and self._idle:
                self._idle.pop().put(None)
            while (job := self._pop()) is not None:
                self._hand_out(job)

    def submit(self, job: Job) -> None:
        with self._lock:
            heappush(self._waiting, job)
            if (first := self._pop()) is not None:
                self._hand_out(first)

    def close(self, timeout_s: float) -> bool:
        with self._lock:
            self._is_closing = True
            threads = list(self._threads)
            for queue in self._idle:
                queue.put(None)
            self._idle.clear()
        for thread in threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in threads)

    def _pop(self) -> Job | None:
        """The next job, if it may run beside those that do: it counts as running then."""
        if not self._waiting or len(self._running) >= self._limit:
            return None
        priority = self._waiting[0].priority
        if self._is_low(priority) and sum(map(self._is_low, self._running)) >= max(1, self._limit - 1):
            return None
        self._running.append(priority)
        return heappop(self._waiting)

    def _is_low(self, priority: int) -> bool:
        return self._lowest is not None and priority <= self._lowest

    def _hand_out(self, job: Job) -> None:
        if self._idle:
            self._idle.pop().put(job)
            return
        number = len(self._threads) + 1
        thread = threading.Thread(target=self._serve, args=(job,), name=f"model-{self._kind}-{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, job: Job | None) -> None:
        queue: SimpleQueue[Job | None] = SimpleQueue()
        while job is not None:
            try:
                outcome, done = job.work(), job.done
            except Exception as e:
                done, outcome = _raise, e
            # before the loop hears of it, which may have the next job: else that starts a thread
            self._stand_by(job.priority, queue)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody is left to tell
                self._reply(done, outcome)
            del job, done, outcome  # an idle thread must not keep a retired model in memory
            job = queue.get()
        with self._lock:
            if threading.current_thread() in self._threads:
                self._threads.remove(threading.current_thread())

    def _stand_by(self, done: int, queue: SimpleQueue[Job | None]) -> None:
        """A job of the priority `done` is over: the next one that may run goes into the thread's queue, at once or when it comes;
        None: the thread ends."""
        with self._lock:
            self._running.remove(done)
            if (job := self._pop()) is not None:
                queue.put(job)
            elif self._is_closing or len(self._threads) > self._limit:
                self._threads.remove(threading.current_thread())
                queue.put(None)
            else:
                self._idle.append(queue)


def _raise(error: Exception) -> None:
    raise error
