"""What `edged learn` learns from: the windows of one source, live or from a recording, made by the same code as in the daemon."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.commands.loop import on_loop, until_stopped
from edged.config.load import Draft
from edged.config.schema import Pipeline, Window
from edged.daemon.one_source import OneSource, alone
from edged.daemon.prepare import Prepared, prepare_draft
from edged.errors import Fatal
from edged.learn.rounds import Heard
from edged.notation.values import Span
from edged.notation.words import duration
from edged.pipeline.window import WindowStage
from edged.plan.records import PipelinePlan, SourcePlan
from edged.records import Block
from edged.system.process import complain

PIPELINE = "learn"
MIN_WINDOWS = 60
"""Of fewer, nothing can be learned."""
MAX_BYTES = 256 << 20
"""Of windows in memory; when there are more, every second one is left out."""
SAY_EVERY_S = 10.0


def default_size(rate: float | None) -> int:
    """Samples of a window: about half a second of a fast sensor; of a slow one, or one without a rate, each sample by itself."""
    if rate is None or rate < 16:
        return 1
    return int(min(8192, max(16, 2 ** round(math.log2(rate / 2)))))


class Collector:
    """Keeps the windows of a source, at most MAX_BYTES of them (but MIN_WINDOWS), from the whole time alike."""

    def __init__(self, source: SourcePlan, pipeline: PipelinePlan) -> None:
        assert pipeline.window is not None
        self.source, self.pipeline = source, pipeline
        w = pipeline.window
        self._stage = WindowStage(w.size, w.hop, w.gap_ns, pipeline.width, pipeline.max_keys, pipeline.dtype)
        self._windows: list[NDArray[np.float32]] = []
        self._keys: list[int] = []
        self._times: list[int] = []
        self._most = max(MIN_WINDOWS, MAX_BYTES // (4 * w.size * pipeline.width))
        self._every = 1
        self._due = 0
        self.samples = 0
        self.names: dict[int, str] = {}
        self.rejected: dict[str, int] = {}

    def push(self, block: Block) -> None:
        self.samples += len(block)
        self._stage.push(block, self._take)

    def _take(self, window: NDArray[Any], key: int, time: int, arrival: int, degraded: bool) -> None:
        self._due += 1
        if degraded or self._due % self._every or not np.isfinite(window).all():
            return
        self._windows.append(window.astype(np.float32))
        self._keys.append(key)
        self._times.append(time)
        if len(self._windows) >= self._most:
            self._windows, self._keys, self._times = self._windows[::2], self._keys[::2], self._times[::2]
            self._every *= 2

    @property
    def count(self) -> int:
        return len(self._windows)

    def heard(self) -> Heard:
        """All that was kept."""
        return Heard(np.array(self._windows), self._keys, self._times, self.names, self.samples)


def listen(draft: Draft, source: str, recording: Path | None, seconds: float, size: int, by_key: bool) -> Collector:
    """Listens to the source for this long, or plays the recording to its end. Raises Fatal."""
    window = Window(size=Span(samples=size), hop=Span(samples=max(1, size // 2)))
    prepared = prepare_draft(
        alone(draft, source, {PIPELINE: Pipeline(source=(source,), publish=(), window=window)}, recording), False
    )
    if by_key and not prepared.plan.sources[source].key_names:
        raise Fatal(f"source.{source}: has no keys, so --by-key has nothing to tell apart")
    collector = Collector(prepared.plan.sources[source], prepared.plan.pipelines[PIPELINE])
    on_loop(_run(prepared, source, recording, collector, seconds))
    return collector


async def _run(prepared: Prepared, source: str, recording: Path | None, collector: Collector, seconds: float) -> None:
    one = OneSource(prepared, {}, source, recording, push=[collector.push], keeps_consumers=False)
    until = seconds if recording is None else None
    await until_stopped(one.run(), _tell(one, collector, until), until)
    collector.rejected = dict(one.assembly.sources[source].counts.drops.by_reason)
    collector.names = {key: one.key(key) for key in set(collector.heard().keys)}


async def _tell(one: OneSource, collector: Collector, seconds: float | None) -> None:
    """Says what is wrong with the source as long as nothing comes, and how far it is, on a terminal."""
    started, before, said = time.monotonic(), ("", ""), -SAY_EVERY_S
    while True:
        await asyncio.sleep(1.0)
        condition, passed = one.condition, time.monotonic() - started
        if condition != before and condition[1] and condition[0] not in ("running", "connected", "finished"):
            complain(f"{condition[0]}: {condition[1]}; waiting")
        before = condition
        if sys.stderr.isatty() and passed - said >= SAY_EVERY_S:
            said = passed
            of = f" of {duration(int(seconds * 1e9))}" if seconds is not None else ""
            complain(f"{passed:.0f} s{of}: {collector.samples} samples, {collector.count} windows")


def together(heard: Sequence[Heard]) -> Heard:
    """Several recordings, one after the other: keys by name, so that one key is the same in all."""
    if len(heard) == 1:
        return heard[0]
    ids: dict[str, int] = {}
    keys: list[int] = []
    times: list[int] = []
    end = 0
    for one in heard:
        first = one.times[0] if one.times else 0
        keys += [ids.setdefault(one.names[key], len(ids)) for key in one.keys]
        times += [end + t - first for t in one.times]
        end = times[-1] if times else 0
    windows = np.concatenate([one.windows for one in heard if len(one.keys)])
    return Heard(windows, keys, times, {number: name for name, number in ids.items()}, sum(one.samples for one in heard))
