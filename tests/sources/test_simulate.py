import asyncio

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.config.schema import SimulateSource as Settings
from edged.records import Block
from edged.sources import simulation
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.simulate import SKIP_NS, SimulateSource
from tests.support.pause import pause_on_loop

RATE = 2000.0


def make(flow: Flow, clock: Clock, kind: str = "vibration", rate: float = RATE, dtype: str = "float32") -> SimulateSource:
    settings = Settings(signal=kind, seed=5, rate=rate)  # type: ignore[arg-type]
    return SimulateSource("accel", settings, flow, SourceCounts("accel"), clock, dtype)


async def take(source: SimulateSource, count: int) -> list[Block]:
    blocks: list[Block] = []
    enough = asyncio.Event()

    def push(block: Block) -> None:
        blocks.append(block)
        if len(blocks) >= count:
            enough.set()

    running = asyncio.create_task(source.run(push))
    await asyncio.wait_for(enough.wait(), 10)
    running.cancel()
    await asyncio.wait([running])
    return blocks


@pytest.mark.parametrize("kind", simulation.SIGNALS)
async def test_values_are_those_of_the_seed_and_times_do_not_drift(kind: str) -> None:
    clock = Clock()
    source = make(Flow(), clock, kind)
    before = clock.now()
    blocks = await take(source, 4)
    expected = simulation.blocks(kind, 5, RATE, 100)
    for block in blocks:
        np.testing.assert_array_equal(block.values, next(expected))
        assert block.arrival >= int(block.time[-1]) >= before
    times = np.concatenate([b.time for b in blocks])
    np.testing.assert_allclose(times - times[0], np.arange(len(times)) * 1e9 / RATE, atol=1)
    assert abs(blocks[0].time[0] + blocks[0].offset - clock.utc()) < 60 * 10**9
    assert source.state == "running"
    assert source.counts.rows == source.counts.read == 100 * len(blocks)
    assert source.counts.balance() == 0


async def test_slow_rates_come_row_by_row_and_in_the_dtype_asked_for() -> None:
    blocks = await take(make(Flow(), Clock(), rate=15.0, dtype="float64"), 2)
    assert [len(b) for b in blocks] == [1, 1]
    assert blocks[0].values.dtype == np.float64


async def test_a_held_flow_stops_it() -> None:
    flow = Flow()
    flow.hold()
    source = make(flow, Clock())
    blocks: list[Block] = []
    running = asyncio.create_task(source.run(blocks.append))
    await pause_on_loop(0.15, "samples would have come by now")
    assert blocks == []
    flow.release()
    running.cancel()
    await asyncio.wait([running])


async def test_time_slept_through_is_left_out() -> None:
    class Jumping(Clock):
        jump = 0

        def now(self) -> int:
            return Clock.now() + self.jump

    clock = Jumping()
    source = make(Flow(), clock)
    blocks: list[Block] = []
    jumped = asyncio.Event()

    def push(block: Block) -> None:
        blocks.append(block)
        if len(blocks) == 2:
            clock.jump = 100 * SKIP_NS  # the machine was suspended
        if len(blocks) == 4:
            jumped.set()

    running = asyncio.create_task(source.run(push))
    await asyncio.wait_for(jumped.wait(), 10)
    running.cancel()
    await asyncio.wait([running])
    assert int(blocks[2].time[0] - blocks[1].time[-1]) > 99 * SKIP_NS
    assert int(blocks[3].time[0] - blocks[2].time[-1]) == pytest.approx(1e9 / RATE, abs=2)
