from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from edged.model.worker import SWITCH_S, Workers


async def test_work_is_done_elsewhere_and_the_outcome_comes_back() -> None:
    workers = Workers(asyncio.get_running_loop().call_soon_threadsafe)
    before = sys.getswitchinterval()
    assert workers.close()
    outcome: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    workers.submit(
        "cpu", lambda: threading.current_thread().name, lambda name: outcome.set_result((name, threading.current_thread().name))
    )
    there, here = await asyncio.wait_for(outcome, 10)
    assert (there, here) == ("model-cpu", "MainThread")
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    assert workers.close(10)
    assert sys.getswitchinterval() == pytest.approx(before)
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


def test_a_reply_to_a_closed_loop_is_dropped() -> None:
    loop = asyncio.new_event_loop()
    workers = Workers(loop.call_soon_threadsafe)
    loop.close()
    workers.submit("cpu", lambda: None, print)
    assert workers.close(10)
