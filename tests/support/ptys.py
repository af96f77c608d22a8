"""A sensor on a real pseudo-terminal, and both loops to read it with."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from tests.support.pause import pause_on_loop

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

LOOPS: dict[str, Run[Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
uvloop.run(asyncio.sleep(0))  # the first of its loops opens descriptors that stay
IDLE_THREADS = threading.active_count()  # pytest-xdist has one of its own


class Pty:
    """The sensor's end is held here, the other is at `path`."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        self.path = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self.master, False)

    def write(self, data: bytes) -> None:
        """All of it at once; the terminal holds about 4 KB."""
        assert os.write(self.master, data) == len(data)

    async def send(self, data: bytes) -> None:
        """All of it, as fast as it is read."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.master, view) :]
            except BlockingIOError:
                await asyncio.sleep(0)

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    """Waits for something to become true; raises TimeoutError if it does not."""

    async def look() -> None:
        while not condition():
            await pause_on_loop(0.001, "between two looks")

    await asyncio.wait_for(look(), limit_s)


async def turns(count: int) -> None:
    """Lets the loop look at its descriptors so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
