"""The only way in which a test waits for time itself, and says why. What it waits for is otherwise a fact: `until`."""

from __future__ import annotations

import asyncio
import time


def pause(seconds: float, why: str) -> None:
    assert why
    time.sleep(max(0.0, seconds))


async def pause_on_loop(seconds: float, why: str) -> None:
    assert why
    await asyncio.sleep(max(0.0, seconds))
