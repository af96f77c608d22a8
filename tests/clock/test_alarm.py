from __future__ import annotations

import asyncio

from edged.clock.alarm import Alarm
from edged.clock.clock import Clock

MS = 10**6


async def test_it_rings_once_at_the_earliest_time_asked_for() -> None:
    clock, rung, order = Clock(), asyncio.Event(), []

    def ring() -> None:
        order.append(clock.now())
        rung.set()

    alarm = Alarm(ring, clock)
    soon = clock.now() + 20 * MS
    alarm.set(clock.now() + 10**12)
    alarm.set(soon)
    alarm.set(clock.now() + 10**12)
    await asyncio.wait_for(rung.wait(), 5)
    assert len(order) == 1
    assert order[0] >= soon - MS  # the loop's clock counts whole milliseconds


async def test_it_may_be_set_again_from_its_own_ring() -> None:
    clock, done, count = Clock(), asyncio.Event(), 0

    def ring() -> None:
        nonlocal count
        count += 1
        if count == 3:
            done.set()
        else:
            alarm.set(clock.now())

    alarm = Alarm(ring, clock)
    alarm.set(0)
    await asyncio.wait_for(done.wait(), 5)
    assert count == 3
