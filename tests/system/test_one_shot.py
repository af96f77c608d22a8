import asyncio
import threading
from typing import Any

import pytest

from edged.system.one_shot import Few, in_one_shot_thread
from tests.support.ptys import IDLE_THREADS, LOOPS, until


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_gives_the_result_or_the_error_and_leaves_no_thread(run: Any) -> None:
    def fail() -> int:
        raise ValueError("no")

    async def main() -> None:
        assert await in_one_shot_thread("one", lambda: 1, lambda _: None) == 1
        with pytest.raises(ValueError, match="no"):
            await in_one_shot_thread("two", fail, lambda _: None)
        await until(lambda: threading.active_count() == IDLE_THREADS)

    run(main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration()])
def test_what_would_end_a_loop_is_an_error_like_any_other(run: Any, error: BaseException) -> None:
    def fail() -> int:
        raise error

    async def main() -> None:
        with pytest.raises(RuntimeError, match=f"one: {type(error).__name__}"):
            await in_one_shot_thread("one", fail, lambda _: None)
        await until(lambda: threading.active_count() == IDLE_THREADS)

    run(main())


@pytest.mark.parametrize("is_early", [True, False])
def test_what_nobody_waits_for_any_more_is_discarded_once(run: Any, is_early: bool) -> None:
    async def main() -> None:
        go = threading.Event()
        discarded: list[str] = []

        def work() -> str:
            go.wait(5)
            return "port"

        waiting = asyncio.create_task(in_one_shot_thread("one", work, discarded.append))
        await asyncio.sleep(0)
        if not is_early:
            go.set()
            await until(lambda: threading.active_count() == IDLE_THREADS or waiting.done())
        waiting.cancel()
        await asyncio.wait([waiting])
        go.set()
        await until(lambda: discarded or not waiting.cancelled())
        assert len(discarded) == (1 if waiting.cancelled() else 0)

    run(main())


async def test_a_loop_that_ended_first_discards_too() -> None:
    go, discarded = threading.Event(), list[str]()

    def work() -> str:
        go.wait(5)
        return "port"

    def one_loop() -> None:
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(in_one_shot_thread("one", work, discarded.append))
        loop.call_soon(waiting.cancel)
        loop.run_until_complete(asyncio.wait([waiting]))
        loop.close()

    outside = threading.Thread(target=one_loop)
    outside.start()
    outside.join()
    go.set()
    await until(lambda: discarded == ["port"])


async def test_few_at_a_time() -> None:
    few, inside, seen = Few(2, 60.0), 0, []

    async def work() -> None:
        nonlocal inside
        async with few:
            inside += 1
            seen.append(inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert len(seen) == 20
    assert max(seen) == 2


async def test_one_that_hangs_or_gives_up_keeps_nobody_out() -> None:
    few, done = Few(1, 0.01), asyncio.Event()

    async def hang() -> None:
        async with few:
            await done.wait()

    hung, given_up = asyncio.ensure_future(hang()), asyncio.ensure_future(hang())
    await asyncio.sleep(0)
    given_up.cancel()
    async with few:
        assert not hung.done()
    done.set()
    await hung
