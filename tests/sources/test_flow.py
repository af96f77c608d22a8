import asyncio

import pytest

from edged.sources.flow import Flow


async def test_opens_with_the_last_release() -> None:
    flow = Flow()
    assert flow.is_open
    await flow.wait()
    flow.hold()
    flow.hold()
    waiting = asyncio.create_task(flow.wait())
    flow.release()
    await asyncio.sleep(0)
    assert not flow.is_open
    assert not waiting.done()
    flow.release()
    await waiting
    assert flow.is_open


async def test_a_flow_held_again_before_the_waiter_runs_keeps_it_waiting() -> None:
    flow = Flow()
    flow.hold()
    waiting = asyncio.create_task(flow.wait())
    await asyncio.sleep(0)
    flow.release()
    flow.hold()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    flow.release()
    await waiting


def test_letting_go_twice_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        Flow().release()
