from __future__ import annotations

import asyncio
import time

from edged.system.one_shot import in_one_shot_thread
from edged.testing.virtual import BEGIN_NS, BEGIN_UTC_NS, VirtualClock, VirtualLoop, in_virtual_time


def test_a_day_takes_no_time() -> None:
    loop = VirtualLoop()
    clock = VirtualClock(loop)

    async def day() -> list[int]:
        seen = []
        for _ in range(24):
            await asyncio.sleep(3600)
            seen.append(clock.now())
        return seen

    began = time.monotonic()
    seen = in_virtual_time(day(), loop)
    assert time.monotonic() - began < 3600
    assert [round((now - BEGIN_NS) / 3.6e12, 6) for now in seen] == list(range(1, 25))
    assert clock.utc() - BEGIN_UTC_NS == clock.now() - BEGIN_NS
    assert clock.is_synced()


def test_time_stands_still_while_a_thread_works() -> None:
    loop = VirtualLoop()

    async def work() -> float:
        asyncio.get_running_loop().call_later(3600, lambda: None)
        began = loop.time()
        assert await in_one_shot_thread("t", lambda: sum(range(1_000_000)), lambda _: None) == 499_999_500_000
        return loop.time() - began

    assert in_virtual_time(work(), loop) == 0
