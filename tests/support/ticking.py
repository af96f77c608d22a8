"""Ticks of the sampler of processor time at chosen places, instead of whenever they come."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest

from edged.clock.spent import LoopTime


def tick_within(monkeypatch: pytest.MonkeyPatch, ns: int, *places: tuple[Any, str]) -> None:
    """Has each of these functions, of a module or class, take so much processor time and one tick each time it is called."""
    readings = itertools.count(0, ns)
    loop = LoopTime(lambda: next(readings))

    def ticking(work: Any) -> Any:
        def tick(*arguments: Any, **named: Any) -> Any:
            loop.tick(sys._getframe())
            return work(*arguments, **named)

        return tick

    for owner, name in places:
        monkeypatch.setattr(owner, name, ticking(getattr(owner, name)))
