import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.daemon.supervisor import supervise
from edged.errors import Retryable
from edged.records import Block

BLOCK = Block(np.zeros((1, 1), np.float32), np.zeros(1, np.int64), 0, 0)


class Source:
    """Does what the script says, one entry a life: fail, end, break or stay."""

    name = "s"

    def __init__(self, *script: str) -> None:
        self._script = list(script)
        self.lives = 0
        self.born = asyncio.Event()

    async def run(self, push: Callable[[Block], None]) -> None:
        step = self._script[self.lives]
        self.lives += 1
        self.born.set()
        push(BLOCK)
        if step == "fail":
            raise Retryable("missing", "not there")
        if step == "break":
            raise ValueError("a bug")
        if step == "stay":
            await asyncio.Event().wait()


async def test_a_source_that_goes_away_is_tried_again_and_its_end_is_the_end() -> None:
    got: list[Block] = []
    source = Source("fail", "fail", "end")
    await asyncio.wait_for(supervise(source, got.append, Clock()), 10)
    assert (source.lives, len(got)) == (3, 3)


async def test_a_bug_travels_on() -> None:
    with pytest.raises(ValueError, match="a bug"):
        await supervise(Source("break"), lambda block: None, Clock())


async def test_it_is_cancelled_while_it_runs_and_while_it_waits() -> None:
    for source in (Source("stay"), Source(*["fail"] * 50, "stay")):
        task = asyncio.get_running_loop().create_task(supervise(source, lambda block: None, Clock()))
        await asyncio.wait_for(source.born.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_failing_at_once_for_ever_does_not_spin() -> None:
    source = Source(*["fail"] * 10_000)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(supervise(source, lambda block: None, Clock()), 0.5)
    assert 1 <= source.lives <= 6
