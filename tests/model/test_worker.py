from __future__ import annotations

import asyncio
import threading
from typing import Any

from edged.model.worker import Workers


async def test_work_is_done_elsewhere_and_the_outcome_comes_back() -> None:
    workers = Workers(asyncio.get_running_loop().call_soon_threadsafe)
    assert workers.close()
    outcome: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    workers.submit(
        "cpu", lambda: threading.current_thread().name, lambda name: outcome.set_result((name, threading.current_thread().name))
    )
    there, here = await asyncio.wait_for(outcome, 10)
    assert (there, here) == ("model-cpu-1", "MainThread")
    assert workers.close(10)
    assert not [t for t in threading.enumerate() if t.name.startswith("model-")]


async def test_kinds_run_side_by_side_and_one_kind_in_order() -> None:
    loop = asyncio.get_running_loop()
    workers = Workers(loop.call_soon_threadsafe)
    gate, order, done = threading.Event(), list[str](), asyncio.Event()

    def note(name: Any) -> None:
        order.append(name)
        if len(order) == 3:
            done.set()

    workers.submit("cpu", lambda: gate.wait(10) and "first", note)
    workers.submit("cpu", lambda: "second", note)

    def let_it_go() -> str:
        gate.set()
        return "other"

    workers.submit("gpu", let_it_go, note)
    await asyncio.wait_for(done.wait(), 10)
    assert order.index("first") < order.index("second")
    assert workers.close(10)


async def test_what_work_raises_is_raised_on_the_loop() -> None:
    loop = asyncio.get_running_loop()
    caught: asyncio.Future[BaseException] = loop.create_future()
    loop.set_exception_handler(lambda _, context: caught.set_result(context["exception"]))
    workers = Workers(loop.call_soon_threadsafe)
    workers.submit("cpu", lambda: 1 // 0, print)
    assert isinstance(await asyncio.wait_for(caught, 10), ZeroDivisionError)
    assert workers.close(10)


def test_the_job_that_follows_from_an_outcome_needs_no_other_thread() -> None:
    """Though there may be two, and the loop is quick: it has the next job before the thread has waited for one."""
    names: list[str] = []
    ended = threading.Event()
    workers = Workers(lambda done, outcome: done(outcome))
    workers.configure(2, None)

    def submit() -> None:
        workers.submit("cpu", lambda: threading.current_thread().name, note)

    def note(name: str) -> None:
        names.append(name)
        if len(names) < 20:
            submit()
        else:
            ended.set()

    submit()
    assert ended.wait(10)
    assert set(names) == {"model-cpu-1"}
    assert workers.close(10)


def test_a_reply_to_a_closed_loop_is_dropped() -> None:
    loop = asyncio.new_event_loop()
    workers = Workers(loop.call_soon_threadsafe)
    loop.close()
    workers.submit("cpu", lambda: None, print)
    assert workers.close(10)


class Gates:
    """Jobs that run until they are let go. `begun` has them in the order in which they began."""

    def __init__(self, workers: Workers) -> None:
        self.begun: list[str] = []
        self.open: dict[str, threading.Event] = {}
        self._workers = workers
        self._changed = threading.Condition()
        self.ended = 0

    def submit(self, name: str, priority: int = 0) -> None:
        self.open[name] = threading.Event()
        self._workers.submit("cpu", lambda: self._run(name), lambda _: None, priority)

    def _run(self, name: str) -> None:
        with self._changed:
            self.begun.append(name)
            self._changed.notify_all()
        assert self.open[name].wait(10)
        with self._changed:
            self.ended += 1
            self._changed.notify_all()

    def await_begun(self, *names: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= len(names), 10)
        assert self.begun == [*names]

    def let_go(self, *names: str) -> None:
        for name in names:
            self.open[name].set()


def as_now(work: Any, outcome: Any) -> None:
    work(outcome)


def test_any_job_runs_on_any_thread_and_no_more_than_there_are() -> None:
    workers = Workers(as_now)
    workers.configure(2, None)
    gates = Gates(workers)
    gates.submit("a")
    gates.await_begun("a")
    gates.submit("b")
    gates.await_begun("a", "b")
    gates.submit("c")
    gates.submit("d", priority=1)
    gates.await_begun("a", "b")  # both threads are taken
    gates.let_go("a")
    gates.await_begun("a", "b", "d")  # the higher priority first
    gates.let_go("d")
    gates.await_begun("a", "b", "d", "c")
    gates.let_go("b", "c")
    assert workers.close(10)
    assert gates.ended == 4


def test_one_thread_stays_free_for_those_above_the_lowest() -> None:
    workers = Workers(as_now)
    workers.configure(2, lowest=0)
    gates = Gates(workers)
    gates.submit("slow")
    gates.submit("slow too")
    gates.await_begun("slow")
    gates.submit("urgent", priority=5)
    gates.await_begun("slow", "urgent")
    gates.let_go("urgent")
    gates.submit("urgent again", priority=5)
    gates.await_begun("slow", "urgent", "urgent again")
    gates.let_go("slow", "urgent again")
    gates.await_begun("slow", "urgent", "urgent again", "slow too")
    gates.let_go("slow too")
    assert workers.close(10)


def test_a_single_thread_is_for_everybody() -> None:
    workers = Workers(as_now)
    workers.configure(1, lowest=0)
    gates = Gates(workers)
    gates.submit("slow")
    gates.await_begun("slow")
    gates.submit("slow too")
    gates.submit("urgent", priority=1)
    gates.let_go("slow", "urgent", "slow too")
    assert workers.close(10)
    assert gates.begun == ["slow", "urgent", "slow too"]


def test_more_threads_take_what_waits_and_fewer_end_when_they_are_done() -> None:
    workers = Workers(as_now)
    gates = Gates(workers)
    for name in "abc":
        gates.submit(name)
    gates.await_begun("a")
    workers.configure(3, None)
    gates.await_begun("a", "b", "c")
    workers.configure(1, None)
    gates.let_go("a", "b")
    gates.submit("d")
    gates.await_begun("a", "b", "c")  # the one thread that is left is taken
    gates.let_go("c", "d")
    assert workers.close(10)
    assert gates.begun == ["a", "b", "c", "d"]
    assert not [t for t in threading.enumerate() if t.name.startswith("model-")]


def test_threads_that_wait_end_when_there_are_to_be_fewer() -> None:
    workers = Workers(as_now)
    workers.configure(2, None)
    gates = Gates(workers)
    gates.submit("a")
    gates.submit("b")
    gates.await_begun("a", "b")
    gates.let_go("a", "b")
    workers.configure(1, None)
    gates.submit("c")
    gates.submit("d")
    gates.await_begun("a", "b", "c")
    gates.let_go("c", "d")
    assert workers.close(10)
    assert gates.begun == ["a", "b", "c", "d"]
