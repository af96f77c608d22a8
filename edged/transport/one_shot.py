"""Work that blocks, in a thread that ends with it: an executor's threads would stay for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_one_shot_thread(name: str, work: Callable[[], T], discard: Callable[[T], None]) -> T:
    """What `work` returns, done in a thread that ends with it. If cancelled meanwhile, the result goes to `discard`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            if result is not None:
                discard(result)
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as e:
            error = e
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:  # the loop ended first
            if result is not None:
                discard(result)

    threading.Thread(target=body, name=name, daemon=True).start()
    try:
        return await done
    except asyncio.CancelledError:
        if done.done() and not done.cancelled() and done.exception() is None:
            discard(done.result())
        raise
