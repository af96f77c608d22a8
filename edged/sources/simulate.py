"""A made-up sensor: a signal of `edged.signal`, paced on the loop as a real one would be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.clock.clock import Clock
from edged.config import schema
from edged.records import Block, Field
from edged.sources import simulation
from edged.sources.counts import Arrival, SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Kind, Parts, Planned

BLOCK_S = 0.05
UNIT = "m/s2"
SKIP_NS = 10**9  # later than this, the time that was slept through is left out, not caught up


class SimulateSource:
    """Row i is taken at the start + i / rate, to the nanosecond; the same seed gives the same values."""

    def __init__(
        self,
        name: str,
        settings: schema.SimulateSource,
        flow: Flow,
        counts: SourceCounts,
        clock: Clock,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.name = name
        self.counts = counts
        self.state = "connecting"
        self.reason = ""
        self._settings = settings
        self._flow = flow
        self._clock = clock
        self._dtype = dtype

    async def run(self, push: Callable[[Block], None]) -> None:
        rate = self._settings.rate
        assert rate is not None, "the plan asks for the rate of a simulated source"
        count = max(1, round(rate * BLOCK_S))
        counts, clock = self.counts, self._clock
        counts.opens += 1
        self.state = "running"
        start, done = clock.now(), 0
        for values in simulation.blocks(self._settings.signal, self._settings.seed, rate, count):
            due = start + int((done + count - 1) * 1e9 / rate)
            await asyncio.sleep(max(0.0, (due - clock.now()) / 1e9))
            if not self._flow.is_open:
                await self._flow.wait()
            now = clock.now()
            if now - due > SKIP_NS:
                start += now - due
            times = start + (np.arange(done, done + count) * (1e9 / rate)).astype(np.int64)
            done += count
            if counts.watch.on_data:
                counts.watch.decodes(Arrival(as_lines(values), now))
            counts.bytes += values.nbytes
            counts.read += count
            counts.rows += count
            counts.last_arrival = now
            push(Block(values.astype(self._dtype, copy=False), times, clock.offset(), now))


def as_lines(values: NDArray[Any]) -> bytes:
    """Samples as a sensor on a serial port would send them: csv."""
    return "".join(",".join(f"{v:.6g}" for v in row) + "\n" for row in values.tolist()).encode()


def build(plan: Planned, parts: Parts) -> SimulateSource:
    return SimulateSource(plan.name, plan.settings, parts.flow, parts.counts, parts.clock, plan.dtype)


def describe(plan: Planned) -> str:
    return f"simulated {plan.settings.signal}"


FIELDS = tuple(Field(name, i, i + 1, (), UNIT) for i, name in enumerate(simulation.FIELDS))
KIND = Kind(schema.SimulateSource, build, describe, made=lambda _: FIELDS, is_played=True, recorded="serial")
