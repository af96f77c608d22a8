"""Work that blocks, in a thread that ends with it: an executor's threads would stay for ever."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def start_one_shot_thread(name: str, work: Callable[[], T], discard: Callable[[T], None]) -> asyncio.Future[T]:
    """What `work` will return, done in a thread that ends with it. If the future is cancelled meanwhile, or the loop ends, the
    result goes to `discard`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def succeed(result: T) -> None:
        if done.cancelled():
            discard(result)
        else:
            done.set_result(result)

    def fail(error: BaseException) -> None:
        if not done.cancelled():
            # What is no Exception ends a thread, not the loop; and a future takes no StopIteration.
            is_usual = isinstance(error, Exception) and not isinstance(error, StopIteration)
            done.set_exception(error if is_usual else RuntimeError(f"{name}: {error!r}"))
            done.exception()  # seen: whoever waited may have given up

    def body() -> None:
        try:
            result = work()
        except BaseException as error:
            _tell(loop, partial(fail, error), lambda: None)
        else:
            _tell(loop, partial(succeed, result), partial(discard, result))

    threading.Thread(target=body, name=name, daemon=True).start()
    return done


async def in_one_shot_thread(name: str, work: Callable[[], T], discard: Callable[[T], None]) -> T:
    """What `work` returns, done in a thread that ends with it. If cancelled meanwhile, the result goes to `discard`."""
    done = start_one_shot_thread(name, work, discard)
    try:
        return await done
    except asyncio.CancelledError:
        if done.done() and not done.cancelled() and done.exception() is None:
            discard(done.result())
        raise


class Few:
    """`async with few:` lets in at most `most` at a time. Who has waited for `patience_s` goes in all the same: work that hangs
    must not keep all others out."""

    def __init__(self, most: int, patience_s: float) -> None:
        self._most = most
        self._patience_s = patience_s
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._inside >= self._most:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await asyncio.wait([turn], timeout=self._patience_s)
            finally:
                turn.cancel()
        self._inside += 1

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break


def _tell(loop: asyncio.AbstractEventLoop, news: Callable[[], None], otherwise: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(news)
    except RuntimeError:  # the loop ended first
        otherwise()
