"""A coroutine driven step by step: what it does between two awaits is a stage of the loop, so that who holds it is known.

Tasks that a behaviour makes itself (task groups, `asyncio.create_task`) are driven in the same way, and end with it.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

PATIENCE = 3
"""So many awaits somebody who is ended may go on for, to clean up."""


class Owner(Protocol):
    """Whose steps they are."""

    is_over: bool

    def step(self, call: Callable[[Any], Any], value: Any) -> Any:
        """Calls it, as a stage."""

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """It made a task of its own."""


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


async def driven(work: Coroutine[Any, Any, T], owner: Owner) -> T:
    """What `work` returns. Once its owner is over it is cancelled at its next await, and left where it does not listen."""
    found: T = await _stepped(work, owner)
    return found


@types.coroutine
def _stepped(work: Coroutine[Any, Any, Any], owner: Owner) -> Generator[Any, Any, Any]:
    value: Any = None
    error: BaseException | None = None
    ignored = 0
    while True:
        try:
            awaited = owner.step(work.send, value) if error is None else owner.step(work.throw, error)
        except StopIteration as end:
            return end.value
        except (SystemExit, KeyboardInterrupt) as end:  # asyncio would end the daemon with it
            raise RuntimeError(f"it tried to end the process ({type(end).__name__})") from end
        value = error = None
        if owner.is_over:
            ignored += 1
            if ignored > PATIENCE:
                raise asyncio.CancelledError
            error = asyncio.CancelledError()
            continue
        try:
            value = yield awaited
        except BaseException as thrown:
            error = thrown


def install(loop: asyncio.AbstractEventLoop) -> None:
    """From here on tasks that behaviours make are known to them."""
    if loop.get_task_factory() is None:
        loop.set_task_factory(_make_task)


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **facts: Any) -> asyncio.Task[Any]:
    owner = OWNER.get()
    if owner is None:
        return asyncio.Task(work, loop=loop, **facts)
    task = asyncio.Task(driven(work, owner), loop=loop, **facts)
    owner.adopt(task)
    return task
