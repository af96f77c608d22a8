import asyncio

import pytest

from edged.clock.timed_event import TimedEvent


async def test_it_is_seen_when_it_comes_and_not_waited_for_for_ever() -> None:
    news = TimedEvent()
    assert not await news.wait(0.001)
    assert not await news.wait(0)
    asyncio.get_running_loop().call_soon(news.set)
    assert await news.wait(10)
    assert news.is_set()
    assert await news.wait(10)
    news.clear()
    assert not await news.wait(0.001)


async def test_a_cancellation_that_comes_with_the_news_is_not_lost() -> None:
    news = TimedEvent()
    task = asyncio.ensure_future(news.wait(10))
    await asyncio.sleep(0)
    news.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
