"""Samples that waited for others (`lateness`) leave: they are counted as the stamper lets them go, and handed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edged.pipeline.fan_out import fan_out
from edged.records import Block
from edged.sources.counts import SourceCounts, times
from edged.stamp import Stamper


def let_out(stamper: Stamper, counts: SourceCounts, consumers: Sequence[Callable[[Block], object]], now: int | None) -> None:
    """Hands on what has waited long enough by now (None: all of it)."""
    try:
        block = released(stamper, counts, now)
    except Exception as error:  # a fault of ours: it costs what was let out
        counts.lose(error)
        return
    if block is not None:
        fan_out(consumers, counts.lose, block)


def released(stamper: Stamper, counts: SourceCounts, now: int | None) -> Block | None:
    """The block of samples that have waited for others (`lateness`) until now, counted; None: of all that wait."""
    block, rejects = stamper.release(now)
    counts.read += times(rejects) + (0 if block is None else len(block))
    if rejects:
        counts.reject(rejects)
    if block is not None:
        counts.rows += len(block)
    return block
