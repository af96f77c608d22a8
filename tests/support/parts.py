"""What a source is built with, for tests that build one by itself."""

from __future__ import annotations

from edged.clock.clock import Clock
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Parts
from edged.stamp import KeyTable, Stamper, Thinning
from edged.system.hang_recorder import Stages


def parts_of(name: str, keys: KeyTable | None, stamper: Stamper, early: Thinning | None = None) -> Parts:
    clock = Clock()
    return Parts(stamper, Flow(), SourceCounts(name), clock, Stages(clock.now), keys, early=early)
