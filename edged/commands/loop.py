"""How commands use the event loop: a coroutine run to its end, and work that goes on until somebody stops it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from edged.system.switching import quick_switches

T = TypeVar("T")
STOP = (signal.SIGINT, signal.SIGTERM)


def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a uvloop of its own."""
    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        with quick_switches():
            return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def stop_asked(seconds: float | None, signals: tuple[signal.Signals, ...] = STOP) -> asyncio.Event:
    """An event that one of the signals sets, or the end of `seconds`."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for one in signals:
        loop.add_signal_handler(one, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    return stop


async def until_stopped(
    work: Coroutine[Any, Any, None],
    beside: Coroutine[Any, Any, None],
    seconds: float | None,
    signals: tuple[signal.Signals, ...] = STOP,
) -> None:
    """Runs both until one of them ends, or until they are asked to stop. Raises what one of them raised."""
    loop = asyncio.get_running_loop()
    stop = stop_asked(seconds, signals)
    tasks = (loop.create_task(work, name="work"), loop.create_task(beside, name="beside"))
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())
    await stop.wait()
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
